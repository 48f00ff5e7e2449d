"""Which cells a figure shows: those that stand in Table 1, chosen by the same rule (`tables.best`)."""

from maple.cell import Base
from maple.figures import style
from maple.figures.scored import Scored


def best_cells(scored: Scored, tasks: list[str]) -> dict[tuple[str, str], str]:
    """(model, training set) -> name of the cell with the highest average over `tasks`.

    A cell that lacks one of them cannot win; ties go to the first in the grid.
    """
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for name, record in scored.cells():
        average = scored.average(name, tasks)
        row = (record["model"], record["dataset"])
        if average is not None and (row not in best or average.value > best[row][0]):
            best[row] = (average.value, name)
    order = style.training_sets({dataset for _, dataset in best})
    return {row: best[row][1] for row in sorted(best, key=lambda row: (row[0], order.index(row[1])))}


def shown(scored: Scored, best: str, task: str) -> list[tuple[str, str, str]]:
    """(model, training set, name) to draw for `task`: one cell per row of Table 1, after each model's own base."""
    cells = best_cells(scored, scored.tasks if best == "row" else [task])
    chosen = []
    for model in sorted({model for model, _ in cells}):
        records = scored.collected.records.values()
        # The widest base that was scored: the least quantised is the nearest to the model as released.
        bits = [record["bits"] for record in records if record["kind"] == "base" and record["model"] == model]
        if bits:
            chosen.append((model, style.NO_TRAINING, Base(model, max(bits)).name))
        chosen += [(model, dataset, name) for (other, dataset), name in cells.items() if other == model]
    return chosen


def best_models(scored: Scored, best: str) -> dict[str, dict[str, str]]:
    """{model: {task: name of the cell}}: per model its best row of Table 1, or with `best` = cell its best cell per task."""
    chosen: dict[str, dict[str, str]] = {}
    for task in scored.tasks:
        wanted = scored.tasks if best == "row" else [task]
        winners: dict[str, tuple[float, str]] = {}
        for (model, _), name in best_cells(scored, wanted).items():
            value = scored.average(name, wanted).value
            if model not in winners or value > winners[model][0]:
                winners[model] = (value, name)
        for model, (_, name) in winners.items():
            chosen.setdefault(model, {})[task] = name
    return {model: chosen[model] for model in sorted(chosen)}
