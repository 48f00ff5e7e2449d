"""Bootstrap intervals and tests over examples; numpy only, every draw from the `rng` that is passed in.

All functions resample examples, never languages, tasks or cells: the question they answer is what the same
model would score on another sample of such examples. An interval over one example, or over examples that all
score the same, has width 0: the sample then says nothing about its own spread.

>>> interval([0, 1, 1, 1], samples=1000, confidence=0.95, rng=np.random.default_rng(0))
Interval(value=0.75, low=0.25, high=1.0)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """`p` is two-sided, for the hypothesis that the difference is 0."""

    value: float
    low: float
    high: float
    p: float


class Equivalence(NamedTuple):
    """`p` is for the hypothesis that the difference is at least the margin in either direction."""

    value: float
    low: float
    high: float
    p: float
    equivalent: bool


def interval(values: Sequence[float], samples: int, confidence: float, rng: np.random.Generator) -> Interval:
    """Percentile bootstrap of the mean. `values`: one score per example; ValueError when empty or not finite."""
    values = _checked(values)
    return of_replicates(float(values.mean()), means(values, samples, rng), confidence)


def paired_difference(
    first: Sequence[float], second: Sequence[float], samples: int, confidence: float, rng: np.random.Generator
) -> Difference:
    """Mean of first - second over the same examples in the same order, resampled in pairs."""
    differences = _paired(first, second)
    replicates = means(differences, samples, rng)
    return Difference(*of_replicates(float(differences.mean()), replicates, confidence), two_sided_p(replicates))


def equivalence(
    first: Sequence[float],
    second: Sequence[float],
    margin: float,
    samples: int,
    confidence: float,
    rng: np.random.Generator,
) -> Equivalence:
    """Two one-sided tests: equivalent when the interval of the paired difference lies inside (-margin, margin).

    Two tests at level alpha = 1 - confidence correspond to the interval of confidence 1 - 2 alpha (Schuirmann 1987).
    """
    differences = _paired(first, second)
    return equivalence_of_replicates(float(differences.mean()), means(differences, samples, rng), margin, confidence)


# -- Replicates: one number per resample, here an array of shape (samples,) ----------------------------------------


def means(values: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of `samples` resamples of `values`, shape (samples,).

    Only how often each distinct value is drawn matters, so the draw is a multinomial over distinct values:
    accuracies of a thousand examples cost two numbers per resample instead of a thousand.
    """
    distinct, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), size=samples)
    return drawn @ distinct / len(values)


def weights(count: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `count` items is in each resample: shape (samples, count), float32, rows sum to `count`.

    Scores multiplied by the same weights are resampled together, which pairs cells and keeps translations of
    one item together.
    """
    drawn = rng.integers(0, count, size=(samples, count), dtype=np.int32)
    drawn += np.arange(samples, dtype=np.int32)[:, None] * np.int32(count)
    return np.bincount(drawn.ravel(), minlength=samples * count).reshape(samples, count).astype(np.float32)


def of_replicates(value: float, replicates: np.ndarray, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def two_sided_p(replicates: np.ndarray) -> float:
    """Share of resamples on the other side of 0, doubled; never 0, as Davison and Hinkley (1997) advise."""
    below, above = one_sided_p(-replicates), one_sided_p(replicates)
    return min(1.0, 2 * min(below, above))


def one_sided_p(replicates: np.ndarray) -> float:
    """P-value of the hypothesis that the quantity is at most 0: the share of resamples at or under 0."""
    return float((np.count_nonzero(replicates <= 0) + 1) / (len(replicates) + 1))


def equivalence_of_replicates(value: float, replicates: np.ndarray, margin: float, confidence: float) -> Equivalence:
    _, low, high = of_replicates(value, replicates, 1 - 2 * (1 - confidence))
    p = max(one_sided_p(replicates + margin), one_sided_p(margin - replicates))
    return Equivalence(value, low, high, p, equivalent=-margin < low and high < margin)


def _checked(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError("a bootstrap needs at least one value, in one dimension, all finite")
    return values


def _paired(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    first, second = _checked(first), _checked(second)
    if first.shape != second.shape:
        raise ValueError(f"not paired: {first.size} values against {second.size}")
    return first - second
