"""What a profile's grid will cost, cell by cell, from parameters, shapes and whatever is already known on disk."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from maple.config import bills, catalogue
from maple.config.cell import Base, Cell
from maple.config.methods import METHODS
from maple.config.params import Params, Recipe
from maple.models.shapes import Shape
from maple.planning import auto, cell_cost, evaluation_cost, fertility
from maple.planning.cell_cost import Device, Memory, RowCounts, Speed
from maple.planning.evaluation_cost import Scoring

# Planned with when this machine's GPU is not in benchmarks/devices.csv.
REFERENCE_DEVICE = "H100-80GB"
# Starting Python, reading the base, measuring the held-out loss twice.
START_SECONDS = {"smoke": 10, "hub": 180}
# Assumed: to put the next adapter on a base that is in memory (stages/answers.py).
SWAP_SECONDS = 10


@dataclass(frozen=True)
class Line:
    """One cell's plan."""

    cell: Cell
    done: bool
    trainable_percent: float
    steps: int
    tokens: float
    tokens_assumed: bool
    memory: Memory
    hours: float
    speed: Speed
    saved_bytes: float


def stages_of(params: Params, name: str) -> tuple[str, str]:
    """DVC's names of the stages that train and ask a cell, a base (which nothing trains) or the experiment."""
    if name == "experiment":
        return "train_experiment", "answer_experiment"
    if name in {base.name for base in params.bases}:
        return "", f"answer_base@{name}"
    cell = Cell.parse(name)
    item = f"{cell.base.name}-{cell.dataset}-{cell.rank}-{cell.seed}"
    return f"train@{item}", f"answer@{item}"


@dataclass(frozen=True)
class Outdated:
    """Stages that DVC would run again because a setting or a file has changed since they ran, by DVC's names.

    `again` are stages of models that had finished. `before` are stages that fetch and prepare: only when they have run
    is it known whether they made something else, and whether models must then run again too.
    """

    again: set[str]
    before: set[str]


def outdated(params: Params, names: list[str]) -> Outdated | None:
    """What is out of date for these models; None where DVC cannot be asked, as while another command of its runs.

    Its run-cache, which may hold the results of other settings, is not asked.
    """
    finished = {
        stage
        for name in names
        for stage, kind in zip(stages_of(params, name), ("adapters", "answers"))
        if stage and _done(params, kind, name)
    }
    if not finished:
        return Outdated(set(), set())
    # The whole file at once: naming the stages takes DVC longer.
    command = [sys.executable, "-m", "dvc", "status", "--json", str(params.pipeline)]
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode:
        return None
    changes = {stage.removeprefix(f"{params.pipeline}:"): found for stage, found in json.loads(asked.stdout).items()}
    changed = {stage for stage, found in changes.items() if _changed(found)}
    return Outdated(finished & changed, {stage for stage in changed if re.match(r"download$|prepare@", stage)})


def _changed(found: list[Any]) -> bool:
    """Whether `dvc status` says more of a stage than that inputs are not here: those are fetched, and it is skipped."""
    inputs = [
        change["changed deps"] for change in found if isinstance(change, dict) and set(change) == {"changed deps"}
    ]
    return len(inputs) < len(found) or any(state != "deleted" for paths in inputs for state in paths.values())


def lines(params: Params, device: Device, again: Collection[str] = ()) -> list[Line]:
    """The grid's cells; `again`: finished stages that will run again all the same."""
    return [line(params, cell, params.recipe, cell.name, device, again) for cell in params.cells]


def line(params: Params, cell: Cell, recipe: Recipe, name: str, device: Device, again: Collection[str] = ()) -> Line:
    shape = shape_of(params, cell.base.model)
    rows = rows_of(params, cell.dataset, cell.base.model)
    bits, rank = cell.base.bits, cell.rank
    on_gpu = not params.is_smoke
    recipe = auto.recipe(recipe, shape, bits, rank, rows, device.memory_gb * 1e9 if on_gpu else None)
    memory = cell_cost.memory(shape, bits, rank, recipe, rows, on_gpu)
    # Another method's speed is not the grid's.
    known = speed_in_this_grid(params, cell) if recipe.method == params.recipe.method else None
    if known is None:
        model = cell.base.model if on_gpu else "smoke"
        speed = cell_cost.speed(device, model, shape, bits, rank, recipe, rows)
    else:
        speed = cell_cost.Speed(known, "this grid")
    tokens = cell_cost.tokens(rows, recipe)
    return Line(
        cell=cell,
        done=_done(params, "adapters", name) and stages_of(params, name)[0] not in again,
        trainable_percent=shape.trainable_percent(recipe, rank),
        steps=cell_cost.steps(rows.rows, recipe),
        tokens=tokens,
        tokens_assumed=rows.assumed,
        memory=memory,
        hours=speed.hours(tokens) + START_SECONDS[params.sources] / 3600,
        speed=speed,
        saved_bytes=cell_cost.saved_bytes(shape, recipe, rank),
    )


def scorings(params: Params, device: Device, again: Collection[str] = ()) -> list[Scoring]:
    """The evaluation of every cell, and of the bases as they are."""
    models = [(cell.name, cell.base) for cell in params.cells] + [(base.name, base) for base in params.bases]
    return in_one_process(params, models, device, again)


def in_one_process(
    params: Params, models: list[tuple[str, Base]], device: Device, again: Collection[str] = ()
) -> list[Scoring]:
    """Models asked base by base (stages/answers.py): the first on each base bears its start. Smoke's have processes of
    their own (stages/cells.py).
    """
    found: list[Scoring] = []
    loaded: set[Base] = set()
    method = METHODS[params.recipe.method]
    can_share = not (params.is_smoke or method.virtual or params.recipe.method == "full")
    for name, base in models:
        found.append(scoring(params, name, base, device, again, on_loaded_base=can_share and base in loaded))
        loaded |= set() if found[-1].done else {base}
    return found


def scoring(
    params: Params, name: str, base: Base, device: Device, again: Collection[str] = (), on_loaded_base: bool = False
) -> Scoring:
    """A cell that is trained again is scored again."""
    done = _done(params, "answers", name) and not set(stages_of(params, name)) & set(again)
    known = evaluation_cost.hours_of(bills.known(params), base.name)
    if known is not None:
        start = min(known, START_SECONDS[params.sources] / 3600)
        between = tuple(known * end for end in cell_cost.RANGES["this grid"])
        return Scoring(name, done, known, between, measured=True, start_hours=start)
    start = (SWAP_SECONDS if on_loaded_base else START_SECONDS[params.sources]) / 3600
    if params.is_smoke:
        return Scoring(name, done, start, (start, start), measured=False, start_hours=start)
    pace = evaluation_cost.pace(params.evaluation, shape_of(params, base.model), base.bits, device)
    _, read, written = evaluation_cost.tokens(params.evaluation, base.model)
    low, high = pace.range(read, written)
    return Scoring(name, done, start + pace.hours(read, written), (start + low, start + high), False, pace, start)


def _done(params: Params, kind: str, name: str) -> bool:
    folder = params.folder("answers", name) if kind == "answers" else params.artifacts / kind / name
    return (folder / "record.json").exists()


def shape_of(params: Params, model: str) -> Shape:
    """From the model's config.json once it is here (a stand-in's always is), else from sources.yaml."""
    source = catalogue.models()[model]
    here = source.folder(params.artifacts / "sources")
    path = (Path(source.stand_in.folder) if params.is_smoke and source.stand_in else here) / "config.json"
    return Shape.of_config(json.loads(path.read_text())) if path.exists() else Shape(**source.shape)


@cache
def _statistics(path: Path) -> dict | None:
    return json.loads(path.read_text()) if path.exists() else None


def rows_of(params: Params, dataset: str, model: str) -> RowCounts:
    """The prepared set's own counts once it is prepared, else the parameters' rows and a mean length that is
    measured on other rows (maple/planning/fertility.py) or assumed."""
    found = _statistics(params.artifacts / "prepared" / dataset / "statistics.json")
    languages = found["languages"].values() if found else []
    counts = [language["models"][model] for language in languages if model in language["models"]]
    if counts:
        total, answers, rows = (sum(count[key] for count in counts) for key in ("tokens", "answer_tokens", "rows"))
        return RowCounts(found["rows"]["train"], total / rows, answers / total, assumed=False)
    codes = params.datasets[dataset].languages
    fill = fertility.fill(model, codes) if not params.is_smoke else None
    share = fertility.answer_share(model) if not params.is_smoke else None
    mean = (fill or cell_cost.ASSUMED_FILL) * params.prepare.max_length
    return RowCounts(params.prepare.rows, mean, share or cell_cost.ASSUMED_ANSWER_SHARE, assumed=True)


def speed_in_this_grid(params: Params, cell: Cell) -> float | None:
    """Median tokens per second of this profile's finished cells on the same base at the same rank."""
    same = rf"{re.escape(cell.base.name)}\.[^.]+\.r{cell.rank}\.s\d+"
    found = bills.known(params).items()
    speeds = [bill["tokens_per_second"] for (verb, name), bill in found if verb == "train" and re.fullmatch(same, name)]
    return median(speeds) if speeds else None


def device_of(params: Params) -> tuple[Device, bool]:
    """What the plan is for, and whether it is this machine's own."""
    known = {device.name: device for device in cell_cost.devices()}
    if params.is_smoke:
        return known["CPU"], True
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines()
        found = cell_cost.device_named(names[0]) if names else None
        if found:
            return found, True
    return known[REFERENCE_DEVICE], False


def whose(here: bool) -> str:
    """In words, whose device the plan is for, as `device_of` found it."""
    return "this machine's" if here else "assumed: this machine has none that benchmarks/devices.csv lists"


def smallest_device(params: Params, peak_bytes: float) -> str:
    """The device with the least memory in which a peak fits; a GPU's needs room for CUDA's context too."""
    on_gpu = not params.is_smoke
    for device in cell_cost.devices():
        if (
            device.name != "CPU"
        ) == on_gpu and peak_bytes / 1e9 + on_gpu * cell_cost.GPU_CONTEXT_GB <= device.memory_gb:
            return device.name
    return "none listed"
