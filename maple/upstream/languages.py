"""The languages of the paper and of its data sets, one row each in languages.csv.

Codes are ISO 639-1 (639-3 where there is none). A task column holds that data set's own name for the language;
two names joined by `+` are variants of one language (Simplified and Traditional Chinese). Sources of the
columns: docs/DEVIATIONS.md.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Language:
    code: str
    name: str
    script: str
    family: str
    joshi: int
    group: int | None
    upstream: dict[str, tuple[str, ...]]

    @property
    def resource(self) -> str:
        """Low, medium or high, from the class of Joshi et al. 2020: 0 to 2, 3, 4 to 5 (assumed: the paper defines
        none).
        """
        return "low" if self.joshi <= 2 else "medium" if self.joshi == 3 else "high"


# Task or training source -> its column of the table.
_COLUMNS = {
    "xnli": "xnli",
    "xcopa": "xcopa",
    "xquad": "xquad",
    "mlqa": "mlqa",
    "belebele": "belebele",
    "xlsum": "xlsum",
    "bactrian-x": "bactrianx",
    "multialpaca": "multialpaca",
}


@cache
def table() -> dict[str, Language]:
    with open(Path(__file__).with_name("languages.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        row["iso"]: Language(
            code=row["iso"],
            name=row["name"],
            script=row["script"],
            family=row["family"],
            joshi=int(row["joshi"]),
            group=int(row["proposed_group"]) if row["proposed_group"] else None,
            upstream={name: tuple(row[column].split("+")) for name, column in _COLUMNS.items() if row[column]},
        )
        for row in rows
    }


CODES = tuple(table())


def of_task(name: str) -> tuple[str, ...]:
    """Codes of the languages that a task or training source has; AlpacaEval and Alpaca are English."""
    if name in ("alpaca_eval", "alpaca"):
        return ("en",)
    return tuple(code for code, language in table().items() if name in language.upstream)
