"""What is known of every model's work, in files that any machine of the cluster can read.

    work/<profile>/cluster/states/<name>.json        waiting, running, requeued, stopped, failed or done; of which job
    work/<profile>/cluster/made/<verb>/<name>.json   from which inputs a task made an adapter or answers
    work/<profile>/cluster/submissions/*.json        which job works on which models
    work/<profile>/cluster/logs/<name>.log           what the stages printed

A running task touches its state file; one that has long not been touched belongs to a task that is gone.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maple.cluster import inputs
from maple.cluster.inputs import Verb
from maple.config.params import Params
from maple.core import storage

# A running task shows that it lives this often, and is taken for dead after so long: file servers' clocks differ, and
# a node's view of a file may be a minute old.
BEAT_SECONDS = 5
SILENT_SECONDS = 180


@dataclass(frozen=True)
class State:
    """`state`: waiting, running, requeued, stopped, failed, done. `since`: seconds of the clock."""

    name: str
    state: str
    since: float
    verb: str = ""
    job: str = ""
    host: str = ""
    error: str = ""


def folder(params: Params) -> Path:
    return params.work / "cluster"


def log(params: Params, name: str) -> Path:
    return folder(params) / "logs" / f"{name}.log"


def write(params: Params, name: str, state: str, verb: str = "", job: str = "", error: str = "") -> None:
    # Slurm's name of the node: several may be one host.
    host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    found = State(name, state, time.time(), verb, job, host, error)
    storage.write_json(_state(params, name), asdict(found))


def read(params: Params, name: str) -> tuple[State, float] | None:
    """The state, and the seconds since it was last written or touched; None for a model that was never submitted."""
    path = _state(params, name)
    try:
        return State(**json.loads(path.read_text(encoding="utf-8"))), time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None


def forget(params: Params, name: str) -> None:
    _state(params, name).unlink(missing_ok=True)


def beat(params: Params, name: str) -> None:
    os.utime(_state(params, name))


def stamp(params: Params, verb: Verb, name: str, given: dict[str, str]) -> None:
    """Say that what stands in the verb's folder was made from `given`."""
    storage.write_json(_made(params, verb, name), {"inputs": given})


def unstamp(params: Params, verb: Verb, name: str) -> None:
    _made(params, verb, name).unlink(missing_ok=True)


def stamped(params: Params, verb: Verb, name: str) -> dict[str, str] | None:
    """From which inputs a task made it; None if no task did."""
    try:
        return json.loads(_made(params, verb, name).read_text(encoding="utf-8"))["inputs"]
    except FileNotFoundError:
        return None


def is_current(params: Params, verb: Verb, name: str) -> bool:
    """Whether a task made it from the inputs that lie here now."""
    made = stamped(params, verb, name)
    return made is not None and inputs.record(params, verb, name).is_file() and made == inputs.of(params, verb, name)


def add_submission(params: Params, found: dict[str, Any]) -> None:
    """{"executor": "slurm", "jobs": {job: [names]}, ...}"""
    storage.write_json(folder(params) / "submissions" / f"{time.time_ns()}.json", found)


def submissions(params: Params) -> list[dict[str, Any]]:
    """The oldest first."""
    return [storage.read_json(path) for path in sorted((folder(params) / "submissions").glob("*.json"))]


def _state(params: Params, name: str) -> Path:
    return folder(params) / "states" / f"{name}.json"


def _made(params: Params, verb: Verb, name: str) -> Path:
    return folder(params) / "made" / verb / f"{name}.json"
