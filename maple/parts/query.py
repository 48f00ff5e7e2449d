"""What a claim reads, found by asking its own check against a view that has every score and notes which are wanted.

So the judgement (maple/results/claims.py) stays the only place that says what a claim means.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from maple.config.params import Params
from maple.core.errors import MapleError, nearest
from maple.results import claims
from maple.results.claims import BASE
from maple.results.quantities import Quantity
from maple.results.tables import AVERAGE, PAPER_TASKS


@dataclass(frozen=True)
class Read:
    """A score that a check asks for, in the words of claims.yaml; `configurations` is best, all, rank or bits."""

    model: str
    dataset: str
    column: str
    languages: str
    configurations: str

    @property
    def factor(self) -> str | None:
        """What the score is followed over, if it is."""
        return self.configurations if self.configurations in ("rank", "bits") else None


@dataclass(frozen=True)
class Question:
    """A comparison of a claim: the scores it reads, or `why` this profile cannot have them."""

    text: str
    reads: tuple[Read, ...]
    why: str = ""


class Noting(claims.Measured):
    """Has every score of a profile's grid and evaluation, all zero, and notes what is asked."""

    def __init__(self, params: Params):
        self.params = params
        self.reads: list[Read] = []

    def datasets(self) -> list[str]:
        return [name for name in claims.Printed.datasets(self) if name in self.params.grid.datasets]

    def best(self, quantities: Sequence[Quantity]) -> Quantity:
        return quantities[0]

    def score(self, model: str, dataset: str, column: str, codes: str, configurations: str) -> Quantity:
        self._check_grid(model, dataset)
        return self._note(model, dataset, column, codes, configurations)

    def before(self, model: str, dataset: str, column: str, codes: str, configurations: str) -> Quantity:
        self._check_grid(model, dataset)
        return self._note(model, BASE, column, codes, configurations)

    def slope(self, model: str, column: str, codes: str, factor: str) -> Quantity:
        cells = [cell for cell in self.params.cells if cell.base.model == model]
        if len({cell.rank if factor == "rank" else cell.base.bits for cell in cells}) < 2:
            raise claims.NoScore(f"our grid has one value of {factor} for {model}")
        for dataset in self.params.grid.datasets:
            self._note(model, dataset, column, codes, factor)
        return Quantity(0.0)

    def _check_grid(self, model: str, dataset: str) -> None:
        if model not in {base.model for base in self.params.bases} or dataset not in self.params.grid.datasets:
            raise claims.NoScore(f"our grid has no {model} on {dataset}")

    def _note(self, model: str, dataset: str, column: str, codes: str, configurations: str) -> Quantity:
        asked, by = tasks_of(self.params, column), chosen_by(self.params, column)
        whole = len(tasks_of(self.params, AVERAGE)) == len(PAPER_TASKS)
        averaged = (column == AVERAGE and codes == "all") or (by == AVERAGE and configurations == "best")
        if not asked or (averaged and not whole):
            raise claims.NoScore(f"our evaluation has not all tasks of {column if not asked else AVERAGE}")
        if not any(spoken(self.params, task, codes) for task in asked):
            raise claims.NoScore(f"no {codes} languages are scored in {column}")
        self.reads.append(Read(model, dataset, column, codes, configurations))
        return Quantity(0.0)


def claim_named(content: dict[str, Any], name: str) -> dict[str, Any]:
    known = {claim["id"]: claim for claim in content["claims"]}
    if name not in known:
        raise MapleError(f"no claim '{name}'", why=f"{claims.PATH} has none of that id", do=nearest(name, known))
    return known[name]


def questions(claim: dict[str, Any], params: Params) -> list[Question]:
    """The comparisons of a claim, in the order in which it is judged."""
    view, found = Noting(params), []
    check = claims.arguments(claim["check"], params)
    for comparison in claims.TESTS[check.test](check, view):
        # A comparison asks for its scores when it is made, so what was noted since the last one is its own.
        reads, view.reads = tuple(dict.fromkeys(view.reads)), []
        found.append(Question(comparison.text, () if comparison.why else reads, comparison.why))
    return found


def tasks_of(params: Params, column: str) -> list[str]:
    """The evaluated tasks behind a column of Table 1 or 2."""
    return [task for task in (PAPER_TASKS if column == AVERAGE else (column,)) if task in params.evaluation.tasks]


def spoken(params: Params, task: str, codes: str) -> list[str]:
    """Languages of a task that a word of claims.yaml means."""
    return [
        code for code in params.evaluation.tasks[task].languages if codes == "all" or code in claims.codes_of(codes)
    ]


def sheets(params: Params, reads: Iterable[Read]) -> dict[str, list[str]]:
    """Task -> the languages in which the reads need it, those of choosing a configuration included."""
    wanted: dict[str, set[str]] = {}
    for read in reads:
        for task in tasks_of(params, read.column):
            wanted.setdefault(task, set()).update(spoken(params, task, read.languages))
        for task in _choosing(params, read):
            wanted.setdefault(task, set()).update(params.evaluation.tasks[task].languages)
    return {
        task: [code for code in options.languages if code in wanted[task]]
        for task, options in params.evaluation.tasks.items()
        if wanted.get(task)
    }


def _choosing(params: Params, read: Read) -> list[str]:
    """The tasks whose scores choose the configuration that a read of the best one stands for."""
    by = chosen_by(params, read.column)
    one = len(params.grid.ranks) == 1 and len({base.bits for base in params.bases if base.model == read.model}) == 1
    if read.configurations != "best" or by is None or (one and by == read.column):
        return []
    return tasks_of(params, by)


def chosen_by(params: Params, column: str) -> str | None:
    """The column by which `tables.best` chooses what stands in a column; None where no score chooses."""
    if params.tables.best == "heldout":
        return None
    return column if params.tables.best == "cell" or column == "alpaca_eval" else AVERAGE
