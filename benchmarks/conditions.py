"""Unusual machines, one at a time: a stage must end with the same bytes, or say in one message why it cannot.

    python benchmarks/conditions.py RUN --rows benchmarks/conditions.csv

RUN is a clone in which `make reproduce` of the smoke profile has finished. For each condition it is copied; there the
check that `make reproduce` begins with and `dvc repro` of some stages, by force, run under the condition. Where that
fails, a message of three lines is asked for, no traceback, and the same command without the condition must end well.
Needs root for read-only and full disks, which are mounted.
"""

import argparse
import csv
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import trials  # noqa: E402

STAGES = ("train", "score", "collect", "figures")


@dataclass(frozen=True)
class Condition:
    """`place` makes the folder to work in from the run; `shell` comes before each command; `prepare` and `undo` change the
    folder and put it right again. `fails`: what the message must hold where no run can succeed."""

    place: Callable[[Path, Path], Path] = lambda run, scratch: trials.copy_of(run, scratch / "run")
    shell: str = ""
    environment: dict[str, str | None] = field(default_factory=dict)
    prepare: Callable[[Path], None] = lambda folder: None
    undo: Callable[[Path], None] = lambda folder: None
    fails: str = ""


def in_spaces(run: Path, scratch: Path) -> Path:
    return trials.copy_of(run, scratch / "mes résultats – 结果 (1)")


def in_repository(run: Path, scratch: Path) -> Path:
    """As unpacked from an archive inside of somebody's repository."""
    shell("git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m other", scratch)
    folder = trials.copy_of(run, scratch / "inner")
    shutil.rmtree(folder / ".git")
    return folder


def in_worktree(run: Path, scratch: Path) -> Path:
    shell(f"git clone -q {shlex.quote(str(run))} main && git -C main worktree add -q --detach ../tree", scratch)
    for name in ("artifacts", ".dvc/cache"):
        shutil.copytree(run / name, scratch / "tree" / name, symlinks=True, dirs_exist_ok=True)
    return scratch / "tree"


def on_small_disk(run: Path, scratch: Path) -> Path:
    folder = scratch / "disk"
    folder.mkdir()
    shell(f"mount -t tmpfs -o size=2500m none {folder}", scratch)
    return trials.copy_of(run, folder / "run")


def fill(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    with open(folder.parent / "ballast", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - 40_000)


def read_only(folder: Path) -> None:
    shell(f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}", folder.parent)


def unmount(folder: Path) -> None:
    shell(f"umount {folder}", folder.parent)


def other_python(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    for name in ("python", "python3"):
        (other / name).symlink_to("/usr/bin/python3")


CONDITIONS = {
    "as usual": Condition(),
    "no HOME": Condition(environment={"HOME": None, "XDG_CACHE_HOME": None}),
    "HOME that cannot be written": Condition(environment={"HOME": "/proc/1", "XDG_CACHE_HOME": None}),
    "LANG=C": Condition(environment={"LANG": "C", "LC_ALL": "C", "LANGUAGE": None}),
    "LC_ALL=POSIX, no UTF-8 mode": Condition(
        environment={"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    "umask 077": Condition(shell="umask 077"),
    "a path with spaces and other letters": Condition(place=in_spaces),
    "a sub-folder of another repository": Condition(place=in_repository),
    "a git worktree": Condition(place=in_worktree),
    "64 open files": Condition(shell="ulimit -n 64"),
    "two runs at once": Condition(
        shell="trap wait EXIT; { dvc repro --quiet --force --single-item collect >/dev/null 2>&1 & }", fails="lock"
    ),
    "another Python first in PATH": Condition(
        prepare=other_python, shell='export PATH="$PWD/../other:$PATH"', fails="environment"
    ),
    "files of 8 kB at most": Condition(shell="ulimit -f 8", fails="File too large"),
    "disk full": Condition(
        place=on_small_disk,
        prepare=fill,
        undo=lambda folder: (folder.parent / "ballast").unlink(),
        fails="disk",
    ),
    "read-only tree": Condition(prepare=read_only, undo=unmount, fails="Read-only"),
    "0.8 GB of address space": Condition(shell="ulimit -v 800000", fails="missing: memory"),
    "2.4 GB of address space": Condition(shell="ulimit -v 2400000", fails="missing: memory"),
}


def shell(command: str, folder: Path) -> None:
    subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)


def attempt(
    folder: Path, condition: Condition, stages: list[str], check: tuple[str, ...], seconds: float = 900
) -> tuple[int, str]:
    """Exit status and what was said by the check and `dvc repro` of the stages."""
    environment = {k: v for k, v in (os.environ | condition.environment).items() if v is not None}
    command = f"{shlex.join(check)} && dvc repro --force --single-item {' '.join(stages)}"
    if condition.shell:
        command = f"{condition.shell}; {command}"
    try:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return 124, f"no end after {seconds:.0f} s"
    return done.returncode, done.stdout + done.stderr


def state(folder: Path, stages: list[str]) -> list[dict[str, str]]:
    return [trials.state(folder, stage) for stage in stages]


def trial(run: Path, condition: Condition, stages: list[str], check: tuple[str, ...] = trials.CHECK) -> tuple[str, str]:
    """(fate, what was said): same bytes; refused, then the same bytes; or what went wrong."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = condition.place(run, Path(scratch))
        try:
            before = state(folder, stages)
            condition.prepare(folder)
            try:
                code, said = attempt(folder, condition, stages, check)
            finally:
                condition.undo(folder)
            message = [
                line for mark in ("  why:", "OpenBLAS", "ERROR") for line in said.splitlines() if line.startswith(mark)
            ]
            # No place of this machine goes into the rows.
            shown = (message or said.splitlines()[-1:] or [""])[0].strip().replace(str(folder), "RUN")[:200]
            if code == 0:
                return ("same bytes" if state(folder, stages) == before else "differs"), ""
            if not condition.fails or condition.fails.lower() not in said.lower():
                return "failed", said[-1500:]
            if "Traceback" in said:
                return "traceback", said[-1500:]
            code, again = attempt(folder, Condition(), stages, check)
            if code or state(folder, stages) != before:
                return "not mended", again[-1500:]
            return "refused, then same bytes", shown
        finally:
            if condition.place is on_small_disk:
                shell(f"umount {Path(scratch) / 'disk'}", Path(scratch))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a clone in which the smoke profile has run to its end")
    parser.add_argument("--only", nargs="*", choices=CONDITIONS, default=list(CONDITIONS), help="some of them")
    parser.add_argument("--stages", default=",".join(STAGES), help="verbs; the first stage of each is run")
    parser.add_argument("--rows", type=Path, help="a CSV file that gets a row for each condition as it is tried")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    known = trials.stages_of(arguments.run)
    stages = [known[verb] for verb in arguments.stages.split(",")]
    bad = 0
    for name in arguments.only:
        fate, said = trial(arguments.run.resolve(), CONDITIONS[name], stages)
        bad += fate not in ("same bytes", "refused, then same bytes")
        print(f"{name}: {fate} {said}", flush=True)
        if arguments.rows:
            new = not arguments.rows.exists()
            with open(arguments.rows, "a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows(
                    [["condition", "fate", "said"]] * new + [[name, fate, said.splitlines()[0] if said else ""]]
                )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
