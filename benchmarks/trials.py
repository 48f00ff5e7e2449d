"""Kills at random moments: whatever is stopped, the same command must end with the same bytes.

    python benchmarks/trials.py RUN --kills 50 --seed 0 --rows benchmarks/kills.csv

RUN is a clone in which `make reproduce` of the smoke profile has finished; it is copied, and the copy is worked on. Each
trial forces one stage again, sends one signal at a random moment to the stage, to DVC or to both, and then gives the
same command again: the check that `make reproduce` begins with, and `dvc repro`. Afterwards every file below artifacts/ but
the bills, and what DVC's lock file says of the stage, must be as before. The last line counts what was survived.
"""

import argparse
import csv
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

VERBS = ("download", "prepare", "train", "answer", "score", "judge", "collect")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
TARGETS = ("stage", "dvc", "both")
CHECK = ("python", "-m", "stages.check", "--profile", "smoke")
# What a stage may leave for ever: none, in this time after its parent was killed.
ORPHAN_SECONDS = 300


@dataclass(frozen=True)
class Trial:
    """One signal and what came of it. `fate`: survived, differs, failed, or late (all was over before the signal)."""

    verb: str
    signal: str
    target: str
    seconds: float
    tries: int
    fate: str
    said: str = ""


def copy_of(run: Path, folder: Path) -> Path:
    """The run with everything it has made, but without an environment of its own."""
    shutil.copytree(
        run, folder, symlinks=True, ignore=shutil.ignore_patterns(".venv*", "__pycache__"), dirs_exist_ok=True
    )
    return folder


def stages_of(folder: Path) -> dict[str, str]:
    """{verb: the first stage of that verb}, in the pipeline's order."""
    listed = subprocess.run(
        ["dvc", "stage", "list", "--name-only"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, str] = {}
    for name in listed.split():
        found.setdefault(name.split("@")[0], name)
    return found


def state(folder: Path, stage: str) -> dict[str, str]:
    """The sha256 of every file below artifacts/, bills apart, and what the lock file says of the stage."""
    files = sorted(path for path in (folder / "artifacts").rglob("*") if path.is_file() and "bills" not in path.parts)
    found = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return found | {"dvc.lock": repr(yaml.safe_load((folder / "dvc.lock").read_text())["stages"][stage])}


class Run:
    """`dvc repro` of one stage, by force, in a session of its own."""

    def __init__(self, folder: Path, stage: str, check: tuple[str, ...]):
        if check:
            subprocess.run(check, cwd=folder, capture_output=True, check=True)
        command = ["dvc", "repro", "--force", "--single-item", stage]
        self.log = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(command, cwd=folder, start_new_session=True, stdout=self.log, stderr=self.log)
        self.started = time.monotonic()

    def stage(self) -> int | None:
        """The process of the stage: a descendant of DVC's that is Python running a module or a script, no shell."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    # The name, in brackets, may hold spaces; the parent comes after it and the state.
                    parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                except (OSError, IndexError, ValueError):
                    continue
        known, grown = {self.process.pid}, True
        while grown:
            more = {child for child, parent in parents.items() if parent in known} - known
            known, grown = known | more, bool(more)
        for pid in sorted(known - {self.process.pid}):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"python" in Path(os.fsdecode(words[0])).name.encode() and not any(b"dvc" in word for word in words[:3]):
                return pid
        return None

    def send(self, number: int, target: str) -> bool:
        """Whether there was something to send it to."""
        pid = self.stage() if target == "stage" else self.process.pid
        if pid is None or self.process.poll() is not None:
            return False
        try:
            os.killpg(pid, number) if target == "both" else os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self) -> int:
        return self.process.wait()

    def wait_for_all(self) -> None:
        """Until the whole session is gone: a stage may outlive a DVC that was killed."""
        self.process.wait()
        end = time.monotonic() + ORPHAN_SECONDS
        while time.monotonic() < end:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)
        raise TimeoutError(f"a process outlives DVC by {ORPHAN_SECONDS} s")

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()[-600:]


def window(folder: Path, stage: str, check: tuple[str, ...]) -> tuple[float, float, float]:
    """Seconds from DVC's start to the stage's start, to the stage's end and to DVC's end, of one undisturbed run."""
    run = Run(folder, stage, check)
    first = last = None
    while run.process.poll() is None:
        now = time.monotonic() - run.started
        if run.stage() is not None:
            first, last = first or now, now
        time.sleep(0.1)
    end = time.monotonic() - run.started
    if run.wait() or first is None:
        raise RuntimeError(f"{stage} does not run undisturbed:\n{run.said()}")
    return first, last, end


def trial(
    folder: Path, verb: str, stage: str, name: str, target: str, seconds: float, expected: dict, check: tuple[str, ...]
) -> Trial:
    run = Run(folder, stage, check)
    # DVC's own start takes longer on a busy machine: the stage's seconds count from when it is there.
    while target == "stage" and run.stage() is None and run.process.poll() is None:
        time.sleep(0.1)
    time.sleep(seconds)
    hit = run.send(getattr(signal, name), target)
    run.wait_for_all()
    if not hit:
        return Trial(verb, name, target, seconds, 0, "late")
    again = Run(folder, stage, check)
    code = again.wait()
    again.wait_for_all()
    if code:
        return Trial(verb, name, target, seconds, 1, "failed", again.said())
    found = state(folder, stage)
    wrong = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    return Trial(verb, name, target, seconds, 1, "differs" if wrong else "survived", ", ".join(wrong[:5]))


def note(rows: Path | None, one: Trial) -> None:
    """One more row, at once: a benchmark that is ended early has counted what it did."""
    if rows is None:
        return
    new = not rows.exists()
    with open(rows, "a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Trial)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(one) | {"seconds": f"{one.seconds:.1f}"})


def trials(
    folder: Path,
    stages: dict[str, str],
    kills: int,
    rng: random.Random,
    check: tuple[str, ...] = CHECK,
    rows: Path | None = None,
) -> list[Trial]:
    """`kills` signals that hit something, the stages in turn, every pair of signal and target equally often."""
    windows = {verb: window(folder, stage, check) for verb, stage in stages.items()}
    expected = {verb: state(folder, stage) for verb, stage in stages.items()}
    pairs = [(name, target) for name in SIGNALS for target in TARGETS]
    rng.shuffle(pairs)
    done: list[Trial] = []
    # {(verb, target): the moment of a signal that came too late}: later ones come before it.
    latest: dict[tuple[str, str], float] = {}
    while sum(one.fate != "late" for one in done) < kills:
        count = sum(one.fate != "late" for one in done)
        verb = list(stages)[count % len(stages)]
        name, target = pairs[count % len(pairs)]
        first, last, end = windows[verb]
        # Not to the very end as it was measured: later runs may be faster, and a signal that comes too late is wasted.
        start, stop = (0.0, 0.9 * (last - first)) if target == "stage" else (0.5 * first, 0.9 * end)
        seconds = rng.uniform(start, max(start, min(stop, latest.get((verb, target), stop))))
        done.append(trial(folder, verb, stages[verb], name, target, seconds, expected[verb], check))
        note(rows, done[-1])
        if done[-1].fate == "late":
            latest[verb, target] = seconds
        print(
            f"{verb:9} {name:8} {target:6} {seconds:5.1f} s of {end:.1f}: {done[-1].fate} {done[-1].said}", flush=True
        )
    return done


def summary(done: list[Trial]) -> str:
    hits = [one for one in done if one.fate != "late"]
    by = Counter(one.fate for one in hits)
    where = ", ".join(f"{verb} {count}" for verb, count in Counter(one.verb for one in hits).items())
    rest = "".join(f", {count} {fate}" for fate, count in by.items() if fate != "survived")
    return f"{by['survived']} of {len(hits)} signals survived{rest} ({where}); {len(done) - len(hits)} more came too late and do not count"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a clone in which the smoke profile has run to its end")
    parser.add_argument("--kills", type=int, default=20, help="signals that hit something (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the order (default 0)")
    parser.add_argument("--verbs", default="download,train,answer,judge,collect", help=f"of {', '.join(VERBS)}")
    parser.add_argument("--rows", type=Path, help="a CSV file that gets a row for each signal as it is sent")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = copy_of(arguments.run, Path(scratch) / "run")
        known = stages_of(folder)
        stages = {verb: known[verb] for verb in arguments.verbs.split(",")}
        done = trials(folder, stages, arguments.kills, random.Random(arguments.seed), rows=arguments.rows)
        left = [str(path.relative_to(folder)) for path in folder.rglob("*.part")] + [
            str(path) for path in (folder / "work").glob("*/tmp*")
        ]
    print(summary(done))
    print(f"left behind: {', '.join(left) or 'nothing'}")
    return int(any(one.fate in ("failed", "differs") for one in done) or bool(left))


if __name__ == "__main__":
    sys.exit(main())
