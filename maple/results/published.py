"""The paper's own numbers and layout, from paper_tables/published: strings as printed, never corrected."""

import csv
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path

import yaml

from maple.core.errors import MapleError, nearest

FOLDER = Path("paper_tables", "published")
TABLES = ("table1", "table2")


@dataclass(frozen=True)
class Column:
    """`task` is None for the average and for columns that are no score."""

    key: str
    header: str
    task: str | None


@dataclass(frozen=True)
class Row:
    """`key` is a baseline's name or model.dataset; `printed` its label cells, where a blank repeats the one above."""

    key: str
    printed: tuple[str, ...]
    baseline: bool = False


@dataclass(frozen=True)
class TableLayout:
    """How a table is printed. `scale` is 100 for scores in percent; a rule stands before the rows in `rules`."""

    name: str
    heading: str
    caption: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    rules: tuple[str, ...]
    digits: int
    scale: int
    notes: tuple[str, ...]

    @property
    def tasks(self) -> list[str]:
        return [column.task for column in self.columns if column.task]


@dataclass(frozen=True)
class Cell:
    """One printed cell; `value` is exactly the printed string, `digits` those after the point, None for text."""

    table: str
    row: str
    column: str
    value: str
    digits: int | None
    where: str
    note: str

    @property
    def number(self) -> Decimal | None:
        return number(self.value)

    @property
    def rounding(self) -> Decimal:
        """The most by which printing can have moved the number: half a unit of the last digit."""
        return Decimal(5).scaleb(-(self.digits or 0) - 1)


def number(text: str) -> Decimal | None:
    """The printed number, or None for NA, missing and blanks."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


@cache
def paper(folder: Path = FOLDER) -> dict:
    return yaml.safe_load((folder / "paper.yaml").read_text(encoding="utf-8"))


@cache
def layout(table: str, folder: Path = FOLDER) -> TableLayout:
    known = paper(folder)["tables"]
    if table not in known:
        raise MapleError(
            f"the paper has no '{table}'", why="paper.yaml lists the tables it prints", do=nearest(table, known)
        )
    found = dict(known[table])
    return TableLayout(
        name=table,
        heading=found["heading"],
        caption=found["caption"],
        labels=tuple(found["labels"]),
        columns=tuple(Column(**column) for column in found["columns"]),
        rows=tuple(Row(row["key"], tuple(row["printed"]), row.get("baseline", False)) for row in found["rows"]),
        rules=tuple(found["rules"]),
        digits=found["digits"],
        scale=found["scale"],
        notes=tuple(found["notes"]),
    )


@cache
def cells(folder: Path = FOLDER) -> dict[tuple[str, str, str], Cell]:
    """(table, row, column) -> printed cell; blank cells have no entry."""
    with open(folder / "cells.csv", encoding="utf-8", newline="") as file:
        rows = [
            Cell(**{**row, "digits": int(row["digits"]) if row["digits"] else None}) for row in csv.DictReader(file)
        ]
    return {(cell.table, cell.row, cell.column): cell for cell in rows}


def printed(table: str, folder: Path = FOLDER) -> dict[tuple[str, str], str]:
    """(row, column) -> string as printed, for one table."""
    return {(row, column): cell.value for (name, row, column), cell in cells(folder).items() if name == table}
