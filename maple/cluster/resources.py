"""What a task asks the scheduler for: time, memory, GPUs, from the plan of its models with a margin."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

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
# Keys, values and logits of a small batch of questions; with `auto` a batch takes what the card has left. Assumed.
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
    gpu_type, gpu_gb = _gpu(params, works, device, options.gpu_types) if gpus else ("", 0.0)
    hours = sum(planned_hours(params, work, device_of(gpu_type, options.gpu_types, device)) for work in works)
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


def device_of(gpu_type: str, types: dict[str, float], planned: Device) -> Device:
    """What a scheduler's type of GPU is in benchmarks/devices.csv, with the memory that the user gave it; what the plan is
    for, with that memory, if the type is not there.

    >>> types = {"l40s": 48, "a100": 40, "rtx_4090": 24, "gpu": 16}
    >>> [device_of(kind, types, cell_cost.devices()[-1]).name for kind in types]
    ['L40S', 'A100-80GB', 'RTX 4090', 'H200']
    """
    if not gpu_type:
        return planned
    wanted = re.sub(r"[\W_]", "", gpu_type.lower())
    named = (device for device in cell_cost.devices() if wanted in _words(device))
    return replace(next(named, planned), memory_gb=types[gpu_type])


def _words(device: Device) -> tuple[str, ...]:
    words = re.split(r"\W", device.name.lower())
    return (*words, "".join(words))


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
    checkpoint = 3 * 4 * shape.trainable_parameters(recipe, cell.rank) if cell else 0
    # Read shard by shard: a third of the base at most is on the host at once. Pages of a mapped file can be given back.
    base = 2 * shape.parameters / 3
    return HOST_GB[params.sources] + (base + checkpoint) / 1e9


def _gpu(params: Params, works: list[Work], planned: Device, types: dict[str, float]) -> tuple[str, float]:
    """(the smallest type on which all of these fit, their peak there in GB); no type if the user named none."""
    if not types:
        return "", round(max(_gpu_gb(params, work, planned) for work in works), 1)
    for kind in sorted(types, key=types.__getitem__):
        peak = max(_gpu_gb(params, work, device_of(kind, types, planned)) for work in works)
        if peak <= types[kind]:
            return kind, round(peak, 1)
    raise MapleError(
        f"{works[0].name} fits none of the GPUs that were named",
        why=f"the plan expects {peak:.1f} GB at its peak on the largest, which has {types[kind]:.0f}",
        do="name a larger one with --gpu-types, set recipe.gradient_checkpointing: true or lower recipe.micro_batch_tokens",
    )


def _gpu_gb(params: Params, work: Work, device: Device) -> float:
    """Of training on this device, whose memory decides what `auto` in a recipe means, or of answering if that is more."""
    cell, recipe = _cell(params, work.name)
    base = cell.base if cell else next(base for base in params.bases if base.name == work.name)
    peak = cell_cost.weight_bytes(plan.shape_of(params, base.model), base.bits) / 1e9 + ANSWERING_GB
    if cell and "train" in work.verbs:
        peak = max(peak, plan.line(params, cell, recipe, work.name, device).memory.peak / 1e9)
    return peak + cell_cost.GPU_CONTEXT_GB


def _cell(params: Params, name: str) -> tuple[Cell | None, Recipe]:
    if name in params.grid.bases:
        return None, params.recipe
    return params.cell_of(name)


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
