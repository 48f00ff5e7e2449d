"""Cells in forked processes: what failed is not stamped as made, and a profile that needs a GPU is refused."""

import argparse

import pytest

from maple.cluster import inputs, into_dvc, ledger, submission
from maple.config import params
from maple.core.errors import MapleError
from maple.planning import plan
from stages import cells, train

CELL = "mistral-7b-16bit.alpaca.r8.s42"


@pytest.fixture
def smoke(tmp_path, monkeypatch):
    monkeypatch.setattr(params.Params, "work", tmp_path)
    monkeypatch.setattr(inputs, "of", lambda given, verb, name: {"made of": name})
    return params.load("smoke")


def test_a_stage_that_ran_is_stamped_with_what_it_started_from(smoke, monkeypatch, capsys):
    monkeypatch.setattr(train, "main", lambda given, arguments: print(f"trained {arguments.name}"))
    assert cells.Forked("smoke", ".", [CELL])._stage(smoke, "train", CELL) == ""
    assert ledger.stamped(smoke, "train", CELL) == {"made of": CELL}
    assert ledger.log(smoke, CELL).read_text() == f"trained {CELL}\n" and not capsys.readouterr().out


def test_a_stage_that_failed_says_why_and_is_not_stamped(smoke, monkeypatch):
    ledger.stamp(smoke, "train", CELL, {"made of": "yesterday"})

    def fail(given, arguments):
        raise MapleError("no memory", why="it is full", do="buy some")

    monkeypatch.setattr(train, "main", fail)
    assert cells.Forked("smoke", ".", [CELL])._stage(smoke, "train", CELL) == "no memory"
    assert ledger.stamped(smoke, "train", CELL) is None and "buy some" in ledger.log(smoke, CELL).read_text()


def test_a_profile_for_a_gpu_is_refused():
    with pytest.raises(MapleError, match="the cells of paper are not forked"):
        cells.main(params.load("paper"), argparse.Namespace())


def test_preparing_follows_a_fetch_that_is_out_of_date(smoke, monkeypatch):
    """Before the fetch DVC finds the training set current; after it, perhaps not."""
    monkeypatch.setattr(inputs, "missing", lambda given, names: [])
    monkeypatch.setattr(into_dvc, "dvc", lambda *words: '{"download": []}' if "--json" in words else "")
    assert into_dvc.before(smoke, [CELL]) == ["download", "prepare@alpaca"]


def test_a_matrix_that_is_here_as_a_whole_is_committed_by_one_name(smoke, monkeypatch):
    """A cell that failed is not: with it its matrix would claim what is not there."""
    asked = []
    monkeypatch.setattr(into_dvc, "dvc", lambda *words: asked.append(words[3:]))
    every = submission.names(smoke)
    into_dvc.take(smoke, into_dvc.stages_of(smoke, every), [])
    into_dvc.take(smoke, into_dvc.stages_of(smoke, [CELL]), into_dvc.stages_of(smoke, set(every) - {CELL}))
    into_dvc.take(smoke, into_dvc.stages_of(smoke, [CELL]), [])
    assert asked[0] == tuple(
        f"dvc.yaml:{name}" for name in ("answer", "answer_base", "answer_experiment", "train", "train_experiment")
    )
    assert asked[1] == ("dvc.yaml:answer", "dvc.yaml:train")
    assert asked[2] == tuple(f"dvc.yaml:{verb}@mistral-7b-16bit-alpaca-8-42" for verb in ("answer", "train"))


def test_what_a_killed_run_had_made_is_taken_by_the_next(smoke, monkeypatch):
    """Killed between the last model and the commit: nothing is left to do, and DVC does not know of it."""
    asked = []
    monkeypatch.setattr(into_dvc, "dvc", lambda *words: asked.append(words[3:]))
    monkeypatch.setattr(into_dvc, "before", lambda given, names: [])
    monkeypatch.setattr(submission, "missing", lambda given, names: [])
    trained, answered = into_dvc.stages_of(smoke, [CELL])
    monkeypatch.setattr(submission, "outdated", lambda given, names: plan.Outdated({trained, answered}, set()))
    cells.main(smoke, argparse.Namespace())
    assert asked == [], "DVC's own are not asked for"
    monkeypatch.setattr(ledger, "is_current", lambda given, verb, name: name == CELL)
    cells.main(smoke, argparse.Namespace())
    assert sorted(asked[0]) == ["dvc.yaml:answer", "dvc.yaml:train"]
