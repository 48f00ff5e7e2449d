"""Tables: the paper's verbatim, ours from records by a stated rule."""

import csv
import dataclasses
import doctest
import io
from decimal import Decimal

import pytest
import synthetic

from maple.results import published, render, tables
from maple.results.collect import Collected
from maple.results.published import FOLDER


@pytest.fixture(scope="module")
def grid() -> Collected:
    return synthetic.shared()


@pytest.fixture(scope="module")
def results(grid):
    return tables.Results(grid, synthetic.params())


def rows_of(table):
    return list(csv.reader(io.StringIO(render.to_csv(table))))


# -- The paper's tables


@pytest.mark.parametrize("name", published.TABLES)
@pytest.mark.parametrize("suffix", render.FORMATS)
def test_the_published_numbers_come_out_byte_for_byte(name, suffix):
    """table*.csv is a transcription made apart from cells.csv; Markdown and LaTeX are what the same function prints."""
    assert (FOLDER / "tables" / f"{name}.{suffix}").read_bytes() == render.FORMATS[suffix](
        tables.printed(name)
    ).encode()


def test_every_published_cell_has_a_place_digits_and_a_home_in_the_layout():
    for (name, row, column), cell in published.cells().items():
        layout = published.layout(name)
        assert row in {r.key for r in layout.rows} and column in {c.key for c in layout.columns} and cell.where
        if cell.number is None:
            assert cell.value == "NA" and cell.digits is None
        else:
            assert -cell.number.as_tuple().exponent == cell.digits


def test_the_notes_on_published_averages_are_true():
    """FACTS of the printed averages: which do not follow from the printed cells by rounding half up."""
    layout, printed, odd = published.layout("table1"), published.printed("table1"), set()
    for row in layout.rows:
        numbers = [published.number(printed[row.key, task]) for task in layout.tasks]
        numbers = [n for n in numbers if n is not None]
        mean = tables.rounded(float(sum(numbers) / len(numbers)), 2)
        if mean != printed[row.key, "average"]:
            odd.add(row.key)
    assert odd == {"mistral-7b-instruct", "palm2", "mistral-7b.alpaca"}
    assert all(published.cells()["table1", row, "average"].note for row in odd)


def test_an_unknown_table_is_named_with_the_nearest_known():
    with pytest.raises(Exception, match="did you mean 'table1'"):
        published.layout("tabel1")


# -- Ours


def test_the_docstring_examples_are_true():
    assert doctest.testmod(tables).failed == 0


def test_ours_has_the_papers_rows_first_then_the_experiment(results):
    ours, theirs = rows_of(tables.regenerated(results, "table1")), rows_of(tables.printed("table1"))
    assert ours[0] == theirs[0]
    assert [row[:2] for row in ours[: len(theirs)]] == [row[:2] for row in theirs]
    assert ours[1:5] == theirs[1:5], "baselines are quoted"
    assert ours[len(theirs) :][0][:2] == ["experiment: Mistral-7b", "Bactrian-X-11 r24 4 bits"]
    assert all(len(Decimal(value).as_tuple().digits) >= 1 for row in ours[5:] for value in row[2:])


def test_best_per_row_takes_the_best_average_and_best_per_cell_is_never_lower(grid):
    by_row = tables.Results(grid, synthetic.params(best="row"))
    by_cell = tables.Results(grid, synthetic.params(best="cell"))
    for model, dataset in by_row.rows:
        chosen = by_row.chosen(model, dataset, "xnli")
        assert chosen == by_row.chosen(model, dataset, "mlqa"), "one configuration for the row"
        averages = {c: by_row.score(c, "average").value for c in by_row.rows[model, dataset]}
        assert averages[chosen] == max(averages.values())
        for task in tables.PAPER_TASKS:
            best = by_cell.score(by_cell.chosen(model, dataset, task), task).value
            assert best >= by_row.score(chosen, task).value
    row = by_cell.table("table1").scores
    cells = [row["mistral-7b.alpaca", task].quantity.value for task in tables.PAPER_TASKS]
    assert row["mistral-7b.alpaca", "average"].quantity.value == pytest.approx(sum(cells) / 6)


def test_best_by_heldout_loss_ignores_the_test_scores(grid):
    results = tables.Results(grid, synthetic.params(best="heldout"))
    assert {results.chosen(*row, "xnli").rank for row in results.rows} == {128}, (
        "the lowest loss in the synthetic records"
    )


def test_equal_scores_choose_the_cheaper_configuration(grid):
    scores = [dataclasses.replace(s, value=0.5) for s in grid.scores]
    results = tables.Results(dataclasses.replace(grid, scores=scores), synthetic.params())
    chosen = results.chosen("mistral-7b", "alpaca", "average")
    assert (chosen.rank, chosen.bits) == (8, 4)


def test_a_missing_cell_prints_missing_and_never_enters_a_mean(tmp_path):
    gone = [
        cell.name for cell in synthetic.params().cells if cell.dataset == "alpaca" and cell.base.model == "mistral-7b"
    ]
    written = synthetic.write(tmp_path, examples=10, without=tuple(gone))
    row = rows_of(tables.regenerated(tables.Results(written, synthetic.params(accept_missing=True)), "table1"))[12]
    assert row == ["", "alpaca"] + ["missing"] * 7


def test_one_missing_language_makes_the_average_missing_and_not_smaller(grid):
    name = "experiment"
    scores = [s for s in grid.scores if not (s.name == name and s.task == "xnli" and s.language == "de")]
    row = tables.Results(dataclasses.replace(grid, scores=scores), synthetic.params()).table("table1").printed
    assert row[name, "xnli"] == row[name, "average"] == "missing" != row[name, "xcopa"]


def test_replicate_seeds_are_averaged_and_their_range_is_shown(grid, results):
    """The experiment's scores stand in for a second seed of one cell."""
    first, second = "mistral-7b-4bit.alpaca.r8.s42", "mistral-7b-4bit.alpaca.r8.s43"
    configuration = tables.Configuration(8, 4, (first, "experiment"))
    one, other = (
        results.score(dataclasses.replace(configuration, names=(n,)), "xnli").value for n in configuration.names
    )
    assert results.score(configuration, "xnli").value == pytest.approx((one + other) / 2)
    assert results.spread(configuration, "xnli") == pytest.approx(abs(one - other))
    params = synthetic.params()
    seeds = dataclasses.replace(params, grid=dataclasses.replace(params.grid, seeds=[42, 43]))
    assert tables.Results(grid, seeds).rows["mistral-7b", "alpaca"][0].names == (first, second)


def test_a_row_that_the_paper_does_not_have_is_added_below(grid):
    params = synthetic.params()
    grid_of_one_more = dataclasses.replace(params.grid, datasets=[*params.grid.datasets, "dolly"])
    results = tables.Results(grid, dataclasses.replace(params, grid=grid_of_one_more))
    assert ["Mistral-7b", "dolly"] in [row[:2] for row in rows_of(tables.regenerated(results, "table1"))]


def test_average_rounding_is_decimal_and_follows_the_parameter():
    assert tables.rounded(0.685, 2) == "0.69" and tables.rounded(0.685, 2, rule="half-even") == "0.68"
    assert tables.rounded(0.525, 2) == "0.53" and tables.rounded(0.135, 1, scale=100) == "13.5"


def test_table_2_shows_rank_bits_and_percent(results):
    row = rows_of(tables.regenerated(results, "table2"))[9]
    assert row[0] == "Mistral-7B" and int(row[2]) in synthetic.RANKS and int(row[3]) in synthetic.BITS
    assert 1 < float(row[4]) < 100 and len(row[4].split(".")[1]) == 2


def test_every_file_of_a_smoke_profile_says_smoke(grid):
    params = dataclasses.replace(synthetic.params(), profile="smoke", sources="smoke")
    results = tables.Results(grid, params)
    made = [tables.regenerated(results, "table1"), tables.grid_csv(results), tables.cells_csv(results, "table2")]
    made += tables.language_tables(results, "xquad")
    for table in made:
        assert all("SMOKE" in text_of(table) for text_of in render.FORMATS.values())
        assert {row[-1] for row in rows_of(table)[1:]} == {"SMOKE"}


def test_a_stand_in_judge_is_named_in_table_2(grid):
    params = synthetic.params()
    stand_in = dataclasses.replace(params, judge=dataclasses.replace(params.judge, annotator="stand-in"))
    table = tables.regenerated(tables.Results(grid, stand_in), "table2")
    assert "STAND-IN" in render.to_csv(table) and "STAND-IN" in render.to_markdown(table)
    assert "STAND-IN" not in render.to_csv(tables.regenerated(tables.Results(grid, stand_in), "table1"))


def test_the_address_of_another_endpoint_stands_under_table_2(grid):
    scores = [
        dataclasses.replace(s, signature="gpt4:davinci@http://localhost/v1") if s.task == "alpaca_eval" else s
        for s in grid.scores
    ]
    table = tables.regenerated(tables.Results(dataclasses.replace(grid, scores=scores), synthetic.params()), "table2")
    assert "asked at http://localhost/v1" in render.to_markdown(table)


def test_language_tables_have_every_language_with_base_rows_and_experiment(results):
    long, wide = tables.language_tables(results, "belebele")
    assert len(wide.rows) == 37 and len(wide.header) == 3 + 2 * 5 + 1
    assert len(long.rows) == 37 * 11
    row = dict(zip(long.header, long.rows[0], strict=True))
    assert float(row["low"]) <= float(row["value"]) <= float(row["high"]) and row["chance"] == "0.25"


def test_markdown_and_latex_escape_what_they_must():
    table = render.Table("100 % of_it", ["a|b", "c"], [["x & y", "1"]], label="SMOKE: x")
    assert r"a\|b" in render.to_markdown(table) and "| --- | ---: |" in render.to_markdown(table)
    assert r"x \& y & 1 \\" in render.to_latex(table) and r"SMOKE: x. 100 \% of\_it" in render.to_latex(table)
