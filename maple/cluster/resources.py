"""What a task asks the scheduler for: time, memory, GPUs, from the plan of its models with a margin."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from maple.cluster.inputs import Verb
from maple.config.cell import Cell
from maple.config.params import Params, Recipe
from maple.core.errors import MapleError
from maple.planning import cell_cost, plan
from maple.planning.cell_cost import Device

# The plan's hours are good to some 20 % where a speed was measured and to a factor of two where it was assumed; a task
# that needs more all the same is requeued and goes on.
MARGIN = 1.5
# Host memory, GB. Libraries and the CUDA context; then the largest of: the base, which passes through in bfloat16, and a
# checkpoint of adapter and optimiser. Smoke: measured, README.
HOST_GB = {"smoke": 2.0, "hub": 8.0}
CPUS = {"smoke": 1, "hub": 8}
# Keys, values and logits of a batch of questions. Assumed: evaluation.batch_tokens tokens of a 7B model take 2 GB.
ANSWERING_GB = 4.0
# A scheduler's shortest useful time, minutes: starting Python on a cold file server.
SHORTEST_MINUTES = {"smoke": 5, "hub": 60}


@dataclass(frozen=True)
class Options:
    """What a user said instead of the plan; None: as planned. `gpu_types`: GB of memory by the scheduler's name."""

    minutes: int | None = None
    memory_gb: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    gpu_types: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Ask:
    """Of one task. `gpu_gb`: the peak that the plan expects on the GPU, its context included."""

    minutes: int
    memory_gb: int
    cpus: int
    gpus: int
    gpu_type: str
    gpu_gb: float


@dataclass(frozen=True)
class Work:
    """A model and what is left to do for it."""

    name: str
    verbs: tuple[Verb, ...]


def of(params: Params, works: Iterable[Work], device: Device, options: Options) -> Ask:
    """What one task that does these, one after the other, asks for."""
    works = list(works)
    gpus = options.gpus if options.gpus is not None else int(not params.is_smoke)
    gpu_gb = round(max(_gpu_gb(params, work) for work in works), 1) if gpus else 0.0
    gpu_type = _gpu_type(gpu_gb, options.gpu_types, works[0].name) if gpus else ""
    hours = sum(planned_hours(params, work, device_of(gpu_type, device)) for work in works)
    minutes = options.minutes or _rounded(60 * hours * MARGIN, SHORTEST_MINUTES[params.sources])
    host = math.ceil(max(_host_gb(params, work) for work in works) * MARGIN / 4) * 4
    return Ask(
        minutes,
        options.memory_gb or host,
        options.cpus or CPUS[params.sources],
        gpus,
        gpu_type,
        gpu_gb,
    )


def device_of(gpu_type: str, planned: Device) -> Device:
    """What a scheduler's type of GPU is in benchmarks/devices.csv; what the plan is for if it is not there.

    >>> [device_of(kind, cell_cost.devices()[0]).name for kind in ("l40s", "a100", "rtx_4090", "gpu")]
    ['L40S', 'A100-80GB', 'RTX 4090', 'CPU']
    """
    wanted = re.sub(r"[\W_]", "", gpu_type.lower())
    for device in cell_cost.devices():
        words = re.split(r"\W", device.name.lower())
        if wanted in (*words, "".join(words)):
            return device
    return planned


def planned_hours(params: Params, work: Work, device: Device) -> float:
    """Without a margin."""
    cell, recipe = _cell(params, work.name)
    hours = 0.0
    if "train" in work.verbs and cell:
        hours += plan.line(params, cell, recipe, work.name, device).hours
    if "answer" in work.verbs:
        base = cell.base if cell else next(base for base in params.bases if base.name == work.name)
        hours += plan.scoring(params, work.name, base, device).hours
    return hours


def _host_gb(params: Params, work: Work) -> float:
    cell, recipe = _cell(params, work.name)
    model = cell.base.model if cell else next(base.model for base in params.bases if base.name == work.name)
    shape = plan.shape_of(params, model)
    checkpoint = 3 * 4 * shape.lora_parameters(cell.rank, recipe.lora.targets) if cell else 0
    # Read shard by shard: a third of the base at most is on the host at once. Pages of a mapped file can be given back.
    base = 2 * shape.parameters / 3
    return HOST_GB[params.sources] + (base + checkpoint) / 1e9


def _gpu_gb(params: Params, work: Work) -> float:
    cell, recipe = _cell(params, work.name)
    base = cell.base if cell else next(base for base in params.bases if base.name == work.name)
    shape = plan.shape_of(params, base.model)
    peak = cell_cost.weight_bytes(shape, base.bits) / 1e9 + ANSWERING_GB
    if cell and "train" in work.verbs:
        rows = plan.rows_of(params, cell.dataset, base.model)
        peak = max(peak, cell_cost.memory(shape, base.bits, cell.rank, recipe, rows, on_gpu=True).peak / 1e9)
    return peak + cell_cost.GPU_CONTEXT_GB


def _cell(params: Params, name: str) -> tuple[Cell | None, Recipe]:
    if name in params.grid.bases:
        return None, params.recipe
    return params.cell_of(name)


def _gpu_type(gpu_gb: float, types: dict[str, float], name: str) -> str:
    """The smallest type that holds it; empty if the user named none, and then any GPU will do."""
    fitting = sorted((memory, kind) for kind, memory in types.items() if memory >= gpu_gb)
    if types and not fitting:
        raise MapleError(
            f"{name} fits none of the GPUs that were named",
            why=f"the plan expects {gpu_gb:.1f} GB at its peak, and the largest has {max(types.values()):.0f}",
            do="name a larger one with --gpu-types, set recipe.gradient_checkpointing: true or lower recipe.micro_batch_tokens",
        )
    return fitting[0][1] if fitting else ""


def _rounded(minutes: float, shortest: int) -> int:
    """Up to a whole half hour, a whole five minutes when short: tasks that ask for the same form one array.

    >>> _rounded(3, 5), _rounded(44, 5), _rounded(61, 60), _rounded(200, 60)
    (5, 45, 90, 210)
    """
    step = 5 if minutes <= 60 else 30
    return max(shortest, math.ceil(minutes / step) * step)


def minutes(text: str) -> int:
    """Minutes, as Slurm writes them: `90`, `1:30:00`, `2-00:00:00`.

    >>> minutes("90"), minutes("1:30:00"), minutes("2-00:00:00"), minutes("90:00")
    (90, 90, 2880, 90)
    """
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)??(\d+)(?::(\d\d))?", text)
    if not found or not text.strip("0:-"):
        raise ValueError(text)
    days, hours, first, seconds = (int(part or 0) for part in found.groups())
    if found[1] and not found[2]:
        # Slurm's days-hours and days-hours:minutes.
        return 1440 * days + 60 * first + seconds
    return 1440 * days + 60 * hours + first + (seconds > 0)


def gpu_types(text: str) -> dict[str, float]:
    """GB by type.

    >>> gpu_types("l40s:48,a100:80")
    {'l40s': 48.0, 'a100': 80.0}
    """
    pairs = [part.split(":") for part in text.split(",")]
    return {kind: float(memory) for kind, memory in pairs}
