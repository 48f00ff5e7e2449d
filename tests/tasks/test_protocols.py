"""The follow-up's protocol: what it changes, how its prompts end, its metric against the outside reference."""

import dataclasses
import random
from pathlib import Path

import pytest

from maple import tasks
from maple.answering import generate
from maple.config import params
from maple.core import storage
from maple.scoring import extraction, rules, score_record
from maple.tasks import protocols

FOLLOWUP = rules.get("f1_abstractive")


def changed(tmp_path: Path, old: str, new: str) -> params.Params:
    text = Path("params.yaml").read_text()
    assert old in text
    (tmp_path / "params.yaml").write_text(text.replace(old, new))
    return params.parse(tmp_path / "params.yaml")


def test_the_parameters_know_every_protocol_by_name():
    assert set(params.PROTOCOLS) == set(protocols.PROTOCOLS)
    assert {rule for protocol in protocols.PROTOCOLS.values() for rule in protocol.rules.values()} <= set(rules.RULES)


# -- What it changes ---------------------------------------------------------------------------------------------------


def test_one_word_changes_prompt_set_scoring_shots_and_metric(tmp_path):
    default, followup = params.load(), changed(tmp_path, "  protocol: default", "  protocol: followup")
    assert (default.scoring.protocol, followup.scoring.protocol) == ("default", "followup")
    options = followup.evaluation.tasks
    assert {name for name, found in options.items() if found.prompt_set == "followup"} == {
        "xcopa",
        "xquad",
        "belebele",
        "mlqa",
    }
    assert all(found.shots == 0 for found in options.values())
    assert options["xcopa"].scoring == "generation" and options["xnli"].scoring == "loglikelihood"
    kept = ("languages", "split", "limit", "repair", "max_new_tokens")
    for name, found in options.items():
        assert all(getattr(found, key) == getattr(default.evaluation.tasks[name], key) for key in kept)
        tasks.get(name).check(found)
    assert dataclasses.replace(followup, evaluation=default.evaluation, scoring=default.scoring) == default


def test_the_metric_alone_leaves_what_is_asked_as_it_is(tmp_path):
    found = changed(tmp_path, "  protocol: null", "  protocol: followup")
    assert found.evaluation == params.load().evaluation and found.scoring.protocol == "followup"


def test_the_paper_profile_can_be_asked_by_it():
    evaluation = dataclasses.replace(params.load("paper").evaluation, protocol="followup")
    for name, options in protocols.applied(evaluation).tasks.items():
        tasks.get(name).check(options)


# -- Prompts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("belebele", "output the letter corresponding to the correct answer"),
        ("xcopa", "-choice2 : {choice2}\nWe are looking for {connector}"),
        ("mlqa", "provide the answer as it appears in the passage"),
        ("xquad", "provide the answer as it appears in the passage"),
    ],
)
def test_a_prompt_is_one_turn_in_chatml_and_the_next_one_answers(name, words):
    form = tasks.get(name).form("followup", "en", "generation")
    assert words in form.text and form.text.startswith("<|im_start|>system\n")
    assert form.text.endswith("\n<|im_end|>\n<|im_start|>assistant")
    assert form.stop == ("<|im_end|>", "\n\n")


@pytest.mark.parametrize("said", ["\nC<|im_end|>\n", "\nC. Paris\n\nBecause", "C"])
def test_a_letter_after_the_turn_begins_is_recognised_whatever_follows_it(said):
    form = tasks.get("belebele").form("followup", "en", "generation")
    row = {"output": generate.cut(said, form.stop), "options": [{"text": text} for text in form.option_texts]}
    assert extraction.predict(row, "line", "none") == 2


# -- Metric ------------------------------------------------------------------------------------------------------------


def test_only_the_first_gold_answer_counts_and_no_language_has_articles_of_its_own():
    score = lambda *words: FOLLOWUP.score(*words, False)["f1_abstractive"]  # noqa: E731
    assert score("red", ["blue", "red"], "en") == 0.0 and score("the red", ["red"], "en") == 1.0
    assert score("das Haus", ["Haus"], "de") == pytest.approx(2 / 3)
    assert score("北京，中国", ["北京中国"], "zh") == 0.0, "full-width punctuation stays"


def test_stored_answers_are_scored_again_by_it_and_the_signature_says_so(tmp_path):
    """The answer folder stays as it is; only XQuAD's and MLQA's scores change."""
    rng = random.Random(1)
    golds = ["der Turm", "Paris", "in the year 1889"]
    rows = [
        {"id": str(n), "prompt": "?", "output": rng.choice(["Turm", "Paris", "1889"]), "reference": [golds[n], "x"]}
        for n in range(3)
    ]
    sheet = {
        "task": "mlqa",
        "language": "de",
        "n": 3,
        "prompt": "english/mlqa@0",
        "shots": "0",
        "scoring": "generation",
    }
    sheet |= {"max_new_tokens": 8, "split": "test", "source": "mlqa@0", "base": "4bit", "libraries": {}, "texts": "0"}
    record = {"schema": "maple.answers/1", "profile": "smoke", "kind": "base", "name": "m", "model": "m", "bits": 4}
    record |= {"evaluated_bits": 4, "dataset": None, "rank": None, "seed": None, "heldout_loss": None}
    record |= {"sheets": [sheet | {"path": "shared", "counts": {}}], "sources": {}, "versions": {}}
    storage.write_jsonl_gz(tmp_path / "answers" / "mlqa-de.jsonl.gz", rows)
    storage.write_json(tmp_path / "answers" / "record.json", record)
    given = params.load()
    options = dataclasses.replace(given.evaluation.tasks["mlqa"], languages=["de"])
    evaluation = dataclasses.replace(given.evaluation, tasks={"mlqa": options})
    found = {}
    for protocol in protocols.PROTOCOLS:
        scoring = dataclasses.replace(given.scoring, protocol=protocol)
        made = score_record.score(tmp_path / "answers", evaluation, scoring, tmp_path / protocol)["scores"]
        found[protocol] = {row["metric"]: row for row in made}
    assert set(found["default"]) == {"f1", "em"} and set(found["followup"]) == {"f1_abstractive"}
    (score,) = found["followup"].values()
    assert score["primary"] and "|metric:f1_abstractive|" in score["signature"]
    expected = [FOLLOWUP.score(row["output"], row["reference"], "de", False)["f1_abstractive"] for row in rows]
    assert score["value"] == pytest.approx(sum(expected) / 3)
