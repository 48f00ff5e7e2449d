"""What of a grid decides a claim: all that its tables read, and cheaper parts with what each gives up.

A part is the profile's parameters with fewer cells, tasks, languages or rows; whatever plans, asks and scores a profile
does so with a part. `exact` comes first: the verdict from it alone is the verdict from the whole grid.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from maple import tasks
from maple.config.cell import Base
from maple.config.params import Evaluation, Params
from maple.core.errors import MapleError, nearest
from maple.parts import query
from maple.parts.query import Question, Read
from maple.results.claims import BASE
from maple.upstream import languages

EXACT, SMALLEST = "exact", "smallest"


@dataclass(frozen=True)
class Part:
    """`params`: the profile's, restricted; `bases`: whether models before finetuning are asked too."""

    choice: str
    gives_up: str
    params: Params
    bases: bool

    @property
    def names(self) -> list[str]:
        """The models that are asked."""
        return [cell.name for cell in self.params.cells] + (self.params.grid.bases if self.bases else [])

    def asks_all_of(self, params: Params) -> bool:
        """Whether its models are asked all that the profile asks: then DVC's own answers are its answers."""
        return self.params.evaluation == params.evaluation

    def fewer_rows(self, params: Params) -> bool:
        """Whether any language has fewer rows. Such answers serve no other run: the rows of a pass move one another's
        rounding, at 8 bits more than that.
        """
        whole = params.evaluation.tasks
        return any(options.limit != whole[task].limit for task, options in self.params.evaluation.tasks.items())


def of_claim(claim: dict[str, Any], params: Params, minimum: int) -> list[Part]:
    """The exact part of a claim, then cheaper ones; a choice that would change nothing is left out.

    `minimum` is claims.yaml's number of examples below which no comparison is judged. Raises MapleError where the
    profile lacks something that each comparison of the claim reads.
    """
    asked = query.questions(claim, params)
    reads = _reads(asked)
    if not reads:
        raise MapleError(
            f"the {params.profile} profile cannot tell whether '{claim['id']}' holds",
            why="; ".join(dict.fromkeys(question.why for question in asked)),
            do="choose a profile whose grid and evaluation have that",
        )
    found = [_part(EXACT, "nothing: all that the tables read for it", params, reads)]
    own = _own_columns(params)
    one, kept = _one_configuration(params, reads)
    rows = _rows(minimum)
    candidates: list[tuple[str, str, Params, list[Read]]] = [
        (
            "own-columns",
            "the choice of one configuration per row by its average: each column chooses its own (tables.best: cell)",
            own,
            reads,
        ),
        ("one-configuration", f"the choice among configurations: it speaks of {kept} only", one, reads),
        ("fewer-languages", _said(params, reads), _changed(params, _few_languages(params, reads)), reads),
        (
            "fewer-rows",
            f"power: {minimum} rows a language{_wider(params, reads, minimum)}; its answers serve no other run",
            _changed(params, rows),
            reads,
        ),
    ]
    small, which = _smallest(claim, asked, one)
    candidates.append((SMALLEST, f"all but {kept}, {minimum} rows a language{which}", _changed(one, rows), small))
    for choice, gives_up, changed, few in candidates:
        part = _part(choice, gives_up, changed, few)
        new = all((part.names, part.params.evaluation) != (other.names, other.params.evaluation) for other in found)
        if new or choice == SMALLEST:
            found.append(part)
    return found


def chosen(parts: list[Part], choice: str) -> Part:
    known = {part.choice: part for part in parts}
    if choice not in known:
        raise MapleError(
            f"no part '{choice}' of this claim", why="`make plan CLAIM=...` lists its parts", do=nearest(choice, known)
        )
    return known[choice]


def lacking(claim: dict[str, Any], params: Params) -> list[str]:
    """Why some of a claim's comparisons cannot be made in a profile, each reason once."""
    return list(dict.fromkeys(question.why for question in query.questions(claim, params) if question.why))


def _reads(asked: Iterable[Question]) -> list[Read]:
    return list(dict.fromkeys(read for question in asked for read in question.reads))


def _part(choice: str, gives_up: str, params: Params, reads: list[Read]) -> Part:
    models, sets = {read.model for read in reads}, {read.dataset for read in reads}
    grid = dataclasses.replace(
        params.grid,
        bases=[name for name in params.grid.bases if Base.parse(name).model in models],
        datasets=[name for name in params.grid.datasets if name in sets],
    )
    params = dataclasses.replace(params, grid=grid)
    wanted = query.sheets(params, reads)
    options = params.evaluation.tasks
    restricted = {task: dataclasses.replace(options[task], languages=codes) for task, codes in wanted.items()}
    evaluation = dataclasses.replace(params.evaluation, tasks=restricted)
    return Part(choice, gives_up, dataclasses.replace(params, evaluation=evaluation), BASE in sets)


# -- Cheaper choices -----------------------------------------------------------------------------------------------


def _changed(params: Params, change: Callable[[Evaluation], Evaluation]) -> Params:
    return dataclasses.replace(params, evaluation=change(params.evaluation))


def _own_columns(params: Params) -> Params:
    return dataclasses.replace(params, tables=dataclasses.replace(params.tables, best="cell"))


def _one_configuration(params: Params, reads: list[Read]) -> tuple[Params, str]:
    """One rank and bit width per model, or the two ends of the factor that the claim follows; and that in words.

    The experiment's own, where the grid has them: the profile's author took them for a good first choice.
    """
    factors = {read.factor for read in reads} - {None}
    ranks = [params.lora.r] if params.lora.r in params.grid.ranks else [min(params.grid.ranks)]
    if "rank" in factors:
        ranks = [min(params.grid.ranks), max(params.grid.ranks)]
    bases = []
    for model in dict.fromkeys(base.model for base in params.bases if base.model in {read.model for read in reads}):
        bits = sorted(base.bits for base in params.bases if base.model == model)
        own = params.quantisation.bits if params.quantisation.bits in bits else bits[0]
        bases += [
            Base(model, width).name for width in dict.fromkeys((bits[0], bits[-1]) if "bits" in factors else (own,))
        ]
    grid = dataclasses.replace(params.grid, bases=bases, ranks=ranks, seeds=params.grid.seeds[:1])
    widths = sorted({Base.parse(name).bits for name in bases})
    kept = f"rank {' and '.join(map(str, ranks))} at {' and '.join(map(str, widths))} bits"
    return dataclasses.replace(_own_columns(params), grid=grid), kept


def _rows(limit: int) -> Callable[[Evaluation], Evaluation]:
    def change(evaluation: Evaluation) -> Evaluation:
        restricted = {
            task: dataclasses.replace(options, limit=limit if _size(task, options.limit) > limit else options.limit)
            for task, options in evaluation.tasks.items()
        }
        return dataclasses.replace(evaluation, tasks=restricted)

    return change


def _size(task: str, limit: int | None) -> int:
    """Examples of a language, as upstream counts them."""
    return min(tasks.get(task).size, limit or tasks.get(task).size)


def _wider(params: Params, reads: list[Read], minimum: int) -> str:
    wanted = query.sheets(params, reads)
    counts = [_size(task, params.evaluation.tasks[task].limit) for task in wanted]
    factor = (max(counts) / minimum) ** 0.5
    return f", intervals up to {factor:.1f} times as wide" if factor > 1 else ""


def _few(params: Params, reads: list[Read], task: str) -> list[str]:
    """Of each kind of language that the claim speaks of the first that a task has."""
    known = languages.table()
    wanted = query.sheets(params, reads).get(task, [])
    kind = lambda code: (code == "en", known[code].resource, known[code].group)  # noqa: E731
    by_group = any(read.languages.startswith("group") for read in reads)
    first = {kind(code) if by_group else kind(code)[:2]: code for code in reversed(wanted)}
    return [code for code in wanted if code in first.values()]


def _few_languages(params: Params, reads: list[Read]) -> Callable[[Evaluation], Evaluation]:
    def change(evaluation: Evaluation) -> Evaluation:
        restricted = {
            task: dataclasses.replace(options, languages=_few(params, reads, task) or options.languages)
            for task, options in evaluation.tasks.items()
        }
        return dataclasses.replace(evaluation, tasks=restricted)

    return change


def _said(params: Params, reads: list[Read]) -> str:
    wanted = query.sheets(params, reads)
    kept = sorted({code for task in wanted for code in _few(params, reads, task)})
    return f"the other languages: it speaks of {' '.join(kept)} only"


def _smallest(claim: dict[str, Any], asked: list[Question], one: Params) -> tuple[list[Read], str]:
    """What must be read for a verdict: all comparisons, or, where one suffices, the cheapest of them."""
    possible = [question for question in asked if question.reads]
    if claim["check"].get("need") != "any":
        return _reads(possible), ""
    cheapest = min(possible, key=lambda question: _examples(_part("", "", one, list(question.reads))))
    return list(cheapest.reads), f", and of its comparisons but one ({cheapest.text}), which can only say that it holds"


def _examples(part: Part) -> int:
    """Examples that its models are asked in all."""
    of_one = sum(
        len(options.languages) * _size(task, options.limit) for task, options in part.params.evaluation.tasks.items()
    )
    return of_one * len(part.names)
