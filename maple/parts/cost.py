"""What a part costs: the profile's own plan of its cells, and of the share of the evaluation that it asks."""

from collections.abc import Collection
from dataclasses import dataclass

from maple.config.cell import Base
from maple.config.params import Params
from maple.parts.parts import Part
from maple.planning import evaluation_cost, plan
from maple.planning.cell_cost import Device
from maple.planning.evaluation_cost import Scoring


@dataclass(frozen=True)
class Cost:
    """Counts and hours of what is still to do; `price` as benchmarks/devices.csv has it; the judge comes on top."""

    cells: int
    to_train: int
    models: int
    to_ask: int
    training_hours: float
    asking_hours: float
    price: float

    @property
    def hours(self) -> float:
        return self.training_hours + self.asking_hours


def of(part: Part, params: Params, device: Device, again: Collection[str] = ()) -> Cost:
    """`params`: the whole profile's; `again`: finished stages that will run again (plan.outdated)."""
    lines = [plan.line(params, cell, params.recipe, cell.name, device, again) for cell in part.params.cells]
    asked = [(cell.name, cell.base) for cell in part.params.cells]
    asked += [(base.name, base) for base in part.params.bases if part.bases]
    whole = list(zip(plan.in_one_process(params, asked, device, again), (base for _, base in asked)))
    # What a model has answered holds whatever fewer tasks and languages a part asks; fewer rows are asked apart.
    todo = [(found, base) for found, base in whole if not found.done or part.fewer_rows(params)]
    training = sum(line.hours for line in lines if not line.done)
    shares = {base: _share(part, params, base, device) for base in part.params.bases}
    asking = sum(_hours(found, shares[base]) for found, base in todo)
    return Cost(
        cells=len(lines),
        to_train=sum(not line.done for line in lines),
        models=len(asked),
        to_ask=len(todo),
        training_hours=training,
        asking_hours=asking,
        price=(training + asking) * device.price_per_hour,
    )


def _hours(whole: Scoring, share: float) -> float:
    """A model's hours for all that the profile asks, cut to what the part asks; the start stays whole."""
    return whole.start_hours + (whole.hours - whole.start_hours) * share


def _share(part: Part, params: Params, base: Base, device: Device) -> float:
    """Of a model's time for the whole evaluation, what the part takes."""
    pace = evaluation_cost.pace(params.evaluation, plan.shape_of(params, base.model), base.bits, device)
    few, whole = (
        pace.hours(*evaluation_cost.tokens(evaluation, base.model)[1:])
        for evaluation in (part.params.evaluation, params.evaluation)
    )
    return few / whole
