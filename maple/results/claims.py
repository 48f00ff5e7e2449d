"""The paper's take-aways (paper_tables/claims.yaml), judged on its printed numbers and on ours.

A claim names a test and its arguments. The test makes comparisons: each asks whether a quantity lies in a region, for
instance whether "Mistral minus Llama on XNLI" lies above 0.02. There are three answers:

    holds           the quantity surely lies in the region
    does not hold   it surely lies in the opposite region
    cannot tell     neither; a difference that was not found is never taken for equality

For our numbers, "surely" means two things: the bootstrap interval lies in the region, and the corrected p-value is below
1 - confidence. The published numbers carry print rounding only, so there it means that no rounding can change the answer.

P-values are corrected for the number of claims, and inside a claim only where one comparison decides alone (`levels`).
So a verdict depends on no other claim's scores: the part of a grid that a claim reads gives the verdict of the whole.
docs/CLAIMS.md has the error rates and the power that follow.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations, product
from pathlib import Path
from typing import Any

import yaml

from maple.config.params import Params
from maple.core.errors import MapleError, nearest
from maple.results import published
from maple.results.quantities import Quantity, choose, combine, mean
from maple.results.render import Table, to_markdown
from maple.results.tables import AVERAGE, PAPER_TASKS, Configuration, Results, rounded
from maple.upstream import languages

PATH = Path("paper_tables", "claims.yaml")
# What the paper does not say, asked in the same words; judged apart, so that asking costs its claims no power.
QUESTIONS = Path(__file__).parents[2] / "paper_tables" / "questions.yaml"
HOLDS, FAILS, CANNOT_TELL = "holds", "does not hold", "cannot tell"
BASE = "base"


@dataclass(frozen=True)
class Region:
    """Where a quantity must lie for a comparison to hold, and where it then certainly fails (two sides at most)."""

    text: str
    holds: tuple[float, float]
    fails: tuple[tuple[float, float], ...]

    @classmethod
    def above(cls, margin: float) -> "Region":
        # An advantage that is surely smaller than the margin counts as none.
        return cls("> 0", (0, math.inf), ((-math.inf, margin),))

    @classmethod
    def below(cls, margin: float) -> "Region":
        return cls(f"< {margin:g}", (-math.inf, margin), ((margin, math.inf),))

    @classmethod
    def within(cls, margin: float) -> "Region":
        return cls(f"within {margin:g}", (-margin, margin), ((-math.inf, -margin), (margin, math.inf)))


@dataclass(frozen=True)
class Comparison:
    """One question; `quantity` is None when a score it needs does not exist, and `why` says which."""

    text: str
    region: Region
    quantity: Quantity | None
    why: str = ""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    verdict: str = CANNOT_TELL


@dataclass(frozen=True)
class Checked:
    """A claim with its verdicts on the published numbers and on ours."""

    id: str
    statement: str
    source: str
    test: str
    need: str
    published: list[Comparison]
    ours: list[Comparison]
    label: str | None = None

    def verdict(self, side: str) -> str:
        verdicts = [comparison.verdict for comparison in getattr(self, side)]
        decisive, other = (HOLDS, FAILS) if self.need == "any" else (FAILS, HOLDS)
        if decisive in verdicts:
            found = decisive
        else:
            found = other if verdicts and all(v == other for v in verdicts) else CANNOT_TELL
        return f"{found} ({self.label})" if side == "ours" and self.label else found

    def missing(self, side: str) -> list[str]:
        """What a `cannot tell` lacks, each reason once."""
        return list(dict.fromkeys(c.why for c in getattr(self, side) if c.why and c.verdict == CANNOT_TELL))


# -- Scores by the words of claims.yaml ----------------------------------------------------------------------------


class NoScore(Exception):
    """A score that a comparison needs does not exist; the message says what is missing."""


class Printed:
    """The paper's own numbers: best configurations, all languages together, nothing before finetuning."""

    def score(self, model: str, dataset: str, column: str, codes: str, configurations: str) -> Quantity:
        if codes != "all":
            raise NoScore("the paper prints no numbers by language")
        if dataset == BASE:
            raise NoScore("the paper prints no scores before finetuning")
        if configurations != "best":
            raise NoScore("the paper prints no numbers by rank and quantisation")
        return self._cell(f"{model}.{dataset}", column)

    def slope(self, model: str, column: str, codes: str, factor: str) -> Quantity:
        raise NoScore("the paper prints no numbers by rank and quantisation")

    def _cell(self, row: str, column: str) -> Quantity:
        table, key = ("table2", "winrate") if column == "alpaca_eval" else ("table1", column)
        cell = published.cells().get((table, row, key))
        if cell is None or cell.number is None:
            raise NoScore(f"the paper prints no number for {row} in {column}")
        scale = published.layout(table).scale
        return Quantity(float(cell.number / scale), rounding=float(cell.rounding / scale))

    def baseline(self, name: str, column: str) -> Quantity:
        return self._cell(name, column)

    def datasets(self) -> list[str]:
        """The training sets among which a model's best one is looked for."""
        return published.paper()["grid"]["datasets"]

    def best(self, quantities: Sequence[Quantity]) -> Quantity:
        return max(quantities, key=lambda quantity: quantity.value)


class Measured(Printed):
    """Our numbers; baselines stay the published ones, which we do not run."""

    def __init__(self, results: Results):
        self.results = results
        # Comparisons ask for the same scores again and again.
        self._known: dict[tuple, Quantity] = {}

    def datasets(self) -> list[str]:
        return [name for name in super().datasets() if name in self.results.params.grid.datasets]

    def score(self, model: str, dataset: str, column: str, codes: str, configurations: str) -> Quantity:
        key = (model, dataset, column, codes, configurations)
        if key not in self._known:
            one = lambda found: self._one(found, column, codes)  # noqa: E731
            self._known[key] = self._of(model, dataset, column, configurations, one)
        return self._known[key]

    def before(self, model: str, dataset: str, column: str, codes: str, configurations: str) -> Quantity:
        """The base that the scored adapters stand on: same bits."""
        base = lambda found: self._one(Configuration.base(model, found.bits), column, codes)  # noqa: E731
        return self._of(model, dataset, column, configurations, base)

    def best(self, quantities: Sequence[Quantity]) -> Quantity:
        first = max(range(len(quantities)), key=lambda place: quantities[place].value)
        return choose(quantities, quantities, first).corrected

    def _of(
        self, model: str, dataset: str, column: str, which: str, score: Callable[[Configuration], Quantity]
    ) -> Quantity:
        """Mean over the grid, or at the best configuration, without what a score owes to having been chosen."""
        rows = self.results.rows.get((model, dataset), [])
        if rows and which == "all":
            return mean([score(configuration) for configuration in rows])
        chosen = self.results.chosen(model, dataset, column)
        if not rows or chosen is None:
            raise NoScore(f"our grid has no complete {model} on {dataset}")
        # Says what is missing there; other configurations may go without.
        score(chosen)

        def known(configuration: Configuration) -> Quantity | None:
            try:
                return score(configuration)
            except NoScore:
                return None

        return self.results.choice(model, dataset, column, known).corrected

    def slope(self, model: str, column: str, codes: str, factor: str) -> Quantity:
        """Score at the highest rank (or bits) minus score at the lowest, on the fitted line over its log2."""
        found: dict[int, list[Quantity]] = {}
        for (row_model, _), configurations in self.results.rows.items():
            for configuration in configurations if row_model == model else []:
                found.setdefault(getattr(configuration, factor), []).append(self._one(configuration, column, codes))
        if len(found) < 2:
            raise NoScore(f"our grid has one value of {factor} for {model}")
        steps = {level: math.log2(level) for level in sorted(found)}
        centre = sum(steps.values()) / len(steps)
        square = sum((step - centre) ** 2 for step in steps.values())
        span = max(steps.values()) - min(steps.values())
        factors = [span * (step - centre) / square for step in steps.values()]
        return combine([mean(found[level]) for level in steps], factors)

    def _one(self, configuration: Configuration, column: str, codes: str) -> Quantity:
        if codes == "all":
            found = self.results.score(configuration, column)
        elif self.results.languages(column, codes_of(codes).__contains__):
            found = self.results.score_among(configuration, column, codes_of(codes).__contains__)
        else:
            raise NoScore(f"no {codes} languages are scored in {column}")
        if found is None:
            raise NoScore(f"scores of {configuration.names[0]} in {column} are missing")
        return found


@cache
def codes_of(word: str) -> frozenset[str]:
    """Codes of the languages that a word of claims.yaml means."""
    return frozenset(
        code
        for code, language in languages.table().items()
        if word in ("english" if code == "en" else None, language.resource, f"group{language.group}", language.family)
    )


# -- Tests: arguments to comparisons -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """Arguments of one check, lists made explicit. See claims.yaml for their meaning."""

    test: str
    columns: list[str]
    models: list[str]
    first: list[str]
    second: list[str]
    baselines: list[str]
    languages: list[str]
    factor: str | None
    configurations: str
    margin: float
    need: str

    def scores(self) -> Iterator[tuple[str, str, str]]:
        """(model, column, languages) of every comparison."""
        return product(self.models, self.columns, self.languages)


def _between_sets(check: Check, view: Printed, region: Region) -> Iterator[Comparison]:
    for model, column, codes in check.scores():
        for first, second in product(check.first, check.second):
            text = f"{_place(model, column, codes, check)}: {first} - {second}"
            yield _ask(
                text,
                region,
                lambda m=model, a=first, b=second, c=column, k=codes: _difference(check, view, m, a, b, c, k),
            )


def _difference(check: Check, view: Printed, model: str, first: str, second: str, column: str, codes: str) -> Quantity:
    """first - second; a base is taken at the bits of the training set it is compared with."""

    def one(dataset: str, other: str) -> Quantity:
        if dataset == BASE and isinstance(view, Measured):
            return view.before(model, other, column, codes, check.configurations)
        return view.score(model, dataset, column, codes, check.configurations)

    return one(first, second) - one(second, first)


def _equivalent(check: Check, view: Printed) -> Iterator[Comparison]:
    return _between_sets(check, view, Region.within(check.margin))


def _not_better(check: Check, view: Printed) -> Iterator[Comparison]:
    return _between_sets(check, view, Region.below(check.margin))


def _better(check: Check, view: Printed) -> Iterator[Comparison]:
    return _between_sets(check, view, Region.above(check.margin))


def _outweighs(check: Check, view: Printed) -> Iterator[Comparison]:
    """The models' gap, averaged over training sets, against each difference between two sets of one model."""
    datasets = published.paper()["grid"]["datasets"]
    weaker, stronger = "llama-2-7b", "mistral-7b"
    for column, codes in product(check.columns, check.languages):

        def score(model: str, dataset: str, column: str = column, codes: str = codes) -> Quantity:
            return view.score(model, dataset, column, codes, check.configurations)

        def gap_over(model: str, first: str, second: str, score: Callable = score) -> Quantity:
            gap = mean([score(stronger, d) for d in datasets]) - mean([score(weaker, d) for d in datasets])
            return gap - (score(model, first) - score(model, second))

        for model, (first, second) in product((weaker, stronger), permutations(datasets, 2)):
            text = f"{column}: ({stronger} - {weaker}) - ({first} - {second} of {model})"
            yield _ask(text, Region.above(check.margin), lambda m=model, a=first, b=second, ask=gap_over: ask(m, a, b))


def _above_baseline(check: Check, view: Printed) -> Iterator[Comparison]:
    """The best training set of the model in the column, as Figure 2 draws it, against a published baseline row."""

    def best(model: str, column: str, codes: str) -> Quantity:
        found = [view.score(model, dataset, column, codes, check.configurations) for dataset in view.datasets()]
        if not found:
            raise NoScore("our grid has none of the paper's training sets")
        return view.best(found)

    for (model, column, codes), baseline in product(check.scores(), check.baselines):
        text = f"{_place(model, column, codes, check)}: best - {baseline}"
        yield _ask(
            text,
            Region.above(check.margin),
            lambda m=model, c=column, k=codes, b=baseline: best(m, c, k) - view.baseline(b, c),
        )


def _increases_with(check: Check, view: Printed) -> Iterator[Comparison]:
    for model, column, codes in check.scores():
        text = f"{_place(model, column, codes, check)}: highest - lowest {check.factor}"
        yield _ask(
            text, Region.above(check.margin), lambda m=model, c=column, k=codes: view.slope(m, c, k, check.factor)
        )


TESTS: dict[str, Callable[[Check, Printed], Iterator[Comparison]]] = {
    "equivalent": _equivalent,
    "not_better": _not_better,
    "better": _better,
    "outweighs": _outweighs,
    "above_baseline": _above_baseline,
    "increases_with": _increases_with,
}


def _place(model: str, column: str, codes: str, check: Check) -> str:
    parts = (
        [model, column]
        + ([codes] if codes != "all" else [])
        + (["whole grid"] if check.configurations == "all" else [])
    )
    return ", ".join(parts)


def _ask(text: str, region: Region, quantity: Callable[[], Quantity]) -> Comparison:
    try:
        return Comparison(text, region, quantity())
    except NoScore as reason:
        return Comparison(text, region, None, str(reason))


# -- Verdicts ------------------------------------------------------------------------------------------------------


def load(path: Path = PATH) -> dict[str, Any]:
    """claims.yaml with every word checked; MapleError names the first wrong one."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {"models": published.paper()["grid"]["models"], "first": [*published.paper()["grid"]["datasets"], BASE]}
    known |= {
        "second": known["first"],
        "columns": [*PAPER_TASKS, AVERAGE, "alpaca_eval"],
        "factor": ["rank", "bits"],
        "need": ["all", "any"],
    }
    known |= {"test": TESTS, "configurations": ["best", "all"], "margin": None}
    known |= {"baselines": [row.key for row in published.layout("table1").rows if row.baseline]}
    known |= {"languages": ["all", "english", "low", "medium", "high", "group1", "group2", "group3"]}
    known["languages"] += sorted({language.family for language in languages.table().values()})
    for claim in content["claims"]:
        for key, value in claim["check"].items():
            if key not in known:
                raise MapleError(
                    f"{path}: unknown word '{key}' in {claim['id']}", why="no test takes it", do=nearest(key, known)
                )
            for word in _listed(value) if known[key] is not None else []:
                if word not in known[key]:
                    raise MapleError(
                        f"{path}: unknown {key} '{word}' in {claim['id']}",
                        why="no score has that name",
                        do=nearest(word, known[key]),
                    )
    return content


def check(content: dict[str, Any], results: Results, only: Collection[str] = ()) -> list[Checked]:
    """Every claim on both sides, or `only` those with these ids: their verdicts are the same, as `levels` says."""
    views = {"published": Printed(), "ours": Measured(results)}
    label = results.label.split(":")[0].lower() if results.label else None
    checked = []
    for claim in content["claims"]:
        if only and claim["id"] not in only:
            continue
        of_test = arguments(claim["check"], results.params)
        judged = {}
        for side, view in views.items():
            asked = list(TESTS[of_test.test](of_test, view))
            corrected = levels(of_test.need, len(asked), len(content["claims"]))
            judged[side] = _judge(asked, corrected, results.params.tables.confidence, content["minimum_examples"])
        checked.append(
            Checked(
                id=claim["id"],
                statement=claim["statement"],
                source=claim["source"],
                test=of_test.test,
                need=of_test.need,
                **judged,
                label=label,
            )
        )
    return checked


def arguments(words: dict[str, Any], params: Params) -> Check:
    """The `check` of a claim with its defaults filled in."""
    return Check(
        test=words["test"],
        columns=_listed(words["columns"]),
        models=_listed(words.get("models", published.paper()["grid"]["models"])),
        first=_listed(words.get("first", [])),
        second=_listed(words.get("second", [])),
        baselines=_listed(words.get("baselines", [])),
        languages=_listed(words.get("languages", "all")),
        factor=words.get("factor"),
        configurations=words.get("configurations", "best"),
        margin=words.get("margin", params.tables.claim_margin),
        need=words.get("need", "all"),
    )


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class Levels:
    """By what p-values are multiplied before they are held against 1 - confidence."""

    holds: int
    fails: int


def levels(need: str, comparisons: int, claims: int) -> Levels:
    """Bonferroni over claims; inside a claim over its comparisons, but only for the answer that one of them decides.

    Where every comparison must agree, the least sure of them is as sure as a single test (Berger 1982, intersection-union
    tests); where one is enough, the surest of many is found by luck.

    >>> levels("all", comparisons=24, claims=18)
    Levels(holds=18, fails=432)
    """
    alone, together = claims * comparisons, claims
    return Levels(alone, together) if need == "any" else Levels(together, alone)


def _judge(group: list[Comparison], corrected: Levels, confidence: float, minimum: int) -> list[Comparison]:
    """Fill in interval, corrected p and verdict of every comparison of a claim."""
    return [_verdict(comparison, corrected, confidence, minimum) for comparison in group]


def _p(comparison: Comparison, regions: Sequence[tuple[float, float]], tests: int) -> float | None:
    """P-value of "the quantity lies in none of the regions", corrected for `tests`; None for printed numbers."""
    q = comparison.quantity
    if q.replicates is None:
        return None
    found = [max(_or(q.p_at_most, low), _or(q.p_at_least, high)) for low, high in regions]
    # Either of two sides will do: twice the smaller.
    return min(1.0, tests * len(found) * min(found))


def _or(p_of: Callable[[float], float], bound: float) -> float:
    return 0.0 if math.isinf(bound) else p_of(bound)


def _verdict(comparison: Comparison, corrected: Levels, confidence: float, minimum: int) -> Comparison:
    quantity, region = comparison.quantity, comparison.region
    if quantity is None:
        return comparison
    p, p_fails = _p(comparison, [region.holds], corrected.holds), _p(comparison, region.fails, corrected.fails)
    _, low, high = quantity.interval(confidence)
    found = replace(comparison, low=round(low, 9), high=round(high, 9), p=p)
    if quantity.n is not None and quantity.n < minimum:
        return replace(found, why=f"fewer than {minimum} examples in a language")
    alpha = 1 - confidence
    if (p is None or p < alpha) and _inside(found, *region.holds):
        return replace(found, verdict=HOLDS)
    if (p_fails is None or p_fails < alpha) and any(_inside(found, *side) for side in region.fails):
        return replace(found, verdict=FAILS)
    source = "print rounding" if p is None else "the interval"
    return replace(found, why=f"{source} reaches across the bound ({region.text})")


def _inside(comparison: Comparison, low: float, high: float) -> bool:
    """Bounds count as inside: printed differences often land exactly on a margin."""
    return low <= comparison.low and comparison.high <= high


# -- Output --------------------------------------------------------------------------------------------------------


def as_json(profile: str, checked: list[Checked]) -> dict[str, Any]:
    return {"schema": "maple.claims/1", "profile": profile, "claims": [_claim_json(claim) for claim in checked]}


def _claim_json(claim: Checked) -> dict[str, Any]:
    found = {key: getattr(claim, key) for key in ("id", "statement", "source", "test", "need")}
    for side in ("published", "ours"):
        found[side] = {
            "verdict": claim.verdict(side),
            "missing": claim.missing(side),
            "comparisons": [
                {
                    "text": c.text,
                    "wanted": c.region.text,
                    "value": c.quantity.value if c.quantity else None,
                    "low": c.low,
                    "high": c.high,
                    "p": c.p,
                    "verdict": c.verdict,
                    "why": c.why,
                }
                for c in getattr(claim, side)
            ],
        }
    return found


def sentence(checked: list[Checked]) -> str:
    """One line for the terminal: our verdicts counted."""
    verdicts = [claim.verdict("ours") for claim in checked]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)) or "none"


def as_markdown(checked: list[Checked], label: str | None, covered: str = "", title: str = "The paper's claims") -> str:
    """One table of verdicts, then the comparisons behind each; `covered`: what intervals cover (`tables.seeds_note`)."""
    rows = [
        [c.id, c.statement, c.source, c.verdict("published"), c.verdict("ours"), "; ".join(c.missing("ours"))]
        for c in checked
    ]
    header = ["claim", "statement", "source", "on the paper's numbers", "on ours", "what is missing on ours"]
    notes = [
        "Ours: paired bootstrap; p-values corrected for the number of claims, and inside a claim where one comparison "
        "decides alone. Scores of chosen configurations are without what they owe to the choice. docs/CLAIMS.md says how "
        "often such verdicts are wrong.",
        *([f"Ours: {covered}"] if covered else []),
        "The paper's: print rounding only, since it gives neither examples nor intervals.",
    ]
    parts = [f"# {title}\n\n", to_markdown(Table("Verdicts", header, rows, notes=notes, label=label))]
    for claim in checked:
        needed = "every comparison" if claim.need == "all" else "one comparison"
        behind = [
            [side, c.text, c.region.text, *figures(c), c.verdict, c.why]
            for side in ("published", "ours")
            for c in getattr(claim, side)
        ]
        header = ["numbers", "comparison", "wanted", "value", "low", "high", "p", "verdict", "why not"]
        title = f"## {claim.id}\n\n{claim.statement} ({claim.source}; needs {needed})"
        parts.append("\n" + to_markdown(Table(title, header, behind)))
    return "".join(parts)


def figures(comparison: Comparison) -> list[str]:
    """value, low, high, p as text; `missing` where there is no score."""
    if comparison.quantity is None:
        return ["missing", "", "", ""]
    numbers = [rounded(number, 4) for number in (comparison.quantity.value, comparison.low, comparison.high)]
    return [*numbers, "" if comparison.p is None else f"{comparison.p:.2g}"]
