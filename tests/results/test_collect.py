"""Collecting: complete or refused, consistent with its examples, the same bytes each time."""

import dataclasses
import hashlib
import random
import subprocess
import sys

import numpy as np
import pytest
import synthetic

from maple.config import params
from maple.config.cell import Cell
from maple.core import storage
from maple.core.errors import MapleError
from maple.results import collect
from maple.results.quantities import Resampled


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Parameters of four cells and one base over two tasks, and their finished artifacts in an empty folder."""
    settings = params.load("smoke")
    tasks = {
        "xnli": dataclasses.replace(settings.evaluation.tasks["xnli"], languages=["en", "ar"]),
        "alpaca_eval": settings.evaluation.tasks["alpaca_eval"],
    }
    grid = dataclasses.replace(settings.grid, bases=["mistral-7b-8bit"], ranks=[8])
    settings = dataclasses.replace(
        settings, grid=grid, evaluation=dataclasses.replace(settings.evaluation, tasks=tasks)
    )
    monkeypatch.chdir(tmp_path)
    for name in collect.asked_for(settings):
        write_artifacts(settings, name)
    return settings


def write_artifacts(settings, name):
    """A score folder as score writes it, a judgement as judge writes it, an adapter as train writes it."""
    draw = random.Random(name)
    folder = settings.folder("scores", name)
    cell = settings.experiment if name == "experiment" else Cell.parse(name) if "." in name else None
    scores = []
    for language in ("ar", "en"):
        values = [draw.randint(0, 1) for _ in range(6)]
        rows = [{"id": f"xnli-{i}", "prediction": "", "scores": {"accuracy": value}} for i, value in enumerate(values)]
        storage.write_jsonl_gz(folder / f"xnli-{language}.jsonl.gz", rows)
        mean = sum(values) / 6
        score = {"task": "xnli", "language": language, "metric": "accuracy", "primary": True, "value": mean, "n": 6}
        scores.append(score | {"chance": 1 / 3, "signature": "abc"})
    kind = "experiment" if name == "experiment" else "cell" if cell else "base"
    where = {"kind": kind, "name": name, "model": "mistral-7b", "bits": cell.base.bits if cell else 8}
    where |= {
        "dataset": cell.dataset if cell else None,
        "rank": cell.rank if cell else None,
        "seed": cell.seed if cell else None,
    }
    storage.write_json(
        folder / "record.json", {"schema": "maple.scores/2", "profile": "smoke", **where, "scores": scores}
    )
    preferences = {f"alpaca_eval-{i}": draw.choice([0, 0.5, 1]) for i in range(4)}
    judged = {
        "annotator": "stand-in",
        "endpoint": None,
        "reference": "text_davinci_003",
        "n": 4,
        "winrate": sum(preferences.values()) / 4,
    }
    judged |= {"missing": ["alpaca_eval-4"], "preferences": preferences}
    storage.write_json(settings.artifacts / "judgements" / f"{name}.json", judged)
    if cell:
        storage.write_json(
            settings.artifacts / "adapters" / name / "record.json",
            {"schema": "maple.adapter/1", "heldout_loss": {"after": draw.random()}},
        )


def collected(settings):
    return collect.collect(settings, settings.artifacts / "collected")


def test_every_cell_base_and_the_experiment_is_collected_with_its_win_rate(small):
    found = collected(small)
    assert len(found.records) == 6 and found.missing == []
    assert found.asked[-1] == "experiment" and "mistral-7b-8bit" in found.records
    assert len(found.scores) == 6 * 3
    judged = found.primary()["mistral-7b-8bit", "alpaca_eval", "en"]
    assert judged.metric == "winrate" and judged.n == 4
    assert (
        found.records["experiment"]["adapter"]["heldout_loss"] and found.records["mistral-7b-8bit"]["adapter"] is None
    )


def test_collecting_twice_gives_the_same_bytes(small):
    def hashes():
        collected(small)
        folder = small.artifacts / "collected"
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    assert hashes() == hashes() and len(hashes()) == 3


@pytest.mark.parametrize("gone", ["scores/grid/mistral-7b-8bit", "scores/experiment", "judgements/experiment.json"])
def test_anything_missing_is_refused_unless_accepted(small, gone):
    path = small.artifacts / gone
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(MapleError, match="1 of the scores asked for are missing"):
        collected(small)
    accepting = dataclasses.replace(small, tables=dataclasses.replace(small.tables, accept_missing=True))
    found = collected(accepting)
    assert len(found.missing) == 1 and len(found.scores) < 18


def test_an_empty_folder_that_the_cache_recreated_is_refused(small):
    (small.artifacts / "scores" / "experiment" / "record.json").unlink()
    with pytest.raises(MapleError, match="experiment"):
        collected(small)


def test_a_score_that_does_not_follow_from_its_examples_is_refused(small):
    path = small.artifacts / "scores" / "experiment" / "record.json"
    content = storage.read_json(path)
    content["scores"][0]["value"] += 0.01
    storage.write_json(path, content)
    with pytest.raises(MapleError, match="does not follow from its examples"):
        collected(small)


def test_records_of_another_profile_are_refused(small):
    path = small.artifacts / "scores" / "experiment" / "record.json"
    storage.write_json(path, storage.read_json(path) | {"profile": "paper"})
    with pytest.raises(MapleError, match="belongs to profile 'paper'"):
        collected(small)


def test_examples_come_back_by_name_and_id_with_gaps_as_nan(small):
    found = collected(small)
    examples = found.examples("xnli", "ar")
    assert examples.scores.shape == (6, 6) and examples.ids[0] == "xnli-0"
    for name, row in zip(examples.names, examples.scores, strict=True):
        assert row.mean() == pytest.approx(found.primary()[name, "xnli", "ar"].value)
    path = found.folder / "gaps.parquet"
    collect.write_examples(path, [("xnli", "ar", {"a": {"1": 0.5, "2": 1.0}, "b": {"2": 0.25}})])
    gaps = collect.read_examples(path, "xnli", "ar")
    assert gaps.names == ["a", "b"] and np.isnan(gaps.scores[1, 0]) and gaps.scores[1, 1] == 0.25
    assert collect.read_examples(path, "xnli", "en").names == []


def test_what_is_written_is_what_is_loaded(tmp_path):
    written = synthetic.write(tmp_path, examples=5, without=("mistral-7b-4bit",))
    assert written.missing == ["mistral-7b-4bit"] and "mistral-7b-4bit" not in written.records
    assert len({score.language for score in written.scores}) == 40
    assert collect.load(tmp_path) == written


def noise_of(folder, ids_of, scores_of):
    """Resampled scores of made-up names and languages: `ids_of` and `scores_of` by name or language."""
    groups, rows = [], []
    for language, ids in ids_of.items():
        found = {name: dict(zip(ids, scores)) for name, scores in scores_of.items()}
        groups.append(("xnli", language, found))
        for name, scores in scores_of.items():
            where = (name, "cell", "mistral-7b", 4, "alpaca", 8, 42, "xnli", language, "accuracy", True)
            rows.append(collect.Score(*where, float(np.mean(scores)), len(ids), None, ""))
    collect.write(folder, "smoke", list(scores_of), [], {}, rows)
    collect.write_examples(folder / "examples.parquet", groups)
    return Resampled(collect.load(folder), samples=2000, seed=1)


def width(quantity):
    _, low, high = quantity.interval(0.95)
    return high - low


def test_a_difference_of_cells_is_paired(tmp_path):
    scores = np.random.default_rng(1).random(100)
    noise = noise_of(tmp_path, {"en": [str(i) for i in range(100)]}, {"a": scores, "b": scores - 0.01})
    difference = noise.score("a", "xnli") - noise.score("b", "xnli")
    assert difference.value == pytest.approx(0.01) and width(difference) < 1e-6 < width(noise.score("a", "xnli"))


def test_translations_of_one_item_are_drawn_together_and_other_items_apart(tmp_path):
    """The mean over two languages with the same scores is no surer than one language when the items are the same."""
    scores = {"a": np.random.default_rng(1).random(100)}
    one, other = [str(i) for i in range(100)], [str(i) for i in range(100, 200)]
    (tmp_path / "shared").mkdir()
    shared = noise_of(tmp_path / "shared", {"en": one, "de": one}, scores)
    assert width(shared.score("a", "xnli")) == pytest.approx(width(shared.score("a", "xnli", ["de"])))
    (tmp_path / "apart").mkdir()
    apart = noise_of(tmp_path / "apart", {"en": one, "de": other}, scores)
    assert width(apart.score("a", "xnli")) == pytest.approx(width(shared.score("a", "xnli")) / 2**0.5, rel=0.1)


def test_a_mean_over_languages_is_resampled_as_its_languages_are(tmp_path):
    """All at once is a short cut where languages have the same items; here two do, one has other ones, one has gaps."""
    ids = {"en": range(100), "de": range(100), "ru": range(100, 200), "th": range(50)}
    scores = {"a": np.random.default_rng(1).random(100), "b": np.random.default_rng(2).random(100)}
    ids = {code: [str(i) for i in numbers] for code, numbers in ids.items()}
    noise = noise_of(tmp_path, ids, scores)
    for name in scores:
        apart = np.mean([noise.score(name, "xnli", [code]).replicates for code in ids], axis=0)
        assert noise.score(name, "xnli").replicates == pytest.approx(apart, abs=1e-5)


def test_the_same_seed_resamples_the_same_way():
    found = synthetic.shared()
    first, again, other = (
        Resampled(found, samples=50, seed=s).score("experiment", "mlqa").replicates for s in (1, 1, 2)
    )
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("stage", ["collect", "tables", "compare", "verdict"])
def test_stages_over_records_import_no_torch(stage):
    heavy = {"torch", "transformers", "datasets", "pandas"}
    code = f"import sys, stages.{stage}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
