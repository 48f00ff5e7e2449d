"""A real Slurm on this one host: munged, slurmctld and several slurmd, each a virtual node of one CPU, all in one folder.

Its ports, its key and its configuration are its own, so a Slurm that the machine may have is not touched. Nothing is
left running: `Slurm.stop` ends what `Slurm` started, by process id.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
NODES = ("n1", "n2", "n3", "n4", "n5")

CONFIGURATION = """
ClusterName=maple
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
# A requeued job waits until its first credential has expired.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MinJobAge=300
KillWait=30
# A slow machine needs longer from the warning to the requeue; the warning comes when it would without.
OverTimeLimit=10
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here; empty when there can."""
    lacking = [tool for tool in TOOLS if not shutil.which(tool, path=_path())]
    if lacking:
        return f"not installed: {', '.join(lacking)} (bash .ci/run installs them)"
    return "" if os.geteuid() == 0 else "needs root: slurmd starts jobs for any user"


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])


class Slurm:
    """`environment` makes sbatch, squeue and scontrol speak to it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
        self._started: list[subprocess.Popen] = []
        self._configure()
        self._start("munged", "--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket",
                    f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
                    "--num-threads=2")  # fmt: skip
        self._until(lambda: (folder / "munge.socket").exists(), "munged gave no socket")
        self._start("slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        for node in NODES:
            self._start("slurmd", "-D", "-N", node, "-f", str(folder / "slurm.conf"))
        self._until(lambda: self.states() == dict.fromkeys(NODES, "idle"), "the nodes did not come up")

    def _configure(self) -> None:
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        port, *ports = _free_ports(1 + len(NODES))
        host = socket.gethostname()
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={number} CPUs=1 RealMemory=8192 State=UNKNOWN"
            for node, number in zip(NODES, ports)
        ]
        text = CONFIGURATION.format(host=host, port=port, folder=self.folder, nodes="\n".join(lines))
        (self.folder / "slurm.conf").write_text(text)

    def _start(self, *command: str) -> None:
        name = f"{command[0]}-{len(self._started)}"
        with open(self.folder / f"{name}.out", "w") as out:
            self._started.append(
                subprocess.Popen(
                    command,
                    env=os.environ | self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )  # fmt: skip
            )

    def _until(self, true, complaint: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not true():
            dead = [process.args[0] for process in self._started if process.poll() is not None]
            if dead or time.monotonic() > end:
                logs = "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log")))
                self.stop()
                raise RuntimeError(f"{complaint}; ended: {dead}\n{logs}")
            time.sleep(0.2)

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def states(self) -> dict[str, str]:
        """{node: idle, alloc, drng, ...}"""
        done = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%N %t"], env=os.environ | self.environment,
                              capture_output=True, text=True)  # fmt: skip
        return dict(line.split() for line in done.stdout.splitlines())

    def jobs(self) -> dict[str, str]:
        """{array task: PENDING, RUNNING, ...} of all that are in the queue."""
        listed = self.ask("squeue", "--noheader", "--array", "--format=%i %T")
        return dict(line.split() for line in listed.splitlines())

    def stop(self) -> None:
        with contextlib.suppress(AssertionError):
            if ids := sorted({job.split("_")[0] for job in self.jobs()}):
                self.ask("scancel", "--signal=KILL", "--full", *ids)
                self.ask("scancel", *ids)
                time.sleep(1)
        for process in reversed(self._started):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    found = Slurm(folder)
    try:
        yield found
    finally:
        found.stop()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports
