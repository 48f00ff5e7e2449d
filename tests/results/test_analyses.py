"""Analyses beyond the paper's tables."""

import csv
import dataclasses
import io

import numpy as np
import pytest
import synthetic

from maple.results import analyses, render, tables
from maple.results.quantities import Quantity


@pytest.fixture(scope="module")
def results():
    return tables.Results(synthetic.shared(), synthetic.params())


@pytest.fixture(scope="module")
def made(results):
    return analyses.all_of(results, statistics())


def statistics():
    """What prepare records, as far as it is used here: fertility rises with the place in the alphabet."""
    made = {}
    for name, training_set in synthetic.params().datasets.items():
        one = {"answer_tokens_per_character": None, "answer_tokens_per_word": None}
        made[name] = {"languages": {code: {"models": {}} for code in training_set.languages}}
        for place, code in enumerate(sorted(training_set.languages)):
            for model in synthetic.MODELS:
                made[name]["languages"][code]["models"][model] = one | {
                    "answer_tokens_per_character": 0.3 + 0.01 * place
                }
    return made


def long_rows(made, name):
    return list(csv.DictReader(io.StringIO(render.to_csv(made[name][0]))))


def test_every_analysis_has_rows_and_a_title(made):
    assert list(made) == ["trainable", "english", "resource", "family", "script", "seen", "fertility"]
    for long, summary in made.values():
        assert long.rows and summary.rows and summary.title
        assert all(len(row) == len(table.header) for table in (long, summary) for row in table.rows)


def test_differences_are_after_minus_before_on_the_same_bits(made, results):
    for row in long_rows(made, "resource"):
        change = float(row["after_value"]) - float(row["before_value"])
        assert float(row["difference_value"]) == pytest.approx(change, abs=1e-9)
    row = long_rows(made, "english")[0]
    bits = int(row["configuration"].split()[1])
    base = results.score(tables.Configuration.base(row["model"], bits), row["column"], ["en"])
    assert float(row["before_value"]) == pytest.approx(base.value)


def test_seen_languages_are_those_of_the_training_set(made, results):
    rows = [row for row in long_rows(made, "seen") if row["column"] == "belebele"]
    counts = {(row["dataset"], row["group"]): int(row["languages"]) for row in rows}
    assert counts["alpaca", "seen"] == 1 and counts["alpaca", "unseen"] == 36
    assert counts["multialpaca", "seen"] == 11 and counts["bactrian-x-22", "seen"] == 22


def test_groups_cover_every_language_once(made):
    for name in ("resource", "family", "script"):
        codes = " ".join(row[1] for row in made[name][1].rows).split()
        assert len(codes) == len(set(codes)) and len(codes) == 40


def test_more_trainable_parameters_are_shown_per_rank_with_every_cell(made):
    assert len(long_rows(made, "trainable")) == 120
    assert [row[1] for row in made["trainable"][1].rows] == ["8", "16", "32", "64", "128"] * 2


def test_a_missing_base_prints_missing(results):
    scores = [score for score in results.collected.scores if score.kind != "base"]
    without = tables.Results(dataclasses.replace(results.collected, scores=scores), synthetic.params())
    assert set(analyses.english(without)[1].rows[0][3:]) == {"missing"}


def test_fertility_needs_three_languages_and_the_record_of_prepare(made, results):
    summary = {(row[0], row[1]): row for row in made["fertility"][1].rows}
    assert summary["mistral-7b", "alpaca"][3:] == ["1", "missing", "missing"]
    assert summary["mistral-7b", "bactrian-x-22"][3] == "22" and "[" in summary["mistral-7b", "bactrian-x-22"][5]
    assert "fertility" not in analyses.all_of(results, {})


def test_rank_correlation_is_spearmans():
    noise = np.array([-0.001, 0.0, 0.001])
    rising = [Quantity(v, v + noise, n=9) for v in (0.1, 0.2, 0.4, 0.3)]
    found = analyses.rank_correlation([1, 2, 3, 4], rising)
    assert found.value == pytest.approx(0.8) and found.interval(0.95).low == pytest.approx(0.8)
    ties = [Quantity(v, v + noise, n=9) for v in (0.1, 0.1, 0.4, 0.3)]
    assert analyses.rank_correlation([1, 2, 3, 4], ties).value == pytest.approx(0.7378648)
    assert analyses.rank_correlation([1, 1, 1, 1], rising).value == 0


def test_the_lift_is_held_against_what_a_language_costs(results):
    """Costs that are the lifts themselves correlate by 1, and languages without a cost are left out."""
    (model, dataset), *_ = results.rows
    configuration = results.chosen(model, dataset, tables.AVERAGE)
    base = tables.Configuration.base(model, configuration.bits)
    codes = results.collected.languages(analyses.PARALLEL)[:6]
    lifts = {
        code: (
            results.score(configuration, analyses.PARALLEL, [code]) - results.score(base, analyses.PARALLEL, [code])
        ).value
        for code in codes
    }
    long, summary = analyses.fertility_lift(results, {model: lifts | {"xx": 9.0}})
    first = next(row for row in summary.rows if row[:2] == [model, dataset])
    assert first[3] == "6" and first[5].startswith("+1.000")
    rows = [row for row in long.rows if row[2:4] == [model, dataset]]
    assert [row[0] for row in rows] == codes and all(float(row[-1]) == lifts[row[0]] for row in rows)
