"""What one task of a scheduler does: train and ask its models one after the other, by calling the stages directly.

The state is in files: what is complete is skipped, so a task that was stopped, killed or requeued is simply run again.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from maple.cluster import inputs, ledger
from maple.cluster.inputs import Verb
from maple.config import params as parameters
from maple.config.params import Params
from maple.core.errors import MapleError

# The scheduler's warnings. Slurm sends them to every process of a step: a stage, which knows none of them, would die
# of it. Only the task answers, and stops its stage with the signal that the stage saves at.
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)


@dataclass
class Task:
    """`names`: models, done in this order; `queue`: a folder in which tasks that share a list claim one name each.

    `prefix`: words before `python`, such as `apptainer exec image.sif`; empty: this interpreter.
    """

    profile: str
    root: str
    names: list[str]
    prefix: list[str] = field(default_factory=list)
    queue: str | None = None

    def __post_init__(self) -> None:
        self._child: subprocess.Popen | None = None
        self._at: tuple[str, Verb] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_child": None, "_at": None}

    def __call__(self) -> list[str]:
        """The names that were done; raises RuntimeError at the end if one failed, after all others had their turn."""
        os.chdir(self.root)
        given = parameters.load(self.profile)
        if signal.getsignal(WARNINGS[1]) not in (signal.SIG_DFL, signal.SIG_IGN, None):
            # submitit answers one warning; labs send either.
            signal.signal(WARNINGS[0], signal.getsignal(WARNINGS[1]))
        signal.signal(signal.SIGTERM, lambda number, frame: self._stopped(given, number))
        signal.signal(signal.SIGINT, lambda number, frame: self._stopped(given, number))
        failed = [name for name in self.names if self._claims(name) and not self._model(given, name)]
        if failed:
            raise RuntimeError(f"failed: {', '.join(failed)}; `make status PROFILE={self.profile}` shows why")
        return self.names

    def checkpoint(self) -> Any:
        """submitit's hook, called when the time is nearly up: save what the stage has and go on in another job."""
        from submitit.helpers import DelayedSubmission

        given = parameters.load(self.profile)
        self._stop()
        # Requeuing ends this process with SIGTERM, which must not be told as a stop.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self._at:
            ledger.write(given, self._at[0], "requeued", self._at[1], _job())
        return DelayedSubmission(self)

    def _claims(self, name: str) -> bool:
        """Whether no other task of the queue has taken the name; one that this job took before it was requeued is its own."""
        if self.queue is None:
            return True
        path = Path(self.queue, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(path, "x") as file:
                file.write(_job())
            return True
        except FileExistsError:
            return path.read_text() == _job()

    def _model(self, given: Params, name: str) -> bool:
        try:
            for verb in inputs.verbs(given, name):
                self._at = name, verb
                if ledger.is_current(given, verb, name):
                    continue
                error = self._stage(given, verb, name)
                if error:
                    ledger.write(given, name, "failed", verb, _job(), error)
                    return False
        except (MapleError, OSError, ValueError, KeyError) as error:
            # A file that is gone or damaged; the task's other models have their turn.
            ledger.write(given, name, "failed", self._at[1] if self._at else "", _job(), str(error).splitlines()[0])
            return False
        ledger.write(given, name, "done", "", _job())
        self._at = None
        return True

    def _stage(self, given: Params, verb: Verb, name: str) -> str:
        """Run a stage; why it failed, empty if it did not. Its inputs are noted before it starts: it reads them then."""
        started_from = inputs.of(given, verb, name)
        # An adapter of other inputs, were the stage killed between its result and the note, would pass for the new one.
        ledger.unstamp(given, verb, name)
        log = ledger.log(given, name)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *(self.prefix or [sys.executable]),
            "-m",
            f"stages.{verb}",
            "--profile",
            self.profile,
            "--name",
            name,
        ]
        if self.prefix:
            command.insert(len(self.prefix), "python")
        ledger.write(given, name, "running", verb, _job())
        with open(log, "a", encoding="utf-8") as out:
            print(f"== {time.strftime('%Y-%m-%d %H:%M:%S')} {verb} in job {_job()}", file=out, flush=True)
            begin = out.tell()
            # A task has one thread, so nothing can hold a lock between fork and exec.
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, preexec_fn=_as_child
            )
        code = self._wait(given, name)
        if code:
            return _why(code, log, begin)
        ledger.stamp(given, verb, name, started_from)
        return ""

    def _wait(self, given: Params, name: str) -> int:
        """Exit code of the running stage, while showing that it lives.

        Not by Popen.wait: a signal's handler may wait for the same process, and Popen's lock would hold it for ever.
        """
        beaten = time.monotonic()
        while (code := self._ended()) is None:
            time.sleep(0.2)
            if time.monotonic() - beaten > ledger.BEAT_SECONDS:
                ledger.beat(given, name)
                beaten = time.monotonic()
        return code

    def _ended(self) -> int | None:
        assert self._child is not None
        if self._child.returncode is None:
            try:
                pid, status = os.waitpid(self._child.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self._child.pid, 1 << 8
            if pid:
                self._child.returncode = os.waitstatus_to_exitcode(status)
        return self._child.returncode

    def _stop(self) -> None:
        """Stop the stage, which saves a checkpoint, and wait until it has."""
        if self._child is not None and self._ended() is None:
            self._child.send_signal(signal.SIGTERM)
            while self._ended() is None:
                time.sleep(0.1)

    def _stopped(self, given: Params, number: int) -> NoReturn:
        """SIGTERM: a cancelled or preempted job. Whether it comes again is the scheduler's to say, so nothing is requeued."""
        self._stop()
        if self._at:
            ledger.write(
                given, self._at[0], "stopped", self._at[1], _job(), f"{signal.Signals(number).name} was received"
            )
        sys.exit(128 + number)


def _as_child() -> None:
    """Between fork and exec: deaf to the scheduler's warnings, and gone when the task is killed."""
    for number in WARNINGS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _job() -> str:
    """The scheduler's name of this task; a process id where there is no scheduler."""
    array, place = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array and place:
        return f"{array}_{place}"
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("SUBMITIT_LOCAL_JOB_ID") or str(os.getpid())


def _why(code: int, log: Path, begin: int) -> str:
    """One line for a stage that failed: what its own error says, or the signal that killed it."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}" + (
            ", as when memory runs out" if -code == signal.SIGKILL else ""
        )
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(begin)
        lines = [line for line in file.read().splitlines() if line.strip()]
    reasons = [place for place, line in enumerate(lines) if line.startswith("  why: ")]
    said = lines[reasons[-1] - 1] if reasons and reasons[-1] else lines[-1] if lines else ""
    return said or f"exit code {code}"
