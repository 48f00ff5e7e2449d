"""Where every model of a profile stands, from files alone: any login node can tell, and no daemon is asked."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maple.cluster import inputs, ledger
from maple.config.params import Params
from maple.core.progress import duration

# Progress lines of the stages (maple/core/progress.py): `cell 3 of 12: train NAME 40 of 240 steps (17 %), 3 min left, ...`
PROGRESS = re.compile(r"(?:train|answer) \S+ ([\d,.]+ of [\d,.]+ \w+ .*)")
ORDER = ("failed", "silent", "stopped", "running", "requeued", "waiting", "not submitted", "done")


@dataclass(frozen=True)
class Line:
    """`state`: one of ORDER. `silent`: it says that it runs, and has long given no sign of life."""

    name: str
    state: str
    text: str


def lines(params: Params, names: list[str]) -> list[Line]:
    return [_line(params, name) for name in names]


def _line(params: Params, name: str) -> Line:
    found = ledger.read(params, name)
    complete = all(inputs.record(params, verb, name).is_file() for verb in inputs.verbs(params, name))
    if found is None:
        return Line(name, "done" if complete else "not submitted", "made without a scheduler" if complete else "")
    state, age = found
    log = ledger.log(params, name)
    if state.state == "running" and age > ledger.SILENT_SECONDS:
        text = f"{state.verb} in job {state.job} on {state.host}: no sign of life for {duration(age)}; log {log}"
        return Line(name, "silent", text)
    if state.state == "running":
        return Line(name, "running", f"{state.verb}: {progress(log) or 'starting'}; job {state.job} on {state.host}")
    if state.state in ("failed", "stopped"):
        return Line(name, state.state, f"{state.verb}: {state.error}; log {log}")
    if state.state == "requeued":
        return Line(
            name,
            "requeued",
            f"{state.verb} in job {state.job} was saved {duration(age)} ago and goes on when it is its turn",
        )
    if state.state == "done" and not complete:
        return Line(name, "not submitted", "what its job made is gone")
    return Line(name, state.state, f"for {duration(age)}" if state.state == "waiting" else "")


def busy(found: list[Line]) -> bool:
    """Whether a job still has something to do: a silent one has not."""
    return any(line.state in ("waiting", "running", "requeued") for line in found)


def progress(log: Path) -> str:
    """The last line of progress since the stage's start; a stage shows one every 30 seconds."""
    try:
        with open(log, "rb") as file:
            file.seek(max(log.stat().st_size - 20_000, 0))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    found = PROGRESS.findall(text.rpartition("\n== ")[2])
    return found[-1].strip() if found else ""


def text(params: Params, found: list[Line], everything: bool) -> Iterator[str]:
    """What a person reads: how many in each state, then one line each, what needs attention first; done ones by number only."""
    counts = Counter(line.state for line in found)
    told = ", ".join(f"{counts[state]} {state}" for state in reversed(ORDER) if counts[state])
    yield f"{params.profile} profile{' (SMOKE)' if params.is_smoke else ''}: {len(found)} models: {told}"
    for line in sorted(found, key=lambda line: ORDER.index(line.state)):
        if everything or line.state not in ("done", "not submitted", "waiting"):
            yield f"{line.state:14}{line.name}" + (f"  {line.text}" if line.text else "")
    if counts["failed"] or counts["silent"] or counts["stopped"] or counts["not submitted"]:
        yield f"next: make submit PROFILE={params.profile}, which submits what is not done and in no queue"
    elif counts["done"] == len(found):
        yield f"next: make collect PROFILE={params.profile}"
