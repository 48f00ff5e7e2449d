"""Where a cell stands in the grid while it trains, and how long the rest will take."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.core import storage
from maple.core.progress import duration


@dataclass(frozen=True)
class Place:
    """Where a cell stands in the grid. `seconds`: what the cells from it on will take, None while none is finished."""

    number: int
    total: int
    seconds: float | None

    def __str__(self) -> str:
        return f"cell {self.number} of {self.total}"

    def left(self, passed: float) -> str:
        """`4 min 00 s left in the grid`, this many seconds into the cell; empty while that is not known.

        >>> Place(3, 12, 240.0).left(60)
        '3 min 00 s left in the grid'
        """
        return "" if self.seconds is None else f"{duration(max(self.seconds - passed, 0))} left in the grid"


def place_in_grid(
    folder: Path, bills: Mapping[tuple[str, str], dict[str, Any]], names: list[str], name: str, recipe: dict[str, Any]
) -> Place | None:
    """By the finished cells of this recipe in `folder`; None for a name that is no cell of the grid.

    Cells that other processes are at, if any, count as not begun.
    """
    if name not in names:
        return None
    records = [(other, folder / other / "record.json") for other in names if other != name]
    finished = [other for other, path in records if path.exists() and storage.read_json(path)["recipe"] == recipe]
    seconds = [bills["train", other]["seconds"] for other in finished if ("train", other) in bills]
    to_come = len(names) - len(finished)
    return Place(len(finished) + 1, len(names), sum(seconds) / len(seconds) * to_come if seconds else None)
