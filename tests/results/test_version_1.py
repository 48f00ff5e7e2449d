"""The profile of the paper's first version: its tables say what it lacks, its claims that one cannot tell."""

import dataclasses

import pytest
import synthetic

from maple import figures
from maple.config import params as parameters
from maple.parts import parts
from maple.results import analyses, claims, published, render, tables


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    params = parameters.load("v1")
    params = dataclasses.replace(params, tables=dataclasses.replace(params.tables, bootstrap_samples=50))
    names = [cell.name for cell in params.cells] + params.grid.bases
    folder = tmp_path_factory.mktemp("v1")
    others = tuple(name for name in synthetic.names() if name not in names)
    whole = synthetic.write(folder / "whole", examples=110, without=others)
    return tables.Results(synthetic.part(whole, params, names, folder / "collected"), params)


def test_table_1_has_the_rows_of_multialpaca_in_five_columns_and_says_missing_elsewhere(results):
    printed = results.table("table1").printed
    ours = {key: text for key, text in printed.items() if "." in key[0]}
    present = {key for key, text in ours.items() if text != tables.MISSING}
    tasks = ("xnli", "xcopa", "xquad", "belebele", "mlqa")
    assert present == {(f"{model}.multialpaca", task) for model in ("llama-2-7b", "mistral-7b") for task in tasks}
    assert len(ours) == 8 * 7 and printed["gpt-4", "xlsum"] == "0.25", "baselines stay as printed"


def test_everything_that_is_made_of_a_grid_is_made_of_this_one(results, tmp_path):
    for name in published.TABLES:
        for text_of in render.FORMATS.values():
            assert text_of(tables.regenerated(results, name))
    assert len(tables.grid_csv(results).rows) == 36 * 8
    assert all(tables.language_tables(results, task)[0].rows for task in results.params.evaluation.tasks)
    assert analyses.all_of(results, {})["trainable"]
    figures.write_all(figures.pictures(results, published.printed("table1")), tmp_path / "figures", label=None)


def test_a_claim_is_judged_where_the_profile_has_its_cells_and_else_says_what_is_missing(results):
    content = claims.load()
    checked = {claim.id: claim for claim in claims.check(content, results)}
    for claim in content["claims"]:
        try:
            parts.of_claim(claim, results.params, content["minimum_examples"])
        except parts.MapleError:
            assert checked[claim["id"]].verdict("ours") == "cannot tell" and checked[claim["id"]].missing("ours")
        else:
            assert any(comparison.quantity for comparison in checked[claim["id"]].ours)
    assert checked["mistral-above-gpt4-and-palm2"].verdict("ours") == "holds", "0.81 and 0.73 by construction"
    assert checked["crosslingual-transfer"].missing("ours")[0] == "our grid has no complete llama-2-7b on alpaca"
