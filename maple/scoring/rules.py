"""How answers become scores: one rule per kind of task, by the name that a task gives.

A rule's first metric is the one that tables show. `judge` has no score here: a win rate needs the judge stage.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maple.core.errors import MapleError, nearest
from maple.metrics import qa
from maple.metrics.rouge import rouge


@dataclass(frozen=True)
class Rule:
    """`score(prediction, reference, language, repair)` gives {metric: 0..1}; `repair` corrects a documented fault of
    the published metric.
    """

    metrics: tuple[str, ...]
    score: Callable[[Any, Any, str, bool], dict[str, float]]


RULES = {
    "accuracy": Rule(("accuracy",), lambda prediction, reference, *_: {"accuracy": float(prediction == reference)}),
    "squad": Rule(("f1", "em"), lambda prediction, reference, *_: qa.squad(prediction, reference)),
    "mlqa": Rule(("f1", "em"), qa.mlqa),
    "f1_abstractive": Rule(
        ("f1_abstractive",),
        lambda prediction, reference, *_: {"f1_abstractive": qa.squad(prediction, reference[:1])["f1"]},
    ),
    "rouge": Rule(("rougeL", "rouge1", "rouge2"), lambda prediction, reference, *_: rouge(prediction, reference)),
    "judge": Rule(("winrate",), lambda *_: {}),
}


def get(name: str) -> Rule:
    if name not in RULES:
        raise MapleError(
            f"unknown rule '{name}'", why="maple/scoring/rules.py has none of that name", do=nearest(name, RULES)
        )
    return RULES[name]


def chance(rows: list[dict[str, Any]]) -> float | None:
    """Expected accuracy of blind guessing among each row's options; None where guessing has no meaning (free text).

    >>> chance([{"options": [{}, {}]}, {"options": [{}, {}, {}, {}]}]), chance([{"output": "a"}])
    (0.375, None)
    """
    if not rows or "options" not in rows[0]:
        return None
    return sum(1 / len(row["options"]) for row in rows) / len(rows)
