"""Win rates, the stand-in judge, the store of judgements, and alpaca_eval's annotators against a loopback endpoint."""

import json
import math
import random
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import outside
import pytest

from maple.core import storage
from maple.core.errors import MapleError
from maple.judging import judgements, judges, length_control
from maple.judging.judgements import Pair
from maple.metrics.win_rate import win_rate


def test_a_draw_counts_half_and_a_value_between_counts_as_it_is():
    assert win_rate([1, 0, 0.5, 0.25]).winrate == pytest.approx(0.4375)


def test_standard_error_is_that_of_the_mean():
    found = win_rate([1, 0, 0, 1])
    assert found.standard_error == pytest.approx((1 / 3) ** 0.5 / 2)


def test_published_win_rates_are_reachable_as_halves_over_n():
    assert round(100 * win_rate([1] * 197 + [0] * 608).winrate, 2) == 24.47


def test_no_preference_at_all_is_an_error_not_zero():
    with pytest.raises(MapleError, match="no win rate"):
        win_rate([])


def test_a_preference_outside_its_range_is_an_error():
    with pytest.raises(MapleError, match="1.5"):
        win_rate([0, 1.5])


# -- The stand-in judge ------------------------------------------------------------------------------------------------

ANSWERS = ["", "Paris", "The capital of France is Paris.", "the the the the the", "法国的首都是巴黎。", "!!!"]


@pytest.mark.parametrize("first", ANSWERS)
@pytest.mark.parametrize("second", ANSWERS)
def test_swapping_the_answers_gives_the_opposite_stand_in_preference(first, second):
    ask = judges.StandIn()
    there = ask(Pair("0", "What is the capital of France?", first, second))
    back = ask(Pair("0", "What is the capital of France?", second, first))
    assert there + back == 1


def test_the_stand_in_draws_equal_answers_and_prefers_substance_to_repetition():
    ask = judges.StandIn()
    assert ask(Pair("0", "Name a city", "Rome", "Rome")) == 0.5
    assert ask(Pair("0", "Name a city in France", "a a a a a a", "A city in France is Paris")) == 1.0
    assert ask(Pair("0", "Name a city in France", "Paris", "")) == 0.0


# -- JudgementStore and retries, with annotators made here -------------------------------------------------------------

PAIRS = [Pair(str(i), f"instruction {i}", "reference", f"output {i}") for i in range(4)]


class Scripted:
    """Answers each pair from a list: a preference, or an exception to raise."""

    name, workers = "scripted", 1

    def __init__(self, script):
        self.script = {key: list(values) for key, values in script.items()}
        self.asked = []

    def cost(self, pairs):
        return f"{len(pairs)} coins"

    def __call__(self, pair):
        self.asked.append(pair.id)
        answer = self.script[pair.id].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def run(tmp_path, script, pairs=PAIRS, said=None):
    ask, waits = Scripted(script), []
    store = judgements.JudgementStore(tmp_path / "store.jsonl")
    found = judges.judge(
        pairs,
        "scripted",
        42,
        store,
        say=(said if said is not None else []).append,
        wait=waits.append,
        make=lambda name, seed: ask,
    )
    return found, ask, waits


def test_a_failed_request_is_repeated_with_growing_pauses(tmp_path):
    rate_limit = judges.Undecided("rate limit", again=True)
    found, ask, waits = run(tmp_path, {"0": [rate_limit, rate_limit, 1.0], "1": [0.0], "2": [0.5], "3": [1.0]})
    assert found == {"0": 1.0, "1": 0.0, "2": 0.5, "3": 1.0}
    assert waits == [1.0, 2.0]


def test_what_stays_without_an_answer_is_missing_never_a_loss(tmp_path):
    never = [judges.Undecided("malformed", again=True)] * judges.ATTEMPTS
    refused = [judges.Undecided("filtered", again=False)]
    found, ask, waits = run(tmp_path, {"0": never, "1": [1.0], "2": refused, "3": [1.0]})
    assert found == {"0": None, "1": 1.0, "2": None, "3": 1.0}
    result = judgements.result("cell", "scripted", None, "text_davinci_003", 42, found)
    assert result["missing"] == ["0", "2"] and result["n"] == 2 and result["winrate"] == 1.0
    assert ask.asked.count("2") == 1  # a refusal is not repeated


def test_a_missing_judgement_is_asked_for_again_the_next_time_and_the_others_are_not(tmp_path):
    run(tmp_path, {"0": [judges.Undecided("filtered", again=False)], "1": [1.0], "2": [0.0], "3": [1.0]})
    found, ask, _ = run(tmp_path, {"0": [0.5]})
    assert ask.asked == ["0"] and found["0"] == 0.5 and found["3"] == 1.0


def test_a_complete_store_needs_no_judge(tmp_path):
    run(tmp_path, {str(i): [1.0] for i in range(4)})
    store = judgements.JudgementStore(tmp_path / "store.jsonl")
    found = judges.judge(PAIRS, "scripted", 42, store, make=lambda name, seed: pytest.fail("the judge was asked"))
    assert set(found.values()) == {1.0}


def test_the_cost_of_new_pairs_is_said_before_the_first_is_asked(tmp_path):
    said = []
    run(tmp_path, {str(i): [1.0] for i in range(4)}, said=said)
    assert said == ["4 of 4 pairs to judge by scripted: 4 coins"]


def test_an_endpoint_that_is_down_stops_the_stage_and_keeps_what_was_judged(tmp_path):
    pairs = [Pair(str(i), f"instruction {i}", "reference", "output") for i in range(20)]
    down = [judges.Undecided("connection refused", again=True)] * judges.ATTEMPTS
    script = {str(i): [1.0] if i == 0 else down for i in range(20)}
    with pytest.raises(MapleError, match="in a row") as error:
        run(tmp_path, script, pairs)
    assert "connection refused" in error.value.why
    assert len(judgements.JudgementStore(tmp_path / "store.jsonl").known) == 1


def test_another_output_seed_endpoint_or_annotator_is_another_judgement():
    pair = PAIRS[0]
    keys = {
        judgements.key_of(pair, "gpt4", None, 42),
        judgements.key_of(pair, "gpt4", None, 43),
        judgements.key_of(pair, "gpt4", "http://localhost:8000/v1", 42),
        judgements.key_of(pair, "claude", None, 42),
        judgements.key_of(Pair("0", pair.instruction, pair.reference, "else"), "gpt4", None, 42),
        judgements.key_of(Pair("0", pair.instruction, "else", pair.output), "gpt4", None, 42),
    }
    assert len(keys) == 6
    same = Pair("another id", pair.instruction, pair.reference, pair.output)
    assert judgements.key_of(same, "gpt4", None, 42) == judgements.key_of(pair, "gpt4", None, 42)


def test_an_endpoint_is_what_the_package_would_ask_and_the_stand_in_has_none(tmp_path, monkeypatch):
    for name in ("OPENAI_CLIENT_CONFIG_PATH", "OPENAI_API_BASE", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert judges.endpoint_of("alpaca_eval_gpt4") is None
    monkeypatch.setenv("OPENAI_CLIENT_CONFIG_PATH", "nowhere.yaml")  # which the package ignores
    for own in ("https://api.openai.com/v1", "https://api.openai.com/v1/"):
        monkeypatch.setenv("OPENAI_API_BASE", own)
        assert judges.endpoint_of("alpaca_eval_gpt4") is None
    for other in ("http://localhost:8000/v1", "http://localhost:8000/v1/", "http://user:secret@localhost:8000/v1"):
        monkeypatch.setenv("OPENAI_API_BASE", other)
        assert judges.endpoint_of("alpaca_eval_gpt4") == "http://localhost:8000/v1"
    (tmp_path / "clients.yaml").write_text("default: [{api_key: secret}]")
    monkeypatch.setenv("OPENAI_CLIENT_CONFIG_PATH", str(tmp_path / "clients.yaml"))
    assert re.fullmatch(r"clients [0-9a-f]{12}", judges.endpoint_of("alpaca_eval_gpt4"))
    assert judges.endpoint_of(judgements.STAND_IN) is None


def test_a_store_with_a_torn_last_line_goes_on_from_the_line_before(tmp_path):
    path = tmp_path / "store.jsonl"
    path.write_text('{"key": "a", "preference": 1.0}\n{"key": "b", "prefe')
    store = judgements.JudgementStore(path)
    store.add("c", 0.0)
    assert judgements.JudgementStore(path).known == {"a": 1.0, "c": 0.0}


BAD_LINES = [
    b"nonsense",
    b"\xff\xfe",
    b"[1]",
    b'{"key": "b"}',
    b'{"key": "b", "preference": 7}',
    b'{"key": [], "preference": 1}',
]


@pytest.mark.parametrize("bad", BAD_LINES, ids=repr)
def test_a_damaged_line_of_the_store_is_named(tmp_path, bad):
    (tmp_path / "store.jsonl").write_bytes(b'{"key": "a", "preference": 1.0}\n' + bad + b"\n")
    with pytest.raises(MapleError, match="line 2"):
        judgements.JudgementStore(tmp_path / "store.jsonl")


# -- The stage ---------------------------------------------------------------------------------------------------------


class FakeParams:
    def __init__(self, root, reference="text_davinci_003"):
        self.artifacts, self.work, self.pipeline = root / "artifacts", root / "work", "dvc.yaml"
        self.judge = type("Judge", (), {"annotator": "stand-in", "reference": reference, "seed": 42})


def answers(root, name, rows):
    storage.write_jsonl_gz(root / "artifacts" / "answers" / "grid" / name / "alpaca_eval-en.jsonl.gz", rows)


def source(root, generator="text_davinci_003"):
    rows = [
        {
            "instruction": f"Name {n} cities",
            "output": "Rome and Oslo",
            "generator": generator,
            "dataset": "helpful_base",
        }
        for n in ("two", "three")
    ]
    storage.write_json(root / "artifacts" / "sources" / "datasets" / "alpaca_eval" / "alpaca_eval.json", rows)


def test_the_stage_judges_every_model_and_labels_the_stand_in(tmp_path, capsys):
    from stages import judge

    source(tmp_path)
    answers(tmp_path, "b", [{"id": "0", "output": "Rome and Oslo"}, {"id": "1", "output": ""}])
    answers(tmp_path, "a", [{"id": "0", "output": "Two cities: name Rome, Oslo"}])
    judge.main(FakeParams(tmp_path), None)
    first = (tmp_path / "artifacts/judgements/b.json").read_bytes()
    result = json.loads(first)
    assert result["preferences"] == {"0": 0.5, "1": 0.0} and result["winrate"] == 0.25
    assert result["stand_in"] and result["annotator"] == "stand-in" and result["n"] == 2
    assert json.loads((tmp_path / "artifacts/judgements/a.json").read_text())["winrate"] == 1.0
    assert "stand-in judge" in capsys.readouterr().out
    judge.main(FakeParams(tmp_path), None)
    assert (tmp_path / "artifacts/judgements/b.json").read_bytes() == first


def test_the_stage_says_how_to_ask_again_for_what_stayed_undecided(tmp_path, monkeypatch, capsys):
    from stages import judge

    source(tmp_path)
    answers(tmp_path, "a", [{"id": "0", "output": "Oslo"}, {"id": "1", "output": "Rome"}])
    monkeypatch.setattr(judges, "judge", lambda *_, **__: {"0": 1.0, "1": None})
    judge.main(FakeParams(tmp_path), None)
    assert json.loads((tmp_path / "artifacts/judgements/a.json").read_text())["missing"] == ["1"]
    said = capsys.readouterr().out
    assert "1 missing" in said and "1 pairs have none; `dvc repro --force --single-item dvc.yaml:judge`" in said


def test_a_reference_file_of_another_model_is_refused(tmp_path):
    from stages import judge

    source(tmp_path, generator="gpt4_1106_preview")
    answers(tmp_path, "a", [{"id": "0", "output": "Oslo"}])
    with pytest.raises(MapleError, match="row 0: field 'generator' is 'gpt4_1106_preview'"):
        judge.main(FakeParams(tmp_path), None)


def test_an_instruction_with_two_different_references_is_refused_and_one_that_stands_twice_alike_is_not(tmp_path):
    """By instruction alone the last one would be taken for both."""
    from maple.tasks import alpaca_eval

    source(tmp_path)
    path = tmp_path / "artifacts" / "sources" / "datasets" / "alpaca_eval" / "alpaca_eval.json"
    rows = json.loads(path.read_text())
    storage.write_json(path, [*rows, rows[0]])
    assert len(alpaca_eval.references(path.parent, "text_davinci_003")) == 2
    storage.write_json(path, [*rows, rows[0] | {"output": "Rome"}])
    with pytest.raises(MapleError, match="row 2: field 'instruction' is 'Name two cities'(.|\n)*another output"):
        alpaca_eval.references(path.parent, "text_davinci_003")


def test_answers_to_an_unknown_row_are_an_error_with_its_id(tmp_path):
    from stages import judge

    source(tmp_path)
    answers(tmp_path, "a", [{"id": "7", "output": "Oslo"}])
    with pytest.raises(MapleError, match="row 7"):
        judge.main(FakeParams(tmp_path), None)


# -- The alpaca_eval package against a loopback endpoint ---------------------------------------------------------------


class Endpoint(BaseHTTPRequestHandler):
    """Chat completions in OpenAI's shape; `script` holds what goes wrong first."""

    script: list[str] = []
    requests: list[dict] = []
    elsewhere = ""
    best = 2  # which of the two answers it finds better, as shown

    def do_POST(self):
        Endpoint.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        trouble = Endpoint.script.pop(0) if Endpoint.script else None
        if trouble == "drop":
            self.close_connection = True
            return
        if trouble == "redirect":
            self.send_response(307)
            self.send_header("Location", Endpoint.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, kind = 200, "application/json"
        if isinstance(trouble, int):
            status, content = trouble, {"error": {"message": "rate limit reached" if trouble == 429 else "no"}}
        else:
            content = self.completion(Endpoint.requests[-1].get("logprobs"), trouble)
        if trouble in ("no choices", "no usage"):
            content = {key: value for key, value in content.items() if key != trouble[3:]}
        if trouble == "empty choices":
            content["choices"] = []
        body = json.dumps(content).encode()
        if trouble in ("no JSON", "HTML"):
            body, kind = b"<html>busy</html>", "text/html" if trouble == "HTML" else kind
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @staticmethod
    def completion(logprobs: bool | None, trouble: str | None) -> dict:
        """AlpacaEval 1's judge ranks the two answers, AlpacaEval 2's names one, with the log-probabilities of both
        names.
        """
        ranks = [{"model": "model_1", "rank": 3 - Endpoint.best}, {"model": "model_2", "rank": Endpoint.best}]
        names = [{"token": "m", "logprob": -2.0}, {"token": "M", "logprob": -0.25}]
        text = "I like both." if trouble == "malformed" else "M" if logprobs else repr(ranks)
        token = {"token": text, "logprob": -0.25, "top_logprobs": [] if trouble == "malformed" else names}
        message = {"role": "assistant", "content": text}
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": message,
            "logprobs": {"content": [token]} if logprobs else None,
        }
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4",
            "choices": [choice],
            "usage": usage,
        }

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    """The package reads address and key from the environment when it is imported: one server for the module."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_BASE", f"http://127.0.0.1:{server.server_port}/v1")
        patch.setenv("OPENAI_API_KEY", "test")
        outside.package("alpaca_eval.annotators")
        yield server
    server.shutdown()


@pytest.fixture
def endpoint(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    Endpoint.script, Endpoint.requests, Endpoint.best = [], [], 1
    return Endpoint


def ask_package(tmp_path, pairs=PAIRS[:1], annotator="alpaca_eval_gpt4", said=None):
    store = judgements.JudgementStore(tmp_path / "store.jsonl")
    say = (said if said is not None else []).append
    return judges.judge(pairs, annotator, 0, store, say=say, wait=lambda seconds: None)


def test_the_package_judges_with_its_own_prompt_and_undoes_its_order_switch(tmp_path, endpoint):
    pairs = [Pair(str(i), f"instruction {i}", "the reference", "the output") for i in range(6)]
    found = ask_package(tmp_path, pairs)
    shown_first = ["the reference" in r["messages"][-1]["content"].split("model_2")[0] for r in endpoint.requests]
    # The endpoint always prefers the answer shown second; whose that is depends on the switch.
    assert sorted(found.values()) == sorted(float(first) for first in shown_first)
    assert set(found.values()) == {0.0, 1.0}
    assert endpoint.requests[0]["model"] == "gpt-4" and endpoint.requests[0]["temperature"] == 0


MALFORMED = ("malformed", "no JSON", "HTML", "no choices", "empty choices", "no usage")


@pytest.mark.parametrize(
    "trouble", [[429, 429], ["drop"], [500], ["drop", 429, "malformed"], *([name] for name in MALFORMED)], ids=str
)
@pytest.mark.parametrize("annotator", ["alpaca_eval_gpt4", length_control.ANNOTATOR])
def test_rate_limits_drops_and_malformed_answers_are_retried(tmp_path, endpoint, annotator, trouble):
    endpoint.script = list(trouble)
    assert 0 <= ask_package(tmp_path, annotator=annotator)["0"] <= 1 and not endpoint.script


@pytest.mark.parametrize("trouble", MALFORMED)
@pytest.mark.parametrize("annotator", ["alpaca_eval_gpt4", length_control.ANNOTATOR])
def test_what_stays_malformed_is_reported_missing(tmp_path, endpoint, annotator, trouble):
    endpoint.script = [trouble] * judges.ATTEMPTS
    assert ask_package(tmp_path, annotator=annotator) == {"0": None}


def test_alpaca_eval_2_weighs_its_preference_by_the_judge_s_probabilities(tmp_path, endpoint):
    pairs = [Pair(str(i), f"instruction {i}", "the reference", "the output") for i in range(6)]
    found = ask_package(tmp_path, pairs, length_control.ANNOTATOR)
    second = 1 / (1 + math.exp(-2.0 + 0.25))  # the endpoint's probability of the answer shown second
    assert {round(value, 6) for value in found.values()} == {round(second, 6), round(1 - second, 6)}


def test_a_refused_key_stops_at_once_with_what_to_check(tmp_path, endpoint):
    endpoint.script = [401] * 9
    with pytest.raises(MapleError, match="refused") as error:
        ask_package(tmp_path)
    assert "OPENAI_API_KEY" in error.value.do and len(endpoint.requests) == 1


def test_an_endpoint_that_redirects_elsewhere_gets_neither_key_nor_prompts(tmp_path, endpoint):
    received = []

    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(dict(self.headers))
            self.send_response(500)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    other = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    endpoint.elsewhere = f"http://localhost:{other.server_port}/v1/chat/completions"
    endpoint.script = ["redirect"] * 9
    try:
        with pytest.raises(MapleError, match="elsewhere") as error:
            ask_package(tmp_path)
    finally:
        other.shutdown()
    assert "points to localhost" in error.value.why and received == [] and len(endpoint.requests) == 1


@pytest.mark.parametrize("key", ["sk-Ключ-0123456789", "sk-0123456789\nsk-9876543210", "sk-0123 456789"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_printed(tmp_path, endpoint, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(MapleError, match="cannot be sent") as error:
        ask_package(tmp_path)
    assert not endpoint.requests and not any(part in str(error.value) for part in ("0123", "Ключ", "9876"))


def test_without_a_key_nothing_is_asked(tmp_path, endpoint, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MapleError, match="no key"):
        ask_package(tmp_path)
    assert not endpoint.requests


def test_equal_answers_draw_without_a_request(tmp_path, endpoint):
    assert ask_package(tmp_path, [Pair("0", "instruction", "same", "same")]) == {"0": 0.5}
    assert not endpoint.requests


def test_the_estimate_names_tokens_and_dollars(tmp_path, endpoint):
    said = []
    ask_package(tmp_path, said=said)
    assert "tokens of gpt-4" in said[0] and "US dollars" in said[0]


def test_an_unknown_annotator_is_named_with_the_nearest(server):
    with pytest.raises(MapleError, match="alpaca_eval_gpt5") as error:
        judges.annotator("alpaca_eval_gpt5", 0)
    assert "alpaca_eval_gpt4" in error.value.do


def test_a_missing_package_says_how_to_go_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "alpaca_eval", None)
    with pytest.raises(MapleError, match="needs the alpaca_eval package") as error:
        judges.annotator("alpaca_eval_gpt4", 0)
    assert "stand-in" in error.value.do


# -- Length control ----------------------------------------------------------------------------------------------------


@pytest.fixture
def gamed(tmp_path, monkeypatch):
    """Judgements of a long-winded and a terse model in df_gamed.csv's columns, in place of the Hub's."""
    outside.package("alpaca_eval")
    import huggingface_hub
    import pandas

    rng = random.Random(0)
    difficulty = [rng.gauss(0, 1) for _ in range(60)]
    rows = [
        {
            "preference": min(1.0, max(0.0, 0.5 + 0.2 * side + rng.gauss(0, 0.1))),
            "index": i,
            "std_delta_len": -side,
            "instruction_difficulty": difficulty[i],
            "not_gamed_baseline": False,
            "model": model,
        }
        for model, side in (("long", 1.0), ("terse", -1.0))
        for i in range(60)
    ]
    path = tmp_path / "df_gamed.csv"
    pandas.DataFrame(rows).to_csv(path, index=False)
    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda **options: asked.append(options) or str(path))
    return asked


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_wins_by_length_alone_has_a_lower_length_controlled_rate(gamed):
    rng = random.Random(1)
    pairs = [Pair(str(i), f"instruction {i}", "x" * 100, "y" * rng.randint(20, 400)) for i in range(60)]
    found = {pair.id: float(len(pair.output) > 100) for pair in pairs}
    controlled = length_control.length_controlled(pairs, found)
    assert controlled["winrate"] < win_rate(list(found.values())).winrate
    assert len(gamed[0]["revision"]) == 40  # pinned, where the package would take the newest


@pytest.mark.parametrize("lengths", [[], [50], [50, 50]], ids=str)
def test_where_length_explains_nothing_the_reason_stands_in_place_of_the_rate(gamed, lengths):
    pairs = [Pair(str(i), f"instruction {i}", "x" * 100, "y" * length) for i, length in enumerate(lengths)]
    assert "length explains nothing" in length_control.length_controlled(pairs, {pair.id: 1.0 for pair in pairs})


def test_there_is_no_length_controlled_rate_for_the_stand_in_or_alpaca_eval_1():
    assert not length_control.applies("stand-in", "gpt4_1106_preview")
    assert not length_control.applies("alpaca_eval_gpt4", "text_davinci_003")
    assert length_control.applies("weighted_alpaca_eval_gpt4_turbo", "gpt4_1106_preview")


def test_a_judge_s_0_is_a_draw():
    assert [judges.preference_of(value) for value in (0, 1, 1.5, 2)] == [0.5, 0.0, 0.5, 1.0]


@pytest.mark.parametrize("value", [True, False, "2", [1], {"preference": 2}, float("nan"), None, 3, -1])
def test_what_is_no_preference_decides_nothing(value):
    with pytest.raises(judges.Undecided):
        judges.preference_of(value)


@pytest.mark.parametrize("value", ["true", '"1"', "null", "2", "NaN", "[0.5]"])
def test_a_stored_preference_that_is_no_number_from_0_to_1_is_named_with_its_line(tmp_path, value):
    (tmp_path / "store.jsonl").write_text(f'{{"key": "a", "preference": 1}}\n{{"key": "b", "preference": {value}}}\n')
    with pytest.raises(MapleError, match="line 2: not a judgement"):
        judgements.JudgementStore(tmp_path / "store.jsonl")
