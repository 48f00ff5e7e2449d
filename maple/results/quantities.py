"""Scores with the noise of their examples: quantities that can be averaged and subtracted, and keep their interval.

Every name is resampled with the same draws, so differences between cells are paired; examples with the same id in
several languages (translations of one item) are drawn together. A published number is a quantity too: its only
known uncertainty is print rounding.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from maple.metrics import bootstrap
from maple.metrics.mean import mean as decimal_mean
from maple.results.collect import Collected, Examples


@dataclass(frozen=True)
class Quantity:
    """A mean of scores. `replicates` has shape (samples,); None for a printed number, which has `rounding` instead.

    `n` is the smallest number of examples behind any score in it (None for printed numbers).
    """

    value: float
    replicates: np.ndarray | None = None
    rounding: float = 0.0
    n: int | None = None

    def __sub__(self, other: "Quantity") -> "Quantity":
        return combine([self, other], [1, -1])

    def interval(self, confidence: float) -> bootstrap.Interval:
        """The bootstrap interval, widened by rounding where a printed number takes part."""
        if self.replicates is None:
            value, low, high = self.value, self.value, self.value
        else:
            value, low, high = bootstrap.of_replicates(self.value, self.replicates, confidence)
        return bootstrap.Interval(value, low - self.rounding, high + self.rounding)

    def p_at_most(self, bound: float) -> float | None:
        """P-value of "at most `bound`", from the bootstrap's standard error; None for a printed number.

        A count of resamples could not fall below 1 / (samples + 1), which no correction for many tests survives.
        """
        if self.replicates is None:
            return None
        distance = self.value - self.rounding - bound
        error = float(np.std(self.replicates, dtype=np.float64, ddof=1))
        if error < 1e-12:
            return 0.0 if distance > 0 else 1.0
        return 0.5 * math.erfc(distance / error / math.sqrt(2))

    def p_at_least(self, bound: float) -> float | None:
        return combine([self], [-1]).p_at_most(-bound)


def combine(quantities: Sequence[Quantity], factors: Sequence[float]) -> Quantity:
    """The sum of factor times quantity; the value in decimals, so that a mean of printed numbers is exact."""
    value = sum(Decimal(repr(q.value)) * Decimal(repr(f)) for q, f in zip(quantities, factors, strict=True))
    resampled = [(q, f) for q, f in zip(quantities, factors, strict=True) if q.replicates is not None]
    # Printed numbers among resampled ones are constants.
    constant = sum(q.value * f for q, f in zip(quantities, factors, strict=True) if q.replicates is None)
    counts = [q.n for q in quantities if q.n is not None]
    return Quantity(
        value=float(value),
        replicates=sum(q.replicates * f for q, f in resampled) + constant if resampled else None,
        rounding=float(
            sum(Decimal(repr(q.rounding)) * abs(Decimal(repr(f))) for q, f in zip(quantities, factors, strict=True))
        ),
        n=min(counts) if counts else None,
    )


def mean(quantities: Iterable[Quantity]) -> Quantity:
    """The unweighted mean, rounded to twelve digits: 1/3 has no end in decimals."""
    quantities = list(quantities)
    total = combine(quantities, [1] * len(quantities))
    count = len(quantities)
    return Quantity(
        value=decimal_mean(q.value for q in quantities),
        replicates=None if total.replicates is None else total.replicates / count,
        rounding=float(round(Decimal(repr(total.rounding)) / count, 12)),
        n=total.n,
    )


class Resampled:
    """Primary scores by (name, task, language), resampled once and kept as means: 4 bytes per score and resample."""

    def __init__(self, collected: Collected, samples: int, seed: int):
        self._scores = collected.primary()
        self._replicates: dict[tuple[str, str, str], np.ndarray] = {}
        self._means: dict[tuple[str, str, tuple[str, ...]], Quantity | None] = {}
        self.tasks: dict[str, list[str]] = {}
        for task in sorted({s.task for s in collected.scores}):
            languages = collected.languages(task)
            self.tasks[task] = languages
            groups = {language: collected.examples(task, language) for language in languages}
            for rng_place, together in enumerate(_parallel(groups)):
                rng = np.random.default_rng([seed, *task.encode(), rng_place])
                self._resample(task, {language: groups[language] for language in together}, samples, rng)

    def score(self, name: str, task: str, languages: Iterable[str] | None = None) -> Quantity | None:
        """Mean over languages (all of the task, unless given); None if any of them was not scored."""
        wanted = tuple(self.tasks.get(task, []) if languages is None else languages)
        # Claims ask for the same means again and again.
        if (name, task, wanted) not in self._means:
            found = [self._one(name, task, language) for language in wanted]
            self._means[name, task, wanted] = None if not found or None in found else mean(found)
        return self._means[name, task, wanted]

    def _one(self, name: str, task: str, language: str) -> Quantity | None:
        key = (name, task, language)
        if key not in self._scores or key not in self._replicates:
            return None
        return Quantity(self._scores[key].value, self._replicates[key], n=self._scores[key].n)

    def _resample(self, task: str, groups: dict[str, Examples], samples: int, rng: np.random.Generator) -> None:
        """Draw items once for languages that share them."""
        places: dict[str, int] = {}
        for examples in groups.values():
            for id in examples.ids:
                places.setdefault(id, len(places))
        drawn = bootstrap.weights(len(places), samples, rng)
        for language, examples in groups.items():
            weights = drawn[:, [places[id] for id in examples.ids]]
            present = ~np.isnan(examples.scores)
            sums = weights @ np.where(present, examples.scores, 0).T
            # A resample can miss all items of a language that has few of the shared ones: it then repeats the mean.
            counts = weights @ present.T.astype(np.float32) if not present.all() else weights.sum(axis=1, keepdims=True)
            means = np.nanmean(examples.scores, axis=1, dtype=np.float64)
            replicates = np.where(counts > 0, sums / np.maximum(counts, 1), means).astype(np.float32)
            for row, name in enumerate(examples.names):
                self._replicates[name, task, language] = np.ascontiguousarray(replicates[:, row])


def _parallel(groups: dict[str, Examples]) -> list[list[str]]:
    """Languages that share any example id, together; order as given."""
    owner: dict[str, list[str]] = {}
    parts: list[list[str]] = []
    for language, examples in groups.items():
        shared = {id(owner[i]): owner[i] for i in examples.ids if i in owner}
        part = [code for other in shared.values() for code in other] + [language]
        parts = [other for other in parts if id(other) not in shared] + [part]
        for code in part:
            for i in groups[code].ids:
                owner[i] = part
    return parts
