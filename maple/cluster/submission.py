"""Handing a profile's missing work to a scheduler: Slurm, or this machine's GPUs one model each.

A model whose adapter and answers stand, made from what lies here now, is not submitted; nor is one that a job still has.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maple.cluster import inputs, ledger, resources
from maple.cluster.resources import Ask, Options, Work
from maple.cluster.task import Task
from maple.config.params import EXPERIMENT, Params
from maple.core.errors import MapleError
from maple.planning import plan
from maple.planning.cell_cost import Device

# A job is requeued this often for its time limit before it counts as failed: a short limit then only costs starts.
TIMEOUTS = 30
# Before the limit, a step of the largest cell ends and its checkpoint is written well within this.
WARNING_SECONDS = 300


@dataclass(frozen=True)
class Place:
    """Where tasks run, beyond what each asks for. `parallel`: tasks at a time; `extra`: further options of sbatch."""

    executor: str = "slurm"
    partition: str | None = None
    account: str | None = None
    parallel: int | None = None
    container: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Array:
    """Tasks that ask for the same; each is the work of one or more models on one base."""

    ask: Ask
    tasks: list[list[Work]]


def names(params: Params) -> list[str]:
    return [model.name for model in [*params.bases, *params.cells]] + [EXPERIMENT]


def missing(params: Params, wanted: list[str]) -> list[Work]:
    """What is left to do. A stage is done if a task made its output from what lies here, or DVC calls it up to date."""
    made = {(name, verb): ledger.is_current(params, verb, name) for name in wanted for verb in inputs.verbs(params, name)
            if _can_be_current(params, name, verb)}  # fmt: skip
    # DVC is asked about what has a record but no note of a task: made here by `dvc repro`, or pulled.
    unknown = [name for name in wanted if any(_unsure(params, name, verb, made) for verb in inputs.verbs(params, name))]
    found = outdated(params, unknown) if unknown else plan.Outdated(set(), set())
    works = []
    for name in wanted:
        stages = dict(zip(("train", "answer"), plan.stages_of(params, name)))
        left = [
            verb
            for verb in inputs.verbs(params, name)
            if not made.get((name, verb))
            and not (_unsure(params, name, verb, made) and stages[verb] not in found.again)
        ]
        # Whoever is trained anew is asked anew.
        left = list(inputs.verbs(params, name)) if "train" in left else left
        if left:
            works.append(Work(name, tuple(left)))
    return works


def outdated(params: Params, names: list[str]) -> plan.Outdated:
    """What DVC would make again; MapleError where it cannot be asked, for then nobody knows what is current."""
    found = plan.outdated(params, names)
    if found is None:
        raise MapleError(
            "DVC could not be asked what is up to date",
            why="another command of DVC is running here, or its files are damaged; `dvc status` says which",
            do="wait for it, then run the same command again",
        )
    return found


def _can_be_current(params: Params, name: str, verb: inputs.Verb) -> bool:
    return ledger.stamped(params, verb, name) is not None and inputs.record(params, verb, name).is_file()


def _unsure(params: Params, name: str, verb: inputs.Verb, made: dict) -> bool:
    """A record without a task's note. A note of other inputs is sure: it is out of date."""
    return (name, verb) not in made and inputs.record(params, verb, name).is_file()


def arrays(params: Params, works: list[Work], device: Device, options: Options, chunk: int) -> list[Array]:
    """The work in tasks of `chunk` models on one base, those that ask for the same in one array; the largest first."""
    tasks: dict[str, list[list[Work]]] = {}
    # Neighbours in a chunk ask for about the same.
    for work in sorted(works, key=lambda work: (work.name in params.grid.bases, _rank(params, work.name))):
        lists = tasks.setdefault(base_of(params, work.name), [])
        if not lists or len(lists[-1]) == chunk:
            lists.append([])
        lists[-1].append(work)
    found: dict[Ask, Array] = {}
    for task in (task for lists in tasks.values() for task in lists):
        ask = resources.of(params, task, device, options)
        key = replace(ask, gpu_gb=0.0)
        old = found.get(key, Array(ask, []))
        found[key] = Array(replace(ask, gpu_gb=max(ask.gpu_gb, old.ask.gpu_gb)), [*old.tasks, task])
    return [found[key] for key in sorted(found, reverse=True)]


def base_of(params: Params, name: str) -> str:
    """The base that a model is asked on: itself, or its cell's."""
    return name if name in params.grid.bases else params.cell_of(name)[0].base.name


def _rank(params: Params, name: str) -> int:
    return 0 if name in params.grid.bases else params.cell_of(name)[0].rank


def submit(params: Params, array: Array, place: Place) -> list[str]:
    """Hand an array to the scheduler; its jobs' ids. Raises MapleError if the scheduler refuses."""
    waiting = [work.name for task in array.tasks for work in task]
    for name in waiting:
        ledger.write(params, name, "waiting")
    try:
        jobs = _locally(params, array, place) if place.executor == "local" else _to_slurm(params, array, place)
    except BaseException:
        for name in waiting:
            ledger.forget(params, name)
        raise
    ledger.add_submission(params, {"executor": place.executor, "host": os.uname().nodename, "jobs": jobs})
    return list(jobs)


def _to_slurm(params: Params, array: Array, place: Place) -> dict[str, list[str]]:
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = SlurmExecutor(folder=_folder(params), max_num_timeout=TIMEOUTS)
    executor.update_parameters(**slurm_parameters(params, array.ask, place))
    tasks = [
        Task(params.profile, os.getcwd(), [work.name for work in task], prefix(place, array.ask))
        for task in array.tasks
    ]
    try:
        jobs = executor.submit_array(tasks)
    except (FailedJobError, FailedSubmissionError) as error:
        said = next((line for line in str(error).splitlines() if "error:" in line), str(error).splitlines()[0])
        raise MapleError(
            f"sbatch refused {len(tasks)} tasks",
            why=said.strip(),
            do="`make submit` takes --partition, --account, --time, --memory and --sbatch NAME=VALUE in ARGS: docs/CLUSTER.md",
        ) from error
    return {job.job_id: task.names for job, task in zip(jobs, tasks)}


def slurm_parameters(params: Params, ask: Ask, place: Place) -> dict[str, Any]:
    """submitit's words for what a task asks, and sbatch's own for the rest."""
    smoke = params.is_smoke
    extra: dict[str, Any] = {"requeue": True}
    if ask.gpus:
        extra["gpus-per-node"] = f"{ask.gpu_type}:{ask.gpus}" if ask.gpu_type else ask.gpus
    found = {
        "job_name": f"maple-{params.profile}",
        "time": ask.minutes,
        "mem": f"{ask.memory_gb}GB",
        "cpus_per_task": ask.cpus,
        "partition": place.partition,
        "account": place.account,
        "array_parallelism": place.parallel or 256,
        "signal_delay_s": min(WARNING_SECONDS // (10 if smoke else 1), 60 * ask.minutes // 2),
        "stderr_to_stdout": True,
        "additional_parameters": extra | place.extra,
    }
    return {key: value for key, value in found.items() if value is not None}


def prefix(place: Place, ask: Ask) -> list[str]:
    """What goes before `python` in a container: Apptainer, or enroot for a .sqsh; the shared folder is seen as it is."""
    if not place.container:
        return []
    root = os.getcwd()
    if place.container.endswith(".sqsh"):
        return ["enroot", "start", "--rw", "--mount", f"{root}:{root}", place.container, "env", "-C", root]
    gpu = ["--nv"] if ask.gpus else []
    return ["apptainer", "exec", *gpu, "--bind", root, "--pwd", root, place.container]


def _locally(params: Params, array: Array, place: Place) -> dict[str, list[str]]:
    """As many tasks as GPUs (or as `parallel` says), each with a GPU of its own, taking models from one list."""
    from submitit import LocalExecutor

    count = place.parallel or _gpus() or 1
    listed = [work.name for task in array.tasks for work in task]
    queue = str((ledger.folder(params) / "queues" / str(time.time_ns())).absolute())
    task = Task(params.profile, os.getcwd(), listed, prefix(place, array.ask), queue)
    jobs = {}
    with _detached():
        for number in range(min(count, len(listed))):
            executor = LocalExecutor(folder=_folder(params), max_num_timeout=TIMEOUTS)
            gpus = {"gpus_per_node": 1, "visible_gpus": [number]} if array.ask.gpus else {}
            # A year: nobody waits for this machine.
            executor.update_parameters(timeout_min=525_600, stderr_to_stdout=True, **gpus)
            jobs[executor.submit(task).job_id] = listed
    return jobs


@contextlib.contextmanager
def _detached() -> Iterator[None]:
    """What is started lives on when the terminal is closed, and does not hold its output open."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    kept = [os.dup(number) for number in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(null, number)
        yield
    finally:
        for number, old in zip((1, 2), kept):
            os.dup2(old, number)
            os.close(old)
        os.close(null)
        signal.signal(signal.SIGHUP, before)


def _gpus() -> int:
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], check=False, capture_output=True, text=True)
    return len(listed.stdout.splitlines()) if listed.returncode == 0 else 0


def alive(params: Params) -> set[str]:
    """Models that a job still has, waiting or running: asked of the scheduler, as a file of a killed job says nothing."""
    found: set[str] = set()
    queued: set[str] | None = None
    for submission in ledger.submissions(params):
        for job, listed in submission["jobs"].items():
            if submission["executor"] == "local":
                lives = submission["host"] == os.uname().nodename and _is_controller(int(job))
            else:
                queued = _queued() if queued is None else queued
                lives = job in queued
            if lives:
                states = {name: ledger.read(params, name) for name in listed}
                found |= {name for name, pair in states.items() if pair and pair[0].state not in ("failed", "done")}
    return found


def _queued() -> set[str]:
    """Tasks in Slurm's queue."""
    command = ["squeue", "--noheader", "--array", "--format=%i"]
    try:
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise MapleError(
            "the queue could not be read, so what is running there would be submitted twice",
            why=said.strip().splitlines()[-1],
            do=f"run this where `{shlex.join(command)}` works",
        ) from error


def _is_controller(pid: int) -> bool:
    """Whether the process is submitit's: numbers are given again."""
    try:
        return b"submitit" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _folder(params: Params) -> Path:
    """submitit's own files; absolute, as its jobs are started elsewhere."""
    return (ledger.folder(params) / "jobs").absolute()
