"""Scores with their noise: quantities that can be averaged and subtracted, and keep their interval.

Every name is resampled with the same draws of examples, so differences between cells are paired; examples with the same
id in several languages (translations of one item) are drawn together. Languages are fixed. `SeedNoise` adds the choice of
training seeds where cells have several, `choose` the choice of a configuration on the scores it prints. A published
number is a quantity too: its only known uncertainty is print rounding.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Choice:
    """The best of several by their own scores. `printed` is its score as found; `corrected` is without what it owes to
    having been chosen, its interval covers the choice; `cost` is the difference of the two.
    """

    printed: Quantity
    corrected: Quantity
    cost: float


def choose(by: Sequence[Quantity], of: Sequence[Quantity], place: int) -> Choice:
    """What choosing `place`, the best `by`, costs in the scores `of`, which may be the same or others of the same models.

    In each resample the best is chosen anew, and its resampled score compared with its score on all examples: that
    difference stands for the one between the printed score and the truth (Efron 1983, "optimism"). The interval is the
    basic bootstrap's of that difference. Of equal candidates the noise looks like difference, and about a third of the
    cost stays.
    """
    values = np.array([q.value for q in of])
    picked = np.argmax(np.stack([q.replicates for q in by]), axis=0)
    replicates = np.stack([q.replicates for q in of])[picked, np.arange(len(picked))]
    errors = replicates - values[picked]
    cost = float(errors.mean())
    value = of[place].value - cost
    corrected = replace(of[place], value=value, replicates=value + errors - cost)
    return Choice(of[place], corrected, cost)


class Draws:
    """Which examples are in each resample, by task: drawn once for languages that share examples.

    They depend on the ids alone, so collections with the same ids can share them.
    """

    def __init__(self, samples: int, seed: int):
        self._samples, self._seed = samples, seed
        self._of_task: dict[str, dict[str, tuple[int, np.ndarray, np.ndarray]]] = {}

    def of(self, task: str, ids: dict[str, list[str]]) -> dict[str, tuple[int, np.ndarray, np.ndarray]]:
        """Language -> (which languages it shares draws with, weights of shape (samples, items), place of each example)."""
        if task not in self._of_task:
            found = {}
            for part, together in enumerate(_parallel(ids)):
                places: dict[str, int] = {}
                for language in together:
                    for id in ids[language]:
                        places.setdefault(id, len(places))
                rng = np.random.default_rng([self._seed, *task.encode(), part])
                weights = bootstrap.weights(len(places), self._samples, rng)
                for language in together:
                    found[language] = (part, weights, np.array([places[id] for id in ids[language]]))
            self._of_task[task] = found
        return self._of_task[task]


class Resampled:
    """Primary scores by (name, task, languages), resampled when first asked for."""

    def __init__(self, collected: Collected, samples: int, seed: int, draws: Draws | None = None):
        self._collected, self.samples, self.seed = collected, samples, seed
        self._scores = collected.primary()
        self._scored: dict[tuple[str, str], set[str]] = {}
        for name, task, code in self._scores:
            self._scored.setdefault((task, code), set()).add(name)
        self._draws = draws or Draws(samples, seed)
        self._examples: dict[str, dict[str, Examples]] = {}
        self._means: dict[tuple[str, tuple[str, ...]], dict[str, Quantity]] = {}
        self.tasks = {task: collected.languages(task) for task in sorted({s.task for s in collected.scores})}

    def score(self, name: str, task: str, languages: Iterable[str] | None = None) -> Quantity | None:
        """Mean over languages (all of the task, unless given); None if any of them was not scored."""
        wanted = tuple(self.tasks.get(task, []) if languages is None else languages)
        if (task, wanted) not in self._means:
            self._means[task, wanted] = self._mean_over(task, wanted)
        return self._means[task, wanted].get(name)

    def _mean_over(self, task: str, languages: tuple[str, ...]) -> dict[str, Quantity]:
        """Of every name that was scored in all the languages: all names at once, which is one product of matrices."""
        if not set(languages) <= set(self.tasks.get(task, [])) or not languages:
            return {}
        if task not in self._examples:
            self._examples[task] = {code: self._collected.examples(task, code) for code in self.tasks[task]}
        groups = self._examples[task]
        drawn = self._draws.of(task, {code: examples.ids for code, examples in groups.items()})
        everywhere = set.intersection(*(self._scored[task, code] & set(groups[code].names) for code in languages))
        names = [name for name in groups[languages[0]].names if name in everywhere]
        if not names:
            return {}
        total = np.zeros((self.samples, len(names)), dtype=np.float32)
        # Languages with the same items and no gaps: the sum over them is resampled, not each.
        whole: dict[int, np.ndarray] = {}
        for code in languages:
            part, weights, places = drawn[code]
            examples = groups[code]
            rows = [examples.names.index(name) for name in names] if examples.names != names else slice(None)
            scores = examples.scores[rows]
            if len(places) == weights.shape[1] and not np.isnan(scores).any():
                sums = whole.setdefault(part, np.zeros((weights.shape[1], len(names)), dtype=np.float32))
                sums[places] += scores.T
            else:
                total += _with_gaps(weights[:, places], scores)
        for code in languages:
            part, weights, _ = drawn[code]
            if part in whole:
                total += weights @ whole.pop(part) / np.float32(weights.shape[1])
        replicates = np.ascontiguousarray(total.T) / np.float32(len(languages))
        found = {name: [self._scores[name, task, code] for code in languages] for name in names}
        return {
            name: Quantity(decimal_mean(s.value for s in found[name]), row, n=min(s.n for s in found[name]))
            for name, row in zip(names, replicates)
        }


def _with_gaps(weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Weighted means, shape (samples, names), over the examples that a name has."""
    present = ~np.isnan(scores)
    sums = weights @ np.where(present, scores, 0).T
    # A resample can miss all items of a language that has few of the shared ones: it then repeats the mean.
    counts = weights @ present.T.astype(np.float32)
    means = np.nanmean(scores, axis=1, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), means).astype(np.float32)


class SeedNoise:
    """What another choice of training seeds would do to the mean over a configuration's seeds.

    A mean over S seeds is as sure as the spread of the seeds allows. Three seeds of one configuration say little about
    it, so the deviations from their own means are pooled over all configurations of a base model, which assumes that the
    spread is alike there; those of a mean over S are too small by (S - 1) / S, which is put right. Each resample gives
    each configuration S of them, the same for all tasks and languages.
    """

    def __init__(self, families: dict[str, list[tuple[str, ...]]], samples: int, seed: int):
        """`families`: base model -> its configurations, each as the names of its cells, one per seed."""
        self._families = {names: family for family in families.values() for names in family if len(names) > 1}
        self._samples, self._seed = samples, seed

    def of(self, names: tuple[str, ...], value_of: Callable[[str], float | None]) -> np.ndarray | float:
        """Noise of shape (samples,) for the mean over `names`; 0 with one seed. `value_of`: score of a cell."""
        deviations: list[float] = []
        for configuration in self._families.get(names, []):
            values = [value_of(name) for name in configuration]
            if len(values) > 1 and None not in values:
                centre, count = sum(values) / len(values), len(values)
                deviations += [(value - centre) * (count / (count - 1)) ** 0.5 for value in values]
        if not deviations:
            return 0.0
        rng = np.random.default_rng([self._seed, *names[0].encode()])
        places = (rng.random((self._samples, len(names))) * len(deviations)).astype(int)
        return np.array(deviations)[places].mean(axis=1)


def _parallel(ids: dict[str, list[str]]) -> list[list[str]]:
    """Languages that share any example id, together; order as given."""
    owner: dict[str, list[str]] = {}
    parts: list[list[str]] = []
    for language in ids:
        shared = {id(owner[i]): owner[i] for i in ids[language] if i in owner}
        part = [code for other in shared.values() for code in other] + [language]
        parts = [other for other in parts if id(other) not in shared] + [part]
        for code in part:
            for i in ids[code]:
                owner[i] = part
    return parts
