"""What a grid can tell apart, before it runs: the power of each claim's test.

From the planned cells, languages, examples and seeds, and from how much the score of one example varies (`Spread`), comes
the standard error of every comparison that a claim makes, and from it two numbers:

    effect    the smallest effect that is found in 80 of 100 runs: a better score, a slope, a difference between sets
    margin    the smallest margin within which "no effect" is recognised in 80 of 100 runs

Where `margin` exceeds the margin of the parameters, the grid cannot tell a difference of that size from none: without an
effect the answer will be "cannot tell". Comparisons are those of maple/results/claims.py itself, asked of standard errors
in place of scores, so a claim and its power cannot part. All comparisons of a claim are taken to have the same effect.

>>> from maple.config import params
>>> claim = next(c for c in claims.load()["claims"] if c["id"] == "crosslingual-transfer")
>>> found = of(claim, params.load("paper"))
>>> found.margin_used, found.margin < found.margin_used < found.effect
(0.02, True)
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from maple import tasks
from maple.config.cell import Base, Cell
from maple.config.params import Params
from maple.results import claims, collect
from maple.results.claims import BASE, Region
from maple.results.quantities import Choice, Quantity
from maple.results.tables import Configuration, Results

# How often an effect should be found, by convention (Cohen 1988).
POWER = 0.8
DRAWS, SEED = 4000, 42


@dataclass(frozen=True)
class Spread:
    """How the score of one example varies, as variances that add up, and how the mean of a cell varies with its seed.

    `item`: what all adapters of one base model find hard or easy alike; it cancels in their differences. Beyond that,
    `bits`: what those at one bit width have in common, `dataset`: those of one training set, `cell`: one adapter's own.
    `item_languages`, `languages`: the share of `item`, and of the others, that an item has in common with its
    translations. `seed`: variance of a cell's mean on this task.
    """

    item: float
    bits: float
    dataset: float
    cell: float
    item_languages: float
    languages: float
    seed: float


# Assumed where no finished cells are at hand (`measured`): adapters of two training sets differ on a fifth of the answers
# of a choice; F1 varies less than right or wrong; ROUGE-L has a standard deviation of 0.1; what makes an item hard is
# hard in its translations too, while what tells two adapters apart is mostly one language's; MLQA's and XLSum's samples
# of two languages have few items in common or none; a seed moves the mean of a cell on a task by 0.005.
_CHOICE = Spread(item=0.14, bits=0.01, dataset=0.03, cell=0.07, item_languages=0.3, languages=0.1, seed=0.005**2)
_F1 = Spread(item=0.10, bits=0.01, dataset=0.02, cell=0.05, item_languages=0.3, languages=0.1, seed=0.005**2)
_ROUGE = Spread(item=6e-3, bits=5e-4, dataset=1e-3, cell=2.5e-3, item_languages=0, languages=0, seed=0.005**2)
ASSUMED: dict[str, Spread] = {
    "xnli": _CHOICE,
    "xcopa": _CHOICE,
    "belebele": _CHOICE,
    "xquad": _F1,
    "mlqa": dataclasses.replace(_F1, item_languages=0, languages=0),
    "xlsum": _ROUGE,
    "alpaca_eval": dataclasses.replace(_CHOICE, item=0.06),
}


@dataclass(frozen=True)
class Power:
    """What one claim's test can tell. `at_twice` and `at_zero`: how often the right verdict is found where the effect is
    twice the margin used, and where there is none.
    """

    claim: str
    comparisons: int
    effect: float
    margin: float
    margin_used: float
    at_twice: float
    at_zero: float
    seeds: int

    @property
    def enough(self) -> bool:
        return self.at_twice >= POWER

    @property
    def text(self) -> str:
        """One sentence for a plan."""
        found = f"finds effects from {self.effect:.3f}"
        if self.margin > self.margin_used:
            return f"{found}; cannot tell {self.margin_used:g} from none (only {self.margin:.3f})"
        return f"{found}; tells {self.margin_used:g} from none"


def of(claim: Mapping[str, Any], params: Params, spread: Mapping[str, Spread] = ASSUMED) -> Power:
    """The power of one claim (an entry of claims.yaml) with the grid, tasks, languages and seeds of `params`.

    ValueError when the grid lacks what the claim reads; the message says what.
    """
    return Design(claim, params, spread).power()


def all_of(params: Params, spread: Mapping[str, Spread] = ASSUMED) -> dict[str, Power | str]:
    """Claim id -> its power, or why it has none."""
    found: dict[str, Power | str] = {}
    for claim in claims.load()["claims"]:
        try:
            found[claim["id"]] = of(claim, params, spread)
        except ValueError as error:
            found[claim["id"]] = str(error)
    return found


class Design:
    """A claim's comparisons and how their errors vary together, by what makes them vary."""

    def __init__(self, claim: Mapping[str, Any], params: Params, spread: Mapping[str, Spread] = ASSUMED):
        content = claims.load()
        self.claim, self.seeds = claim["id"], len(params.grid.seeds)
        self.confidence = params.tables.confidence
        check = claims.arguments(claim["check"], params)
        self.need, self.margin_used = check.need, check.margin
        planned = Planned(params, spread)
        asked = list(claims.TESTS[check.test](check, Asked(planned)))
        lacking = [comparison.why for comparison in asked if comparison.quantity is None]
        if lacking:
            raise ValueError(lacking[0])
        few = min(comparison.quantity.n for comparison in asked)
        if few < content["minimum_examples"]:
            raise ValueError(f"fewer than {content['minimum_examples']} examples in a language")
        self.region: Region = asked[0].region
        self.levels = claims.levels(self.need, len(asked), len(content["claims"]))
        self.rounding = np.array([comparison.quantity.rounding for comparison in asked])
        loadings = np.array([comparison.quantity.replicates for comparison in asked])
        kinds = {"shared": ("item", "bits", "dataset"), "cell": ("cell",), "seed": ("seed",)}
        self._covariances = {
            name: (part := loadings[:, planned.noise.of_kind(*fields)]) @ part.T for name, fields in kinds.items()
        }
        self._normal = np.random.default_rng(SEED).standard_normal((DRAWS, len(asked)))

    def power(self, examples: float = 1, seeds: int | None = None) -> Power:
        """`examples`: times the planned ones; `seeds` per cell, as planned unless given."""
        seeds = seeds or self.seeds
        effects, margins = self._needed(examples, seeds)
        return Power(
            claim=self.claim,
            comparisons=len(self.rounding),
            effect=float(np.quantile(effects, POWER)),
            margin=float(np.quantile(margins, POWER)),
            margin_used=self.margin_used,
            at_twice=float(np.mean(effects <= 2 * self.margin_used)),
            at_zero=float(np.mean(margins <= self.margin_used)),
            seeds=seeds,
        )

    def errors(self, examples: float = 1, seeds: int | None = None) -> np.ndarray:
        """Standard error of each comparison, of what the test covers: with one seed, examples alone."""
        return np.sqrt(np.diag(self._covariance(examples, seeds or self.seeds)))

    def examples_needed(self, effect: float | None = None, margin: float | None = None) -> float | None:
        """By how much the examples of every language must be multiplied to find `effect`, or to recognise no effect within
        `margin`; None if no number suffices.

        More than upstream has (maple/tasks) cannot be had: other items of the same kind are meant.
        """

        def enough(examples: float) -> bool:
            found = self.power(examples)
            return (effect is None or found.effect <= effect) and (margin is None or found.margin <= margin)

        low, high = 1e-6, 1e6
        if not enough(high):
            return None
        while high / low > 1.001:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    def seeds_needed(self, effect: float, most: int = 100) -> int | None:
        """The fewest seeds per cell, at least two, to find `effect`; None if `most` do not suffice."""
        return next((seeds for seeds in range(2, most + 1) if self.power(1, seeds).effect <= effect), None)

    def _covariance(self, examples: float, seeds: int) -> np.ndarray:
        covered = (self._covariances["shared"] + self._covariances["cell"] / seeds) / examples
        return covered + self._covariances["seed"] / seeds if seeds > 1 else covered

    def _needed(self, examples: float, seeds: int) -> tuple[np.ndarray, np.ndarray]:
        """Per simulated run: the effect from which it would be found, the margin from which its absence would be."""
        covariance = self._covariance(examples, seeds)
        values, vectors = np.linalg.eigh(covariance)
        noise = self._normal @ (vectors * np.sqrt(np.maximum(values, 0))).T
        error = np.sqrt(np.diag(covariance))
        alpha = 1 - self.confidence
        holds = NormalDist().inv_cdf(1 - alpha / self.levels.holds) * error + self.rounding
        fails = NormalDist().inv_cdf(1 - alpha / self.levels.fails / len(self.region.fails)) * error + self.rounding
        # Whether every comparison must give this answer, or the first one that does decides.
        every, one = np.max, np.min
        of_holds, of_fails = (one, every) if self.need == "any" else (every, one)
        if self.region.holds == Region.above(self.margin_used).holds:
            return of_holds(holds - noise, axis=1), of_fails(fails + noise, axis=1)
        absent = np.abs(noise) if len(self.region.fails) == 2 else noise
        return self.margin_used + of_fails(fails - noise, axis=1), of_holds(holds + absent, axis=1)


# -- Standard errors in place of scores ----------------------------------------------------------------------------


class Noise:
    """Where the error of a planned score comes from: a vector of loadings on independent parts of variance 1.

    Loadings add and average as scores do, and stand where the resamples of a measured score would; the length of a
    comparison's vector is its standard error.
    """

    def __init__(self, params: Params, spread: Mapping[str, Spread]):
        self.spread = spread
        self.tasks = {name: list(options.languages) for name, options in params.evaluation.tasks.items()}
        self.examples = {
            name: min(tasks.get(name).size, options.limit or tasks.get(name).size)
            for name, options in params.evaluation.tasks.items()
        }
        self._places: dict[tuple[str, ...], int] = {}
        for task, codes in self.tasks.items():
            for name in [cell.name for cell in params.cells] + [base.name for base in params.bases]:
                for key in _parts(name):
                    for code in ["", *codes]:
                        self._places.setdefault((task, *key, code), len(self._places))
                self._places.setdefault((task, "seed", name, ""), len(self._places))

    def languages(self, task: str) -> list[str]:
        return self.tasks.get(task, [])

    def score(self, name: str, task: str, languages: Iterable[str] | None = None) -> Quantity | None:
        codes = self.tasks.get(task, []) if languages is None else list(languages)
        if not codes:
            return None
        spread, n = self.spread[task], self.examples[task]
        loadings = np.zeros(len(self._places))
        for key in _parts(name):
            variance = getattr(spread, key[0]) / n
            common = spread.item_languages if key[0] == "item" else spread.languages
            loadings[self._places[task, *key, ""]] = (variance * common) ** 0.5
            for code in codes:
                loadings[self._places[task, *key, code]] = (variance * (1 - common)) ** 0.5 / len(codes)
        if "." in name:
            loadings[self._places[task, "seed", name, ""]] = spread.seed**0.5
        return Quantity(0.0, loadings, n=n)

    def of_kind(self, *kinds: str) -> list[int]:
        """Places of the loadings of these fields of `Spread`."""
        return [place for key, place in self._places.items() if key[1] in kinds]


def _parts(name: str) -> list[tuple[str, ...]]:
    """What the error of a cell or base is made of: the field of `Spread`, and who shares it. A seed's own is apart."""
    if "." in name:
        cell = Cell.parse(name)
        base, dataset = cell.base, cell.dataset
    else:
        base, dataset = Base.parse(name), BASE
    return [("item", base.model), ("bits", base.name), ("dataset", base.model, dataset), ("cell", name)]


class Planned(Results):
    """A grid that has not run, with one seed per cell (`Design` divides by their number). Any configuration may turn out
    the best: the first stands for it.
    """

    def __init__(self, params: Params, spread: Mapping[str, Spread]):
        self.params = dataclasses.replace(params, grid=dataclasses.replace(params.grid, seeds=params.grid.seeds[:1]))
        self.noise = self.resampled = self.collected = Noise(self.params, spread)
        self.rows = self._rows()
        self._scores = {}

    def chosen(self, model: str, dataset: str, column: str) -> Configuration | None:
        return next(iter(self.rows.get((model, dataset), [])), None)

    def choice(
        self, model: str, dataset: str, column: str, score: Callable[[Configuration], Quantity | None]
    ) -> Choice | None:
        chosen = self.chosen(model, dataset, column)
        printed = score(chosen) if chosen else None
        return Choice(printed, printed, 0.0) if printed else None


class Asked(claims.Measured):
    """The claims' view of a planned grid."""

    def best(self, quantities: list[Quantity]) -> Quantity:
        return quantities[0]

    def baseline(self, name: str, column: str) -> Quantity:
        """Known but for its rounding; effects are counted from it."""
        return dataclasses.replace(super().baseline(name, column), value=0.0)


# -- Spread measured in finished cells -----------------------------------------------------------------------------


def measured(collected: collect.Collected) -> dict[str, Spread]:
    """The spread of each task's examples in finished cells, from the variances of their differences.

    What the cells cannot show (one bit width, one training set, no two languages with the same items, one seed) is
    assumed.
    """
    scores = {s.name: s for s in collected.scores}
    return {
        task: found
        for task in sorted({s.task for s in collected.scores})
        if (found := _measured(task, collected, scores))
    }


def _measured(task: str, collected: collect.Collected, known: Mapping[str, collect.Score]) -> Spread | None:
    assumed = ASSUMED.get(task, _CHOICE)
    totals, seeds = [], []
    # By what two cells of a model have in common, (training set, bits): half the variance of their difference, and the
    # covariance of one's scores with the other's on the same items in the language before.
    halves: dict[tuple[bool, bool], list[float]] = {}
    across: dict[tuple[bool, bool] | str, list[float]] = {}
    before: dict[str, np.ndarray] = {}
    for code in collected.languages(task):
        examples = collected.examples(task, code)
        names = [name for name in examples.names if known[name].kind == "cell"]
        scores = examples.scores[[examples.names.index(name) for name in names]].astype(np.float64)
        if len(names) < 2 or scores.shape[1] < 2 or np.isnan(scores).any():
            continue
        covariance = np.cov(scores)
        own = np.diag(covariance)
        totals.append(float(own.mean()))
        half = (own[:, None] + own[None, :]) / 2 - covariance
        now = {id: scores[:, place] for place, id in enumerate(examples.ids)}
        common = [id for id in now if id in before and len(before[id]) == len(names)]
        pair = [np.array([side[id] for id in common]) for side in (before, now)] if len(common) > 2 else None
        if pair:
            first, second = (side - side.mean(axis=0) for side in pair)
            lagged = first.T @ second / (len(common) - 1)
            across.setdefault("own", []).append(float(np.diag(lagged).mean()))
        for i, j in zip(*np.triu_indices(len(names), 1)):
            one, other = known[names[i]], known[names[j]]
            if one.model != other.model:
                continue
            shares = (one.dataset == other.dataset, one.bits == other.bits)
            halves.setdefault(shares, []).append(half[i, j])
            if pair:
                across.setdefault(shares, []).append((lagged[i, j] + lagged[j, i]) / 2)
            if all(shares) and one.rank == other.rank:
                seeds.append((scores[i].mean() - scores[j].mean()) ** 2 / 2 - half[i, j] / scores.shape[1])
        before = now
    if not totals:
        return None
    mean = {kind: float(np.mean(found)) for kind, found in halves.items()}
    cell = mean.get((True, True), assumed.cell)
    bits = max(0.0, mean[True, False] - cell) if (True, False) in mean else assumed.bits
    dataset = max(0.0, mean[False, True] - cell) if (False, True) in mean else assumed.dataset
    item = max(0.0, float(np.mean(totals)) - bits - dataset - cell)
    # Cells with nothing but the base model in common share the item; what a cell shares with itself beyond that is the rest.
    both = {kind: float(np.mean(found)) for kind, found in across.items()}
    apart = both.get((False, False))
    return Spread(
        item=item,
        bits=bits,
        dataset=dataset,
        cell=cell,
        item_languages=_share(apart, item, assumed.item_languages),
        languages=_share(None if apart is None else both["own"] - apart, bits + dataset + cell, assumed.languages),
        seed=max(0.0, float(np.mean(seeds))) if seeds else assumed.seed,
    )


def _share(part: float | None, whole: float, assumed: float) -> float:
    return assumed if part is None or not whole else min(1.0, max(0.0, part / whole))


# -- For a page ----------------------------------------------------------------------------------------------------


def as_markdown(params: Params, spread: Mapping[str, Spread] = ASSUMED) -> str:
    """What each claim's test can tell with the grid of `params`, and how many more examples would tell a margin from none."""
    lines = [
        "| claim | comparisons | finds effects from | recognises none within | examples for none within the margin |",
        "|---|---:|---:|---:|---:|",
    ]
    for claim in claims.load()["claims"]:
        design = Design(claim, params, spread)
        found, times = design.power(), design.examples_needed(margin=params.tables.claim_margin)
        needed = "no number" if times is None else "enough" if times <= 1 else f"{times:.2g} times as many"
        figures = [str(found.comparisons), f"{found.effect:.3f}", f"{found.margin:.3f}", needed]
        lines.append(f"| {' | '.join([claim['id'], *figures])} |")
    return "\n".join(lines)
