"""Which configurations a figure shows: those that stand in Table 1 (`tables.best`), and each model's base."""

from dataclasses import dataclass

from maple.figures import style
from maple.results.quantities import Quantity
from maple.results.tables import AVERAGE, Configuration, Results


@dataclass(frozen=True)
class Shown:
    model: str
    dataset: str
    configuration: Configuration

    def where(self) -> dict:
        """The columns that say where a row's numbers come from."""
        rank, bits = self.configuration.rank or None, self.configuration.bits
        return {"model": self.model, "dataset": self.dataset, "rank": rank, "bits": bits}


def rows(results: Results) -> list[tuple[str, str]]:
    """(model, training set) of the grid, by model, training sets in the paper's order."""
    order = style.training_sets({dataset for _, dataset in results.rows})
    return sorted(results.rows, key=lambda row: (row[0], order.index(row[1])))


def shown(results: Results, task: str) -> list[Shown]:
    """What to draw for `task`: per model its base, then the configuration of each row of Table 1 that has one."""
    chosen = []
    for model in sorted({model for model, _ in rows(results)}):
        # The widest base of the grid: the least quantised is the nearest to the model as released.
        bits = max(base.bits for base in results.params.bases if base.model == model)
        chosen.append(Shown(model, style.NO_TRAINING, Configuration(0, bits, (f"{model}-{bits}bit",))))
        for _, dataset in (row for row in rows(results) if row[0] == model):
            configuration = results.chosen(model, dataset, task)
            if configuration:
                chosen.append(Shown(model, dataset, configuration))
    return chosen


def best_of_model(results: Results, model: str, task: str) -> Shown | None:
    """The model's best row of Table 1: by average, or by `task` where each cell has its own configuration."""
    by = task if results.params.tables.best == "cell" else AVERAGE
    best: tuple[float, Shown] | None = None
    for _, dataset in (row for row in rows(results) if row[0] == model):
        configuration = results.chosen(model, dataset, task)
        score = results.score(configuration, by) if configuration else None
        if score is not None and (best is None or score.value > best[0]):
            best = (score.value, Shown(model, dataset, configuration))
    return best[1] if best else None


def ends(results: Results, quantity: Quantity) -> dict[str, float]:
    """value, low and high of the interval, as the rows of a figure carry them."""
    return quantity.interval(results.params.tables.confidence)._asdict()
