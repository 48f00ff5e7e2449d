"""Won and lost against the base: counts add up, p-values are scipy's, and what is shown is among them."""

import csv
import dataclasses
import io

import numpy as np
import pytest
import scipy.stats
import synthetic

from maple.results import errors, render, tables
from maple.results.collect import Examples
from maple.results.tables import AVERAGE, Configuration


@pytest.fixture(scope="module")
def results():
    return tables.Results(synthetic.shared(), synthetic.params())


@pytest.mark.parametrize("won, lost", [(0, 0), (1, 0), (3, 3), (1, 9), (40, 17), (300, 410), (9000, 9400)])
def test_the_p_value_is_that_of_scipys_exact_binomial_test(won, lost):
    wanted = scipy.stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert errors.mcnemar(won, lost) == pytest.approx(wanted, rel=1e-8)


def test_each_example_has_one_outcome_and_one_without_an_answer_has_none(results, monkeypatch):
    names = ["base", "a", "b"]
    # Of two seeds, a and b, the mean counts; the last example was not asked of b.
    scores = np.array([[0, 1, 1, 0, 0.5, 0], [1, 0, 1, 0, 0.5, 0], [0, 1, 1, 0, 1, np.nan]], dtype=np.float32)
    monkeypatch.setattr(
        type(results.collected), "examples", lambda *_: Examples(names, [f"i{n}" for n in range(6)], scores)
    )
    before, after = Configuration(0, 4, ("base",)), Configuration(8, 4, ("a", "b"))
    found = errors.changes(results, before, after, "xnli", "en")
    assert found == {"won": ["i0", "i4"], "lost": ["i1"], "both": ["i2"], "neither": ["i3"]}
    missing = errors.changes(results, before, dataclasses.replace(after, names=("a", "nobody")), "xnli", "en")
    assert missing == {"won": [], "lost": [], "both": [], "neither": []}


def test_the_table_counts_what_the_examples_say_by_language(results):
    long, summary = errors.table(results)
    rows = list(csv.DictReader(io.StringIO(render.to_csv(long))))
    assert {row["task"] for row in rows} == set(results.params.evaluation.tasks) - {"alpaca_eval"}
    for row in rows[::37]:
        if "experiment" in row["dataset"]:
            continue
        after = results.chosen(row["model"], row["dataset"], AVERAGE)
        examples = results.collected.examples(row["task"], row["language"])
        old = examples.scores[examples.names.index(f"{row['model']}-{after.bits}bit")]
        new = examples.scores[examples.names.index(after.names[0])]
        assert int(row["won"]) == (new > old).sum() and int(row["lost"]) == (new < old).sum()
        assert sum(int(row[name]) for name in errors.OUTCOMES) == int(row["n"]) == len(examples.ids)
        assert float(row["p"]) <= float(row["p_holm"])
    assert sum(int(row["won"]) for row in rows) == sum(int(line[4]) for line in summary.rows)


def test_what_is_shown_was_lost_or_won_in_the_language_that_lost_most(results):
    rows = list(csv.DictReader(io.StringIO(render.to_csv(errors.table(results)[0]))))
    shown = errors.shown(results)
    assert shown.rows
    for line in shown.rows:
        one = dict(zip(shown.header, line))
        same = [row for row in rows if all(row[key] == one[key] for key in errors.WHERE[:4])]
        assert max(same, key=lambda row: int(row["lost"]))["lost"] == next(
            row["lost"] for row in same if row["language"] == one["language"]
        )
        assert one["outcome"] in ("won", "lost")
