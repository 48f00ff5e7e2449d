"""Tokens of real rows under the bases' own tokenisers, as benchmarks/fertility.csv has them (docs/FERTILITY.md)."""

import csv
from functools import cache
from pathlib import Path

from maple.metrics.mean import mean

PATH = Path(__file__).parents[2] / "benchmarks" / "fertility.csv"


@cache
def _table() -> dict[tuple[str, str, str], dict[str, float]]:
    """(tokeniser, source, measure) -> {language: value}."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    with open(PATH, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["value"]:
                found.setdefault((row["tokeniser"], row["source"], row["measure"]), {})[row["language"]] = float(
                    row["value"]
                )
    return found


def tokens(model: str, task: str, measure: str) -> float | None:
    """Tokens that a model `read`s or has `written` for an example of a task, the mean over the languages that were
    measured; None where none was."""
    found = _table().get((model, task, measure))
    return mean(found.values()) if found else None


def fill(model: str, codes: list[str]) -> float | None:
    """Tokens of a training row as a share of prepare.max_length, the mean over languages; None for an unmeasured model.

    English was measured on instructions; other languages are scaled by their tokens of the same XQuAD texts. A language
    that was not measured takes the mean of those that were.
    """
    english = _of(model, "fill")
    scaled = _of(model, "fill_scaled") | english
    if not scaled:
        return None
    usual = mean(scaled.values())
    return mean(scaled.get(code, usual) for code in codes)


def answer_share(model: str) -> float | None:
    """The share of a row's tokens that carries loss, measured in English."""
    found = _of(model, "answer_share")
    return mean(found.values()) if found else None


def _of(model: str, measure: str) -> dict[str, float]:
    return {
        code: value
        for (name, _, kind), values in _table().items()
        if (name, kind) == (model, measure)
        for code, value in values.items()
    }
