"""Verdicts per cell, their tolerance, and the exit code."""

import csv
import dataclasses
import re
import shutil
import subprocess
import sys
import time

import pytest
import synthetic

import stages.compare
import stages.tables
from maple.config.params import Params
from maple.core import storage
from maple.core.errors import MapleError
from maple.results import compare, published, render, tables

PUBLISHED = published.FOLDER / "tables"


def write_ours(folder, params=None):
    results = tables.Results(synthetic.shared(), params or synthetic.params())
    for name in published.TABLES:
        storage.write_text(folder / f"{name}.csv", render.to_csv(tables.regenerated(results, name)))
        storage.write_text(folder / "details" / f"{name}_cells.csv", render.to_csv(tables.cells_csv(results, name)))
    storage.write_text(folder / "details" / "grid.csv", render.to_csv(tables.grid_csv(results)))
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return write_ours(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(PUBLISHED, tmp_path / "copy")


def verdict_of(verdicts, table, row, column):
    return next(v for v in verdicts if (v.table, v.row, v.column) == (table, row, column))


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "stages.verdict", *map(str, arguments)], capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


# -- Published against published


def test_the_published_tables_against_themselves_are_all_same_and_exit_0():
    verdicts = compare.folders(PUBLISHED, PUBLISHED)
    assert {v.verdict for v in verdicts} == {"same"} and len(verdicts) == len(published.cells())
    assert run(PUBLISHED, PUBLISHED) == (0, "112 same\n")


@pytest.mark.parametrize(
    "table, old, new",
    [
        ("table1", "0.53,0.59,0.79", "0.53,0.59,0.78"),
        ("table1", "GPT-4,NA,0.75", "GPT-4,NA,0.76"),
        ("table2", "24.47", "24.48"),
    ],
)
def test_one_changed_digit_differs_and_exits_1(copy, table, old, new):
    change(copy / f"{table}.csv", old, new)
    code, said = run(PUBLISHED, copy)
    assert code == 1 and "1 differs, 111 same" in said and f"differs: {table}" in said


def test_a_missing_cell_exits_2_and_a_difference_outranks_it(copy):
    change(copy / "table1.csv", "0.53,0.59,0.79", "missing,0.59,0.79")
    assert run(PUBLISHED, copy)[0] == 2
    change(copy / "table2.csv", "24.47", "24.48")
    assert run(PUBLISHED, copy)[0] == 1


@pytest.mark.parametrize("damage", ["gone", "header", "row", "order"])
def test_what_cannot_be_compared_exits_3_with_what_why_and_do(copy, damage):
    path = copy / "table1.csv"
    if damage == "gone":
        path.unlink()
    else:
        old, new = {"header": ("xnli", "XNLI"), "row": ("0.75,", ""), "order": ("PaLM2", "PaLM3")}[damage]
        change(path, old, new)
    code, said = run(PUBLISHED, copy)
    assert code == 3 and "why:" in said and "do:" in said and str(path) in said
    with pytest.raises(MapleError):
        compare.folders(PUBLISHED, copy)


# -- Ours against published


def test_baselines_are_quoted_and_every_other_cell_has_a_verdict_with_its_tolerance(ours):
    verdicts = compare.folders(PUBLISHED, ours)
    assert len(verdicts) == len(published.cells())
    for v in verdicts:
        if "." not in v.row:
            assert v.verdict == "quoted"
        else:
            assert v.verdict in ("same", "consistent", "differs") and v.tolerance
    assert compare.exit_code(verdicts) == 1


def test_consistent_means_inside_print_rounding_plus_interval_and_differs_means_outside(ours):
    found = set()
    for v in compare.folders(PUBLISHED, ours):
        if v.low is not None and v.verdict != "same":
            found.add(v.verdict)
            assert (v.low <= float(v.published) <= v.high) == (v.verdict == "consistent")
            assert float(v.difference) == pytest.approx(float(v.ours) - float(v.published))
    assert found == {"consistent", "differs"}


def test_print_rounding_alone_is_half_a_unit_of_the_last_digit(ours):
    with open(ours / "details" / "table1_cells.csv", newline="") as file:
        detail = next(
            row for row in csv.DictReader(file) if (row["row"], row["column"]) == ("mistral-7b.alpaca", "xquad")
        )
    v = verdict_of(compare.folders(PUBLISHED, ours), "table1", "mistral-7b.alpaca", "xquad")
    assert v.low == pytest.approx(float(detail["low"]) - 0.005) and v.high == pytest.approx(
        float(detail["high"]) + 0.005
    )


@pytest.mark.parametrize(
    "name, spoil, why",
    [
        ("table1_cells.csv", lambda text: text.replace(",low,", ",lower,", 1), "its header lacks low"),
        ("table1_cells.csv", lambda text: text[: text.rindex(",")], "has no end"),
        ("table2_cells.csv", lambda text: re.sub(r"(0\.\d{6},)", "nan,", text, count=1), "is nan"),
        ("grid.csv", lambda text: re.sub(r"(0\.\d{6},)", "half,", text, count=1), "half"),
        ("grid.csv", lambda text: "", "it is empty"),
    ],
)
def test_a_damaged_table_of_details_is_refused_not_taken_for_another_verdict(ours, tmp_path, name, spoil, why):
    folder = shutil.copytree(ours, tmp_path / "ours")
    path = folder / "details" / name
    text = path.read_text()
    assert spoil(text) != text
    path.write_text(spoil(text))
    with pytest.raises(MapleError, match=f"cannot read .*{name}") as error:
        compare.folders(PUBLISHED, folder)
    assert why in error.value.why and error.value.code == compare.COULD_NOT_RUN


def test_a_score_whose_interval_reaches_chance_is_marked(ours):
    verdicts = compare.folders(PUBLISHED, ours)
    marked = {(v.row, v.column) for v in verdicts if v.at_chance}
    assert ("llama-2-7b.alpaca", "xnli") in marked and ("mistral-7b.alpaca", "xnli") not in marked
    assert not {column for _, column in marked} & {"xquad", "mlqa", "xlsum", "average", "winrate"}, (
        "no chance level there"
    )
    assert verdict_of(verdicts, "table1", "llama-2-7b.alpaca", "xnli").published_at_chance


def test_another_best_rank_is_consistent_when_noise_could_explain_the_choice(ours):
    choices = [
        v for v in compare.folders(PUBLISHED, ours) if v.column in ("rank", "quantisation") and v.verdict != "same"
    ]
    assert choices and {v.verdict for v in choices} == {"consistent"}, "30 examples cannot tell 15 configurations apart"
    assert all("our interval at r" in v.tolerance for v in choices)


def test_smoke_is_never_compared_and_exits_0(tmp_path):
    params = dataclasses.replace(synthetic.params(), profile="smoke", sources="smoke")
    write_ours(tmp_path, params)
    verdicts = compare.folders(PUBLISHED, tmp_path)
    assert {v.verdict for v in verdicts} == {"not comparable (smoke)"}
    assert run(PUBLISHED, tmp_path)[0] == 0


def test_a_stand_in_judge_leaves_table_2_incomplete(tmp_path):
    params = synthetic.params()
    write_ours(tmp_path, dataclasses.replace(params, judge=dataclasses.replace(params.judge, annotator="stand-in")))
    verdicts = [v for v in compare.folders(PUBLISHED, tmp_path) if v.table == "table2"]
    assert {v.verdict for v in verdicts} == {"not comparable (stand-in judge)"}
    assert compare.exit_code(verdicts) == compare.INCOMPLETE


def test_json_reads_back_and_markdown_puts_differences_first(ours):
    verdicts = compare.folders(PUBLISHED, ours)
    content = compare.as_json("paper", verdicts)
    assert compare.from_json(content) == verdicts and content["exit_code"] == 1
    table = [line for line in compare.as_markdown(verdicts, None).splitlines() if line.startswith("| llama")]
    assert " differs " in table[0]
    assert sum(content["summary"]["table1"].values()) == 84


def test_the_stages_write_everything_twice_the_same_within_the_budget(tmp_path, monkeypatch, capsys):
    """A full paper-size grid of 40 languages; 15 seconds is what tables, comparison and claims may take."""
    monkeypatch.setattr(Params, "artifacts", tmp_path)
    (tmp_path / "collected").symlink_to(synthetic.shared().folder)
    made = []
    for turn in ("first", "second"):
        monkeypatch.setattr(Params, "regenerated", tmp_path / turn)
        start = time.process_time()
        for stage in (stages.tables, stages.compare):
            stage.main(synthetic.params(), None)
        assert time.process_time() - start < 15
        files = sorted(path for path in (tmp_path / turn).rglob("*") if path.is_file())
        made.append({str(path.relative_to(tmp_path / turn)): path.read_bytes() for path in files})
    assert made[0] == made[1] and {"tables/table1.csv", "compare/compare.json", "compare/claims.json"} < set(made[0])
    assert "differs" in capsys.readouterr().out


def test_the_notes_on_oddities_travel_with_the_cell(ours):
    v = verdict_of(compare.folders(PUBLISHED, ours), "table2", "llama-2-70b-chat", "winrate")
    assert "in no AlpacaEval leaderboard" in v.note and v.where == "poster, Table 2, row 3"
