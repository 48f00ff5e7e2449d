"""Two folders of tables, cell by cell: the paper's and ours, or any two with the paper's layout.

Verdicts: `same` (equal as printed), `consistent` (the other number lies inside print rounding plus our interval),
`differs`, `missing`; `quoted` for baseline rows, which we repeat and do not run; `not comparable (...)` where the
folder's own label says so. Intervals are read from details/ of the second folder; without them only equal digits
are consistent. The paper's numbers and ours are both chosen as the best of many, so what the choice lifts them by
(details/*_choice.md) is taken off neither.
"""

import csv
import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from maple.core import storage
from maple.core.errors import MapleError
from maple.results import published
from maple.results.published import Column, Row, TableLayout, number
from maple.results.render import Table, to_markdown

SAME, CONSISTENT, DIFFERS, MISSING, QUOTED, NOT_COMPARABLE = (
    "same",
    "consistent",
    "differs",
    "missing",
    "quoted",
    "not comparable",
)
# What is read of the tables of details.
CELL_COLUMNS = ("row", "column", "value", "low", "high", "chance")
GRID_COLUMNS = ("kind", "model", "dataset", "rank", "bits", "column", "value", "low", "high")
# What the exit code of `make compare` says.
AGREES, FAILED, INCOMPLETE, COULD_NOT_RUN = 0, 1, 2, 3


@dataclass(frozen=True)
class Verdict:
    """One cell. Numbers are in the table's printed unit; `low` and `high` already include print rounding."""

    table: str
    row: str
    column: str
    published: str
    ours: str
    verdict: str
    difference: str | None = None
    low: float | None = None
    high: float | None = None
    tolerance: str = "equal digits"
    at_chance: bool = False
    published_at_chance: bool = False
    where: str = ""
    note: str = ""


def folders(first: Path, second: Path) -> list[Verdict]:
    """Verdicts for every cell of both tables; MapleError (exit code 3) when one is absent or has another layout."""
    return [
        verdict for name in published.TABLES for verdict in _table(published.layout(name), Path(first), Path(second))
    ]


def _table(layout: TableLayout, first: Path, second: Path) -> list[Verdict]:
    theirs, _ = _read(layout, first / f"{layout.name}.csv")
    ours, label = _read(layout, second / f"{layout.name}.csv")
    details = _details(second / "details" / f"{layout.name}_cells.csv", CELL_COLUMNS)
    grid = _details(second / "details" / "grid.csv", GRID_COLUMNS) if details else []
    known = {(row["row"], row["column"]): row for row in details}
    verdicts = []
    for place, row in enumerate(layout.rows):
        for column in layout.columns:
            cell = published.cells().get((layout.name, row.key, column.key))
            there = theirs[place][column.key]
            if there == "":
                continue
            here = ours[place][column.key] if place < len(ours) else MISSING
            detail = known.get((row.key, column.key))
            found = _judge(layout, row, column, there, here, detail, grid, quoted=row.baseline and bool(details))
            if label:
                found = dataclasses.replace(found, verdict=f"{NOT_COMPARABLE} ({label.lower()})")
            verdicts.append(
                dataclasses.replace(found, where=cell.where if cell else "", note=cell.note if cell else "")
            )
    return verdicts


def _judge(
    layout: TableLayout,
    row: Row,
    column: Column,
    there: str,
    here: str,
    detail: dict | None,
    grid: list[dict],
    quoted: bool,
) -> Verdict:
    verdict = Verdict(layout.name, row.key, column.key, there, here, DIFFERS)
    theirs, ours = number(there), number(here)
    if theirs is not None and ours is not None:
        verdict = dataclasses.replace(verdict, difference=f"{ours - theirs:+}")
    if detail and detail["low"] and theirs is not None:
        verdict = _with_interval(verdict, layout, detail, theirs)
    if here == MISSING or here == "":
        return dataclasses.replace(verdict, verdict=MISSING)
    if quoted and there == here:
        return dataclasses.replace(verdict, verdict=QUOTED, tolerance="not run here")
    if there == here:
        return dataclasses.replace(verdict, verdict=SAME)
    if verdict.low is not None and verdict.low <= float(theirs) <= verdict.high:
        return dataclasses.replace(verdict, verdict=CONSISTENT)
    if column.key in ("rank", "quantisation") and grid:
        return _choice(verdict, row, grid)
    return verdict


def _with_interval(verdict: Verdict, layout: TableLayout, detail: dict, theirs: Decimal) -> Verdict:
    rounding = 0.5 * 10.0 ** theirs.as_tuple().exponent
    value, low, high = (float(detail[key]) * layout.scale for key in ("value", "low", "high"))
    chance = float(detail["chance"]) * layout.scale if detail["chance"] else None
    return dataclasses.replace(
        verdict,
        low=round(low - rounding, 6),
        high=round(high + rounding, 6),
        tolerance=f"-{value - low:.4f} +{high - value:.4f} interval, {rounding:g} rounding",
        at_chance=chance is not None and low <= chance,
        # The paper gives no n: its noise is taken to be ours.
        published_at_chance=chance is not None and float(theirs) - (value - low) - rounding <= chance,
    )


def _choice(verdict: Verdict, row: Row, grid: list[dict]) -> Verdict:
    """The best configuration is not the paper's: consistent if ours cannot tell the two apart by win rate."""
    model, dataset = row.key.split(".", 1)
    printed = {key: published.cells()[verdict.table, row.key, key].value for key in ("rank", "quantisation")}
    scored = [
        g
        for g in grid
        if (g["column"], g["kind"], g["model"], g["dataset"]) == ("alpaca_eval", "cell", model, dataset) and g["low"]
    ]
    at_theirs = [g for g in scored if (g["rank"], g["bits"]) == (printed["rank"], printed["quantisation"])]
    if not at_theirs:
        return dataclasses.replace(verdict, tolerance="the paper's configuration was not run")
    best, high = max(float(g["value"]) for g in scored), max(float(g["high"]) for g in at_theirs)
    tolerance = (
        f"our interval at r{printed['rank']}, {printed['quantisation']} bits reaches {high:.4f}, our best is {best:.4f}"
    )
    return dataclasses.replace(verdict, verdict=CONSISTENT if high >= best else DIFFERS, tolerance=tolerance)


def _read(layout: TableLayout, path: Path) -> tuple[list[dict[str, str]], str | None]:
    """Rows as {column key: string}, and the label in the `note` column if there is one."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise MapleError(
            f"cannot read {path}", why=str(error), do="run `dvc repro` to make the tables", code=COULD_NOT_RUN
        ) from error
    expected = [*layout.labels, *(column.header for column in layout.columns)]
    if header[: len(expected)] != expected or any(len(row) != len(header) for row in rows):
        raise MapleError(
            f"{path} does not have the layout of {layout.name}",
            why=f"the header should be {','.join(expected)} and every row as long",
            do="make it with `python -m stages.tables`",
            code=COULD_NOT_RUN,
        )
    for place, row in enumerate(layout.rows[: len(rows)]):
        if tuple(rows[place][: len(layout.labels)]) != row.printed:
            raise MapleError(
                f"{path}, row {place + 1} is {rows[place][: len(layout.labels)]}",
                why=f"the paper's row there is {list(row.printed)}",
                do="keep the paper's rows first and in its order",
                code=COULD_NOT_RUN,
            )
    keys = [column.key for column in layout.columns]
    values = [dict(zip(keys, row[len(layout.labels) :], strict=False)) for row in rows]
    return values, rows[0][-1] if rows and header[-1] == "note" else None


def _details(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a table of details; none where there is no such file, as with tables that others made."""
    if not path.is_file():
        return []
    try:
        found = storage.read_csv(path)
        if lacking := [name for name in needed if found and name not in found[0]]:
            raise ValueError(f"its header lacks {', '.join(lacking)}")
        for place, row in enumerate(found, 1):
            for name in ("value", "low", "high", "chance") if row["low"] else ():
                if row.get(name) and not math.isfinite(float(row[name])):
                    raise ValueError(f"row {place}: {name} is {row[name]}")
    except (MapleError, ValueError) as error:
        why = error.why if isinstance(error, MapleError) else str(error)
        raise MapleError(
            f"cannot read {path}", why=why, do="make it with `python -m stages.tables`", code=COULD_NOT_RUN
        ) from error
    return found


# -- Summing up ----------------------------------------------------------------------------------------------------


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Verdict -> how many cells, in the order a reader cares about."""
    found = Counter(verdict.verdict for verdict in verdicts)
    order = [DIFFERS, MISSING, CONSISTENT, SAME, QUOTED]
    return {key: found[key] for key in [*order, *sorted(set(found) - set(order))] if found[key]}


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 agrees (or smoke, which is never compared), 1 something differs, 2 nothing differs but something is missing."""
    found = {verdict.verdict for verdict in verdicts}
    if DIFFERS in found:
        return FAILED
    unjudged = {v for v in found if v.startswith(NOT_COMPARABLE) and v != f"{NOT_COMPARABLE} (smoke)"}
    return INCOMPLETE if MISSING in found or unjudged else AGREES


def as_json(profile: str, verdicts: list[Verdict]) -> dict[str, Any]:
    return {
        "schema": "maple.compare/1",
        "profile": profile,
        "exit_code": exit_code(verdicts),
        "summary": {name: counts(v for v in verdicts if v.table == name) for name in published.TABLES},
        "cells": [dataclasses.asdict(verdict) for verdict in verdicts],
    }


def from_json(content: dict[str, Any]) -> list[Verdict]:
    return [Verdict(**cell) for cell in content["cells"]]


def sentence(verdicts: Iterable[Verdict]) -> str:
    """One line for the terminal.

    >>> sentence([])
    'no cells'
    """
    return ", ".join(f"{count} {verdict}" for verdict, count in counts(verdicts).items()) or "no cells"


def as_markdown(verdicts: list[Verdict], label: str | None) -> str:
    """Summary, then every cell, what differs first."""
    parts = ["# Comparison with the paper\n"]
    for name in published.TABLES:
        parts.append(f"- {name}: {sentence(v for v in verdicts if v.table == name)}\n")
    parts.append(
        "\n`same`: equal as printed. `consistent`: the published number lies inside print rounding plus our interval. "
        "`quoted`: baseline rows, repeated and not run. `*` marks a score that cannot be told from chance.\n"
    )
    order = {DIFFERS: 0, MISSING: 1, CONSISTENT: 2, SAME: 3, QUOTED: 4}
    for name in published.TABLES:
        found = sorted((v for v in verdicts if v.table == name), key=lambda v: order.get(v.verdict, 1))
        rows = [
            [
                v.row,
                v.column,
                v.published + ("\\*" if v.published_at_chance else ""),
                v.ours + ("\\*" if v.at_chance else ""),
                v.difference or "",
                v.verdict,
                v.tolerance,
                v.note,
            ]
            for v in found
        ]
        header = [
            "row",
            "column",
            "published",
            "ours",
            "difference",
            "verdict",
            "tolerance",
            "note on the published number",
        ]
        parts.append("\n" + to_markdown(Table(f"## {name}", header, rows, label=label)))
    return "".join(parts)
