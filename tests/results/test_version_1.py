"""The profile of the paper's first version: its tables say what it lacks, its claims that one cannot tell."""

import dataclasses
import shutil
from pathlib import Path

import answers
import pytest
import synthetic

from maple import report
from maple.config import bills
from maple.config import params as parameters
from maple.core import storage
from maple.parts import parts
from maple.results import claims, tables
from maple.results import compare as found
from stages import compare, figures
from stages import tables as tables_stage


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


def test_every_stage_after_collect_works_on_it(results, tmp_path, monkeypatch):
    for shared in ("paper_tables/published", "paper_tables/claims.yaml", "profiles", "docs"):
        (tmp_path / shared).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / shared).symlink_to(Path(shared).resolve())
    shutil.copytree(results.collected.folder, tmp_path / results.params.artifacts / "collected")
    monkeypatch.chdir(tmp_path)
    names = list(results.collected.records)
    answers.write(results.params, [names[0], names[-1]])
    storage.write_text(bills.kept_path(results.params), synthetic.bills(names))
    for stage in (tables_stage, figures, compare):
        stage.main(results.params, None)
    page = report.page(results.params)
    assert tables.MISSING in page and "MultiAlpaca" in page
    verdicts = found.from_json(storage.read_json(results.params.regenerated / "compare" / "compare.json"))
    assert {v.verdict for v in verdicts if "alpaca" in v.row and "multialpaca" not in v.row} == {found.MISSING}


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
