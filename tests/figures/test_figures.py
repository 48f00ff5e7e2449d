"""Figures: numbers, words and pictures of a made-up full grid, and of grids with holes."""

import csv
import dataclasses
import xml.etree.ElementTree as xml

import pytest
import synthetic

from maple import figures
from maple.figures import choice, figure1, figure2, figure3, figure4, style
from maple.results import collect, published, tables
from maple.results.tables import AVERAGE, PAPER_TASKS
from maple.upstream import languages

LACKS_XNLI = "mistral-7b-16bit.alpaca.r128.s42"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collected")
    synthetic.write(folder, examples=12, without=("llama-2-7b-8bit.alpaca.r8.s42",))
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return tables.Results(collect.load(folder), synthetic.params())


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "paper"
    figures.write_all(figures.pictures(results, published.printed("table1")), folder, label=None)
    return folder


def with_scores(folder, keep):
    """Results of the records in `folder` with only the scores that `keep` accepts."""
    found = collect.load(folder)
    return tables.Results(dataclasses.replace(found, scores=[s for s in found.scores if keep(s)]), synthetic.params())


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_has_numbers_words_and_two_pictures(written):
    names = {"figure1", "figure2", "figure2-published", "figure3", "figure4"}
    assert {path.name for path in written.iterdir()} == {
        f"{n}.{e}" for n in names for e in ("csv", "svg", "png", "txt")
    }


def test_equal_numbers_give_equal_bytes(results, written, tmp_path):
    figures.write_all([figure1.picture(results), figure3.picture(results)], tmp_path / "again", label=None)
    for path in sorted((tmp_path / "again").iterdir()):
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def test_every_value_lies_inside_its_interval(written):
    for path in written.glob("*.csv"):
        for row in rows(path):
            if row["low"]:
                assert float(row["low"]) <= float(row["value"]) <= float(row["high"]), (path.name, row)


def test_figure_1_has_one_row_per_configuration_and_says_how_many_cells_are_behind_a_mean(results):
    found = figure1.numbers(results)
    cells = [row for row in found if row["bits"] != figure1.ALL]
    means = {(row["model"], row["dataset"]): row for row in found if row["bits"] == figure1.ALL}
    assert len(cells) == 119 and len(means) == 8
    assert means["llama-2-7b", "alpaca"]["cells"] == 14, "the missing cell is not counted as 0"
    mine = [row["value"] for row in cells if (row["model"], row["dataset"]) == ("mistral-7b", "alpaca")]
    assert means["mistral-7b", "alpaca"]["value"] == pytest.approx(sum(mine) / 15)


def test_a_configuration_that_lacks_a_task_has_no_average_and_is_not_chosen(folder):
    results = with_scores(folder, lambda s: not (s.name == LACKS_XNLI and s.task == "xnli"))
    assert LACKS_XNLI not in results.chosen("mistral-7b", "alpaca", AVERAGE).names
    assert {row["cells"] for row in figure1.numbers(results) if row["bits"] == figure1.ALL} == {14, 15}


def test_the_published_figure_2_holds_table_1s_numbers_and_no_interval():
    found = figure2.published_picture(published.printed("table1"), {"xnli": 1 / 3}).rows
    values = {(row["system"], row["task"]): row["value"] for row in found}
    assert len(found) == 6 * len(PAPER_TASKS)
    assert values["GPT-4", "xcopa"] == 0.90
    assert values["Mistral-7B-Instruct", "xlsum"] is None, "NA is no number"
    assert values["Mistral-7B finetuned", "mlqa"] == 0.70 and values["Llama-2-7B finetuned", "xquad"] == 0.64
    assert all(row["low"] is None and row["origin"] == "published" for row in found)


def test_figure_2_shows_one_cell_per_model_by_row_and_the_best_cell_per_task_by_cell(folder, results):
    printed = published.printed("table1")
    other = tables.Results(collect.load(folder), synthetic.params(best="cell"))
    by_row = [row for row in figure2.numbers(results, printed) if row["origin"] == "ours"]
    by_cell = [row for row in figure2.numbers(other, printed) if row["origin"] == "ours"]
    assert len({row["name"] for row in by_row}) == 2
    for one, best in zip(by_row, by_cell, strict=True):
        assert best["value"] >= one["value"]


def test_figure_3_groups_are_the_papers_sizes_on_the_full_grid(results):
    found = figure3.numbers(results)
    sizes = {row["group"]: len(row["languages"].split()) for row in found}
    assert sizes == {1: 11, 2: 11, 3: 13}
    assert {row["dataset"] for row in found} == {*style.TRAINING_SETS, style.NO_TRAINING}
    assert all(languages.table()[code].group == row["group"] for row in found for code in row["languages"].split())


def test_figure_4_keeps_the_papers_order_and_leaves_chinese_out(results):
    found = figure4.numbers(results)
    assert [row["language"] for row in found][:11] == list(figure4.LANGUAGES)
    primary = results.collected.primary()
    for shown in choice.shown(results, "xquad"):
        mine = [row for row in found if (row["model"], row["dataset"]) == (shown.model, shown.dataset)]
        expected = [primary[shown.configuration.names[0], "xquad", code].value for code in figure4.LANGUAGES]
        assert [row["value"] for row in mine] == pytest.approx(expected)


def test_every_drawing_has_a_title_a_description_and_no_id_of_its_own_that_another_has(written):
    seen = set()
    for path in sorted(written.glob("*.svg")):
        drawing = xml.parse(path).getroot()
        names = drawing.attrib["aria-labelledby"].split()
        ids = {element.attrib["id"] for element in drawing.iter() if "id" in element.attrib}
        assert set(names) <= ids and not ids & seen, path.name
        assert drawing.attrib["role"] == "img"
        assert "date" not in path.read_text().lower().split("<style")[0]
        seen |= ids


def test_smoke_is_written_on_everything(results, tmp_path):
    figures.write_all(
        [figure2.published_picture(published.printed("table1"), {"xnli": 1 / 3})], tmp_path / "smoke", tables.SMOKE
    )
    for name in ("figure2-published.csv", "figure2-published.svg", "figure2-published.txt"):
        assert "SMOKE" in (tmp_path / "smoke" / name).read_text(encoding="utf-8")
    assert all(row["note"] == "SMOKE" for row in rows(tmp_path / "smoke" / "figure2-published.csv"))


def test_a_grid_without_any_complete_cell_still_draws(folder, tmp_path):
    results = with_scores(folder, lambda s: s.kind == "base")
    assert figures.write_all([figure1.picture(results), figure4.picture(results)], tmp_path / "out", label=None)
    assert "no configuration has every task" in (tmp_path / "out" / "figure1.txt").read_text()


def test_training_sets_beyond_the_papers_get_a_look_of_their_own():
    looks = style.look(style.training_sets({"alpaca", "zulu-set", "multialpaca"}))
    assert list(looks) == ["multialpaca", "alpaca", "zulu-set"]
    assert len(set(looks.values())) == 3


def test_an_interval_that_misses_its_value_by_rounding_has_no_negative_length():
    row = {"value": 0.030769230769, "low": 0.03076923266, "high": 0.03076923266}
    assert min(sum(style.errors([row]), [])) == 0
