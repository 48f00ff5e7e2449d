"""Table 1 under two readings: which cells move."""

import dataclasses

import pytest
import synthetic

from maple.parts import readings
from maple.results import render, tables


def shifted(collected, task, by):
    """The same records with one task's scores moved, replicates left as they are."""
    moved = [dataclasses.replace(s, value=s.value + by) if s.task == task else s for s in collected.scores]
    return tables.Results(dataclasses.replace(collected, scores=moved), synthetic.params(best="cell"))


@pytest.fixture(scope="module")
def reference():
    return tables.Results(synthetic.shared(), synthetic.params(best="cell"))


def test_a_cell_moves_when_it_differs_by_more_than_two_hundredths(reference):
    others = {"more": shifted(synthetic.shared(), "mlqa", 0.03), "little": shifted(synthetic.shared(), "mlqa", -0.019)}
    cells = readings.compared(reference, others)
    moved = {(cell.reading, cell.column) for cell in cells if cell.moved}
    assert moved == {("more", "mlqa")} and sum(cell.moved for cell in cells) == 8
    assert {cell.row for cell in cells} == {f"{m}.{d}" for m in synthetic.MODELS for d in synthetic.DATASETS}
    assert all(cell.difference == pytest.approx(0.03) for cell in cells if cell.moved)
    text = render.to_markdown(readings.table([cell for cell in cells if cell.moved], None))
    assert text.count("| yes |") == 8


def test_a_score_that_either_lacks_does_not_move_and_is_not_listed(reference):
    without = dataclasses.replace(
        synthetic.shared(), scores=[s for s in synthetic.shared().scores if s.task != "xlsum"]
    )
    cells = readings.compared(reference, {"less": tables.Results(without, synthetic.params(best="cell"))})
    assert not any(cell.moved for cell in cells)
    listed = {row[2] for row in readings.table(cells, None).rows}
    assert "xlsum" not in listed and "average" not in listed and "xnli" in listed
