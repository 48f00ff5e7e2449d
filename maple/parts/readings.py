"""Table 1 read in two ways: which of its cells move."""

from dataclasses import dataclass

from maple.results.render import Table
from maple.results.tables import Results, rounded

MOVED = 0.02


@dataclass(frozen=True)
class Cell:
    """A cell of Table 1 as the profile has it and under another reading; None where either has no score."""

    row: str
    column: str
    reading: str
    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def moved(self) -> bool:
        return self.difference is not None and abs(self.difference) > MOVED


def compared(reference: Results, others: dict[str, Results]) -> list[Cell]:
    """Every number of ours in Table 1 under each reading; every table chooses its own best configurations."""
    before = reference.table("table1").scores
    cells = []
    for reading, results in others.items():
        after = results.table("table1").scores
        for (row, column), entry in before.items():
            if "." in row and (row, column) in after:
                values = [found.quantity.value if found.quantity else None for found in (entry, after[row, column])]
                cells.append(Cell(row, column, reading, *values))
    return cells


def table(cells: list[Cell], label: str | None) -> Table:
    """The cells that have a score, the difference and whether it is more than MOVED."""
    rows = [
        [
            cell.reading,
            cell.row,
            cell.column,
            rounded(cell.before, 4),
            rounded(cell.after, 4),
            rounded(cell.difference, 4),
            "yes" if cell.moved else "",
        ]
        for cell in cells
        if cell.difference is not None
    ]
    header = [
        "reading",
        "row",
        "column",
        "as the profile has it",
        "under the reading",
        "difference",
        f"moves by > {MOVED}",
    ]
    notes = ["Each reading chooses its own best configurations, as a table made under it would."]
    return Table("Table 1 under other protocols", header, rows, notes=notes, label=label)
