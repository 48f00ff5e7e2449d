"""What tasks made, taken into DVC by one process: dvc.lock then says what a serial `dvc repro` would have said.

Only what a task made from the inputs that lie here now is committed, so dvc.lock never claims that an adapter of
yesterday's code came of today's.
"""

import json
import subprocess
import sys
from collections.abc import Iterable

from maple.cluster import inputs, ledger, submission
from maple.config.params import Params
from maple.core.errors import MapleError
from maple.planning import plan


def commit(params: Params) -> list[str]:
    """DVC's names of the stages that were committed; raises MapleError if a model is not done."""
    names = submission.names(params)
    works = submission.missing(params, names)
    if works:
        shown = ", ".join(work.name for work in works[:3]) + (", ..." if len(works) > 3 else "")
        raise MapleError(
            f"{len(works)} of {len(names)} models are not done: {shown}",
            why="the rest of the pipeline would begin to train them here, one after the other",
            do=f"`make status PROFILE={params.profile}` says how far they are, `make submit PROFILE={params.profile}` submits them",
        )
    made = untaken(params, names)
    take(params, made, set(stages_of(params, names)) - set(made))
    return made


def untaken(params: Params, names: list[str]) -> list[str]:
    """Stages of these models that a task ended, from what lies here now, and that DVC does not know as current.

    DVC is asked only where a task's note says so: that takes it seconds.
    """
    noted = [
        (name, stage)
        for name in names
        for verb, stage in zip(("train", "answer"), plan.stages_of(params, name))
        if stage and ledger.is_current(params, verb, name)
    ]
    again = submission.outdated(params, [name for name, _ in noted]).again if noted else set()
    return [stage for _, stage in noted if stage in again]


def take(params: Params, made: list[str], current: Iterable[str]) -> None:
    """Commit the outputs of stages as they lie here; `current` are stages that DVC knows as they are.

    DVC reads and writes all of dvc.lock for each name it is given, seconds for each of hundreds. So a matrix that is
    here as a whole goes by its own name: `train` for every `train@...`.
    """
    missing = {_matrix(stage) for stage in set(stages_of(params, submission.names(params))) - {*made, *current}}
    named = sorted({stage if _matrix(stage) in missing else _matrix(stage) for stage in made})
    if named:
        dvc("commit", "--quiet", "--force", *(f"{params.pipeline}:{name}" for name in named))


def stages_of(params: Params, names: Iterable[str]) -> list[str]:
    """DVC's names of all that trains and asks these models."""
    return [stage for name in names for stage in plan.stages_of(params, name) if stage]


def _matrix(stage: str) -> str:
    return stage.partition("@")[0]


def stale(params: Params, stages: Iterable[str]) -> list[str]:
    """Of these stages those that DVC would run again, or whose outputs are not here."""
    told = dvc("status", "--json", *(f"{params.pipeline}:{stage}" for stage in stages))
    return sorted(stage.removeprefix(f"{params.pipeline}:") for stage in json.loads(told))


def before(params: Params, names: list[str]) -> list[str]:
    """Stages of fetching and preparing that must still run before these models can be trained."""
    lacking = inputs.missing(params, names)
    if lacking:
        return lacking
    earlier = list(inputs.before(params, names))
    # All of them where one is out of date: that a fetch gave other rows, so that preparing is too, shows afterwards.
    return earlier if stale(params, earlier) else []


def repro(params: Params, stages: Iterable[str]) -> None:
    """Run stages here, their own words on the screen."""
    command = [sys.executable, "-m", "dvc", "repro", *(f"{params.pipeline}:{stage}" for stage in stages)]
    if subprocess.run(command, check=False).returncode:
        raise MapleError(
            "nothing was submitted",
            why="a stage before training failed; its message is above",
            do="mend that, then submit again",
        )


def dvc(*words: str) -> str:
    """What a command of DVC prints; MapleError with DVC's own last line if it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        error = next((line for line in said if line.startswith("ERROR")), said[-1])
        raise MapleError(
            f"`dvc {words[0]}` failed",
            why=error.removeprefix("ERROR: "),
            do="mend that, then run the same command again",
        )
    return done.stdout
