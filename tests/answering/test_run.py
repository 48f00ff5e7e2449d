"""A model asked everything: the answer folder and its scores, going on after a kill, errors with the example's id."""

import dataclasses
import gzip
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy
import upstream

from maple.answering import encoding, loglikelihood
from maple.answering import run as answering
from maple.answering.questions import questions, sheet
from maple.answering.run import Subject
from maple.config import params
from maple.core import storage
from maple.core.errors import MapleError
from maple.scoring import extraction, score_record
from maple.tasks.base import Example

SCORING = params.Scoring(dict.fromkeys(("xnli", "xcopa", "belebele"), "none"), [], "default")
SUBJECT = Subject("toy-16bit", "base", "toy", 16, 16, identity={"base": "1"})


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    return upstream.write(tmp_path_factory.mktemp("sources") / "datasets", rows=8)


def asked(limit: int | None = 4, only: tuple[str, ...] = upstream.LANGUAGES, **changes) -> params.Evaluation:
    """The smoke profile's evaluation in the languages that upstream.py writes."""
    found = params.parse(Path(__file__).parents[2] / "params.yaml").evaluation
    chosen = {
        name: dataclasses.replace(
            found.tasks[name], languages=list(upstream.LANGUAGES[name]), limit=limit, max_new_tokens=6, **changes
        )
        for name in only
    }
    return dataclasses.replace(found, tasks=chosen, batch_tokens=200)


def load():
    torch.set_num_threads(1)
    return toy.model("mistral", window=40), toy.tokeniser()


def run(folder: Path, datasets: Path, evaluated=None, load=load, subject=SUBJECT, scoring=None):
    """Asked and scored; the score record."""
    asking = evaluated or asked()
    _, bill = answering.answer(subject, load, asking, datasets.parent, folder / "work", folder / "answers", "smoke")
    (folder / "bill.json").write_text(json.dumps(bill))
    return score_record.score(folder / "answers", asking, scoring or SCORING, folder / "scores")


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in gzip.open(path, "rt")]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for part in ("answers", "scores")
        for p in sorted((folder / part).iterdir())
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, datasets):
    folder = tmp_path_factory.mktemp("run")
    return folder, run(folder, datasets)


def test_the_folder_holds_every_score_and_example(finished):
    folder, found = finished
    assert json.loads((folder / "scores" / "record.json").read_text()) == found
    primary = {(row["task"], row["language"]): row for row in found["scores"] if row["primary"]}
    expected = {(task, code) for task, codes in upstream.LANGUAGES.items() for code in codes}
    assert set(primary) == expected - {("alpaca_eval", "en")}
    for (task, language), row in primary.items():
        lines, answers = (lines_of(folder / part / f"{task}-{language}.jsonl.gz") for part in ("scores", "answers"))
        values = [line["scores"][row["metric"]] for line in lines]
        assert len(lines) == row["n"] == 4 and math.isclose(sum(values) / 4, row["value"])
        assert row["chance"] == {"xnli": 1 / 3, "xcopa": 0.5, "belebele": 0.25}.get(task)
        for part in (
            f"task:{task}",
            f"lang:{language}",
            "shots:0",
            f"split:{'validation' if task == 'xquad' else 'test'}",
            "base:16bit",
        ):
            assert part in row["signature"].split("#")[0].split("|")
        assert [line["id"] for line in lines] == [line["id"] for line in answers]
        for line in answers:
            assert line["prompt"] and "reference" in line and ("output" in line) != ("options" in line)
    outputs = lines_of(folder / "scores" / "alpaca_eval-en.jsonl.gz")
    assert len(outputs) == 4 and all(isinstance(line["prediction"], str) and line["scores"] == {} for line in outputs)


def test_the_bill_says_what_each_task_cost(finished):
    bill = json.loads((finished[0] / "bill.json").read_text())
    assert list(bill["tasks"]) == list(asked().tasks) and bill["tasks"]["belebele"]["examples"] == 12
    assert 0 < bill["tasks"]["belebele"]["tokens_computed"] < bill["tasks"]["belebele"]["tokens"]


def test_with_all_answers_stored_no_model_is_loaded_and_the_bytes_are_the_same(finished, datasets, tmp_path):
    folder, _ = finished
    (tmp_path / "work").symlink_to(folder / "work")
    run(tmp_path, datasets, load=lambda: pytest.fail("a model was loaded"))
    assert files(tmp_path) == files(folder)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = ["tests", "tests/answering"]
import test_run as tests
from maple.answering.store import AnswerStore
appends, append = 0, AnswerStore.append
def killing(store, rows):
    global appends
    append(store, rows)
    appends += 1
    if appends == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
AnswerStore.append = killing
tests.run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_runs_go_on_and_end_with_the_bytes_of_an_unbroken_one(finished, datasets, tmp_path):
    for appends in (3, 7, 5):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(datasets), str(appends)], cwd=Path(__file__).parents[2]
        )
        assert done.returncode == -9 and not (tmp_path / "answers").exists()
    seals = len(list((tmp_path / "work").glob("*.jsonl")))
    assert 0 < seals < 18
    run(tmp_path, datasets)
    assert files(tmp_path) == files(finished[0])


@pytest.mark.parametrize("seed", range(4))
def test_a_stop_inside_a_language_leaves_no_trace(datasets, tmp_path, seed):
    """Half of the answers of one language are there already; which half is chance."""
    evaluated = asked(limit=8, only=("xnli", "mlqa"))
    whole = run(tmp_path / "whole", datasets, evaluated)
    (tmp_path / "broken" / "work").mkdir(parents=True)
    for path in (tmp_path / "whole" / "work").iterdir():
        header, *lines = path.read_text().splitlines(keepends=True)
        kept = [line for number, line in enumerate(lines) if (number >> seed % 2) % 2]
        (tmp_path / "broken" / "work" / f"{path.name}.part").write_text("".join([header, *kept]) + lines[0][: 7 * seed])
    assert run(tmp_path / "broken", datasets, evaluated) == whole
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    "change",
    [{"split": "validation"}, {"prompt_set": "native", "limit": 3}, {"shots": 1}],
    ids=["split", "prompt", "shots"],
)
def test_answers_of_other_settings_are_not_used(datasets, tmp_path, change):
    loads = []

    def counted():
        loads.append(1)
        return load()

    first = {"limit": 3} if "limit" in change else {"limit": 4}
    run(tmp_path, datasets, asked(only=("xcopa",), **first), counted)
    run(tmp_path, datasets, asked(only=("xcopa",), **first | change), counted)
    run(
        tmp_path,
        datasets,
        asked(only=("xcopa",), **first | change),
        counted,
        dataclasses.replace(SUBJECT, identity={"base": "2"}),
    )
    assert len(loads) == 3


def test_another_normalisation_asks_the_model_nothing(datasets, tmp_path):
    run(tmp_path, datasets, asked(only=("xcopa",)))
    by_bytes = params.Scoring({"xcopa": "bytes"}, [], "default")
    changed = run(
        tmp_path, datasets, asked(only=("xcopa",)), load=lambda: pytest.fail("a model was loaded"), scoring=by_bytes
    )
    assert all("loglikelihood/bytes" in row["signature"] for row in changed["scores"])


def test_a_failed_example_is_an_error_with_its_id_and_never_a_zero(datasets, tmp_path, monkeypatch):
    def failing(*arguments, **options):
        yield {0: [loglikelihood.OptionScore(-1.0, 1, 1, False)] * 2}
        raise loglikelihood.Failed(2, "the machine is on fire")

    monkeypatch.setattr(loglikelihood, "score", failing)
    with pytest.raises(MapleError, match="xcopa et: example '2' could not be answered") as failed:
        run(tmp_path, datasets, asked(None, only=("xcopa",)))
    assert failed.value.why == "the machine is on fire"
    assert not (tmp_path / "answers").exists() and not (tmp_path / "answers.part").exists()
    assert [
        row["id"] for row in map(json.loads, (tmp_path / "work" / "xcopa-et.jsonl.part").read_text().splitlines()[1:])
    ] == ["0"]


def oracle(monkeypatch, pick) -> None:
    """Answers by `pick(number of options)` or the reference instead of a model's."""
    from maple.answering import generate

    def scored(model, tokeniser, requests, batch_tokens, done, usage):
        for index, (_, options) in enumerate(requests):
            best = pick(index, len(options))
            yield {index: [loglikelihood.OptionScore(-1.0 - (i != best), 1, 1, False) for i in range(len(options))]}

    monkeypatch.setattr(loglikelihood, "score", scored)
    monkeypatch.setattr(
        generate,
        "generate_batches",
        lambda model, tok, prompts, *a, **k: iter([{i: pick(i, None) for i in range(len(prompts))}]),
    )


def test_a_perfect_model_scores_1_on_every_task_and_language(datasets, tmp_path, monkeypatch):
    for name, codes in upstream.LANGUAGES.items():
        for code in codes:
            evaluated = asked(limit=None, only=(name,))
            evaluated.tasks[name] = dataclasses.replace(evaluated.tasks[name], languages=[code])
            examples = sheet(name, code, evaluated.tasks[name], datasets, 42).examples
            gold = [e.reference if isinstance(e.reference, (int, str)) else e.reference[0] for e in examples]
            oracle(monkeypatch, lambda index, count, gold=gold: gold[index])
            found = run(tmp_path / name / code, datasets, evaluated, load=lambda: (toy.model(), toy.tokeniser()))
            assert all(row["value"] == 1 for row in found["scores"])
            assert bool(found["scores"]) == (name != "alpaca_eval")


def test_a_blind_model_scores_chance(tmp_path, monkeypatch):
    """Always the same option: exactly chance, since every option is right equally often."""
    datasets = upstream.write(tmp_path / "datasets", rows=12)
    oracle(monkeypatch, lambda index, count: 0)
    found = run(
        tmp_path,
        datasets,
        asked(limit=None, only=("xnli", "xcopa", "belebele")),
        load=lambda: (toy.model(), toy.tokeniser()),
    )
    assert len(found["scores"]) == 9
    for row in found["scores"]:
        assert math.isclose(row["value"], row["chance"])


def test_an_adapter_on_another_precision_is_marked(datasets, tmp_path):
    subject = dataclasses.replace(SUBJECT, kind="cell", bits=8, evaluated_bits=16, dataset="alpaca", rank=8, seed=42)
    found = run(tmp_path, datasets, asked(only=("xcopa",)), subject=subject)
    assert (found["bits"], found["evaluated_bits"]) == (8, 16)
    assert all("|base:16bit (trained 8bit)|" in row["signature"] for row in found["scores"])


def test_shots_that_do_not_fit_are_dropped_from_the_oldest_and_counted(datasets):
    count = toy.tokeniser()
    length = lambda text: len(encoding.encode(count, text))
    options = dataclasses.replace(asked().tasks["xnli"], shots=4)
    asked_sheet = sheet("xnli", "en", options, datasets, 42)
    room = (
        length("\n\n".join([*asked_sheet.shots[2:], asked_sheet.form.prompt(asked_sheet.examples[0]) + " Neither"])) + 3
    )
    for question in questions(asked_sheet, room, length):
        assert question.shots_dropped == 2 and not question.shortened
        assert question.prompt.startswith(asked_sheet.shots[2]) and asked_sheet.shots[1] not in question.prompt


def test_the_option_with_the_most_tokens_must_fit_not_the_one_with_the_most_bytes(datasets):
    tokeniser = toy.tokeniser()
    length = lambda text: len(encoding.encode(tokeniser, text))
    many_bytes, many_tokens = "the river runs through the valley the river", "zzqqkkxxwwvvjjzzqqkkxxwwvvjjzz"
    assert length(many_bytes) < length(many_tokens)
    asked_sheet = sheet("xcopa", "et", dataclasses.replace(asked().tasks["xcopa"], shots=1), datasets, 42)
    fields = {"premise": "The river runs. ", "choice1": many_bytes, "choice2": many_tokens, "question": "cause"}
    asked_sheet = dataclasses.replace(asked_sheet, examples=[Example("0", "et", fields, 0)])
    prompt = "\n\n".join([*asked_sheet.shots, asked_sheet.form.prompt(asked_sheet.examples[0])])
    (question,) = questions(asked_sheet, length(f"{prompt} {many_bytes}"), length)
    assert question.shots_dropped == 1 and not question.shortened
    (question,) = questions(asked_sheet, length(f"{prompt} {many_tokens}"), length)
    assert question.shots_dropped == 0 and question.prompt == prompt


def test_a_long_passage_is_cut_at_its_end_and_counted(datasets, tmp_path):
    evaluated = asked(only=("xlsum",))
    model, tokeniser = toy.model(context=116), toy.tokeniser()
    found = run(tmp_path, datasets, evaluated, load=lambda: (model, tokeniser))
    assert found["counts"]["xlsum-en"] == {"shortened": 4}
    store = [json.loads(line) for line in (tmp_path / "work" / "xlsum-en.jsonl").read_text().splitlines()[1:]]
    for row in store:
        assert row["shortened"] and row["prompt"].endswith("Summary:")
        assert len(encoding.encode(tokeniser, row["prompt"])) <= 110


def test_the_option_with_the_highest_log_likelihood_is_chosen_normalised_as_asked():
    options = [
        {"logprob": -4.0, "bytes": 4, "tokens": 1},
        {"logprob": -6.0, "bytes": 5, "tokens": 3},
        {"logprob": -4.0, "bytes": 1, "tokens": 1},
    ]
    assert [extraction.choose(options, by) for by in ("none", "bytes", "tokens")] == [0, 0, 1]


def test_averages_are_unweighted():
    rows = [
        ("xnli", "accuracy", True, 0.2),
        ("xnli", "accuracy", True, 0.4),
        ("xquad", "f1", True, 0.9),
        ("xquad", "em", False, 0.5),
    ]
    found = score_record.averages({"task": t, "metric": m, "primary": p, "value": v} for t, m, p, v in rows)
    assert found == {"xnli": {"accuracy": 0.3}, "xquad": {"f1": 0.9, "em": 0.5}, "average": 0.6}


def test_averages_are_decimal_as_in_the_tables():
    """The mean is 0.3397445, a tie, to which binary floats add a little."""
    found = score_record.averages(
        {"task": "xnli", "metric": "accuracy", "primary": True, "value": v} for v in (0.420572, 0.258917)
    )
    assert found == {"xnli": {"accuracy": 0.339744}, "average": 0.339744}


@pytest.mark.parametrize(
    "break_it, names",
    [
        (lambda r: r.pop("versions"), "versions is wrong"),
        (lambda r: r.update(extra=1), "extra is wrong"),
        (lambda r: r.update(bits="16"), "bits is wrong"),
        (lambda r: r["scores"][0].update(value=1.5), "scores.0.value"),
        (lambda r: r["scores"][0].update(value=float("nan")), "scores.0.value"),
        (lambda r: r["scores"][0].update(n=True), "scores.0.n"),
        (lambda r: r["scores"][1].pop("signature"), "scores.1.signature"),
        (lambda r: r["scores"].append(r["scores"][0]), "xnli ar accuracy"),
    ],
)
def test_a_record_that_is_not_one_is_never_written(finished, break_it, names):
    broken = json.loads(json.dumps(finished[1]))
    break_it(broken)
    with pytest.raises(MapleError, match=names):
        score_record.check(broken)


def test_a_sealed_store_that_lost_rows_asks_for_those_alone(datasets, tmp_path, finished):
    evaluated = asked(only=("xnli",))
    whole = run(tmp_path, datasets, evaluated)
    path = tmp_path / "work" / "xnli-ar.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))
    assert run(tmp_path, datasets, evaluated) == whole
    assert len(path.read_text().splitlines()) == len(lines)


@pytest.mark.parametrize("content", ["{}", "[]", '{"schema": "maple.scores/2"}'])
def test_a_record_that_is_none_is_refused(datasets, tmp_path, content):
    evaluated = asked(only=("xcopa",))
    run(tmp_path, datasets, evaluated)
    (tmp_path / "answers" / "record.json").write_text(content)
    with pytest.raises(MapleError, match="is no record of maple.answers/1"):
        score_record.score(tmp_path / "answers", evaluated, SCORING, tmp_path / "scores")


def test_a_base_that_was_not_fetched_is_named_with_the_nearest(tmp_path, monkeypatch):
    from stages import answer

    storage.write_json(tmp_path / "sources" / "record.json", {"models": {"llama-2-7b": {"files": {}}}})
    monkeypatch.setattr(params.Params, "artifacts", tmp_path)
    with pytest.raises(
        MapleError, match="'llama-2-13b-4bit' names no base that is here(.|\n)*did you mean 'llama-2-7b'"
    ):
        answer.subject_of(params.load("smoke"), "llama-2-13b-4bit")
