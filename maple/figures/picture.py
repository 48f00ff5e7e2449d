"""A figure before it is drawn: its numbers, its words, and the function that draws the one from the other."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """`rows` share their keys; a value of None is a number that does not exist and is written as an empty field."""

    name: str
    title: str
    text: str
    rows: list[Row]
    drawing: Callable

    def draw(self):
        return self.drawing(self.rows)

    def csv(self, note: str | None) -> str:
        """The rows; a note becomes a last column, so that no row can be quoted without it."""
        text = io.StringIO()
        last = {"note": note} if note else {}
        table = csv.DictWriter(text, [*(self.rows[0] if self.rows else []), *last], lineterminator="\n")
        table.writeheader()
        table.writerows(
            {key: "" if value is None else value for key, value in (row | last).items()} for row in self.rows
        )
        return text.getvalue()
