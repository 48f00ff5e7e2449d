"""The grid on a real Slurm: several tasks at once, and all that goes wrong on a cluster. In the end the same bytes.

One copy of the tree runs the pipeline serially, another by `stages.submit`; while its tasks run, one reaches its time
limit, one is asked to make room, the stage of one is killed and a node is drained.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import copies
import pytest
import slurm
from copies import CELLS, LLAMA, MISTRAL, lock, ran, run, stage

# It watches the clock (a limit of a minute, a drained node), so it needs a machine that does nothing else.
ASKED_FOR = os.environ.get("MAPLE_SLURM") == "true"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
    pytest.mark.skipif(
        not ASKED_FOR, reason="needs an idle machine: MAPLE_SLURM=true pytest tests/cluster/test_slurm.py"
    ),
]

# Five models in one task, which a minute is too short for.
LONG = [*CELLS[LLAMA], LLAMA, "experiment"]
KILLED, ASKED, _ = CELLS[MISTRAL]


class Shared:
    """A folder that all nodes see, and what was observed while they worked in it."""

    def __init__(self, folder: Path, cluster: slurm.Slurm):
        self.folder, self.cluster = folder, cluster
        self.environment = copies.ENVIRONMENT | {
            "SLURM_CONF": cluster.environment["SLURM_CONF"],
            "OMP_NUM_THREADS": "1",
        }
        self.said: list[str] = []
        self.states: dict[str, list[str]] = {}
        self.most_running = 0
        self.drained = ""

    def count(self, ended: threading.Event) -> None:
        while not ended.wait(0.5):
            self.most_running = max(self.most_running, list(self.cluster.jobs().values()).count("RUNNING"))

    def stage(self, name: str, *options: str, **more) -> str:
        return stage(self.folder, name, *options, environment=self.environment, **more)

    def look(self) -> dict[str, tuple[str, str]]:
        """{model: (state, text)}; every state that a model was ever seen in is kept."""
        lines = [
            line.split(None, 2)
            for line in self.stage("status", "--all").splitlines()[1:]
            if not line.startswith("next")
        ]
        found = {words[1]: (words[0], words[2] if len(words) > 2 else "") for words in lines}
        for name, (state, _) in found.items():
            if self.states.setdefault(name, [""])[-1] != state:
                self.states[name].append(state)
        return found

    def until(self, true, what: str, seconds: float = 420) -> None:
        end = time.monotonic() + seconds
        while not true(self.look()):
            assert time.monotonic() < end, f"never: {what}\n{self.look()}\n{self.cluster.jobs()}\n{self.logs(800)}"
            time.sleep(0.5)

    def logs(self, characters: int = 10**9) -> str:
        paths = [
            *(self.folder / "work/smoke/cluster").rglob("*.log"),
            *(self.folder / "work/smoke/cluster").rglob("*.out"),
        ]
        return "\n".join(f"{path.name}:\n{path.read_text()[-characters:]}" for path in sorted(paths))

    def job(self, name: str) -> str:
        return re.search(r"job (\S+)", self.look()[name][1])[1]

    def pids(self, name: str) -> list[int]:
        """Of the stage that works on a model in this folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
                mine = os.readlink(path / "cwd") == str(self.folder)
            except OSError:
                continue
            if mine and name.encode() in words and any(word.startswith(b"stages.") for word in words):
                found.append(int(path.name))
        return found


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(serial folder, shared folder's story), both finished."""
    serial = copies.tree(tmp_path_factory.mktemp("serial"))
    run(serial, "dvc", "repro", "download", *(f"dvc.yaml:prepare@{key}" for key in copies.SETS))
    folder = tmp_path_factory.mktemp("shared") / "tree"
    shutil.copytree(serial, folder, symlinks=True)
    log = open(serial.with_name("repro.txt"), "w+")
    whole = subprocess.Popen(["dvc", "repro"], cwd=serial, env=copies.ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT)
    try:
        with slurm.running(tmp_path_factory.mktemp("slurm")) as cluster:
            shared, ended = Shared(folder, cluster), threading.Event()
            counting = threading.Thread(target=shared.count, args=[ended])
            counting.start()
            try:
                story(shared)
            finally:
                ended.set()
                counting.join()
        assert whole.wait() == 0, log.seek(0) or log.read()[-6000:]
    finally:
        whole.kill()
        whole.wait()
    return serial, shared


def story(shared: Shared) -> None:
    say = shared.said.append
    say(shared.stage("submit", "--names", *LONG, "--chunk", "5", "--time", "1"))
    say(shared.stage("submit"))
    # Nothing is submitted twice.
    say(shared.stage("submit"))
    shared.until(lambda now: now[KILLED][0] == "running" and shared.pids(KILLED), "the cell to be killed runs")
    os.kill(shared.pids(KILLED)[0], signal.SIGKILL)
    shared.until(lambda now: now[ASKED][0] == "running" and shared.pids(ASKED), "the cell to be asked runs")
    shared.cluster.ask("scancel", "--signal=USR1", shared.job(ASKED))
    shared.until(lambda now: now[ASKED][0] == "requeued", "the cell that was asked is requeued")
    shared.cluster.ask("scontrol", "update", "nodename=n4", "state=drain", "reason=test")
    shared.until(lambda now: not shared.cluster.jobs(), "the queue is empty")
    shared.look()
    # Only what failed; the node is still drained.
    say(shared.stage("submit"))
    shared.until(lambda now: {state for state, _ in now.values()} == {"done"}, "all are done")
    say(shared.stage("submit"))
    shared.drained = shared.cluster.states()["n4"]
    say(shared.stage("commit"))
    say(run(shared.folder, "dvc", "repro", environment=shared.environment))
    path = shared.folder / "maple/training/loop.py"
    text = path.read_text()
    path.write_text(text.replace("1 - done", "1 - done**2"))
    say(shared.stage("submit", "--dry-run"))
    path.write_text(text)


def test_tasks_run_side_by_side_and_nothing_is_submitted_twice(both):
    said = both[1].said
    assert "5 to submit" in said[0] and "submitted 1 tasks" in said[0]
    assert "5 in a queue, 4 to submit" in said[1] and "submitted 4 tasks" in said[1]
    assert "9 in a queue, 0 to submit" in said[2]
    assert both[1].most_running == 4


def test_a_killed_stage_fails_alone_and_submit_takes_only_that(both):
    _, shared = both
    assert "failed" in shared.states[KILLED] and shared.states[KILLED][-1] == "done"
    assert not any("failed" in states for name, states in shared.states.items() if name != KILLED)
    assert "8 done, 0 in a queue, 1 to submit" in shared.said[3] and "submitted 1 tasks" in shared.said[3]
    assert "9 done, 0 in a queue, 0 to submit" in shared.said[4]


def test_a_task_at_its_time_limit_goes_on_in_another(both):
    _, shared = both
    logs = shared.logs()
    assert "this job is timed-out" in logs and "Requeued job" in logs
    assert any("requeued" in shared.states[name] for name in LONG)


def test_a_task_that_is_asked_to_make_room_goes_on_later(both):
    _, shared = both
    assert "SIGUSR1" in shared.logs()
    assert "requeued" in shared.states[ASKED] and shared.states[ASKED][-1] == "done"


def test_a_drained_node_gets_no_more_work(both):
    """The killed cell was submitted again when the node was drained already."""
    _, shared = both
    state = json.loads((shared.folder / f"work/smoke/cluster/states/{KILLED}.json").read_text())
    assert shared.drained in ("drain", "drained") and state["host"] in slurm.NODES and state["host"] != "n4"


def test_dvc_lock_says_what_a_serial_run_says_and_nothing_is_trained_again(both):
    serial, shared = both
    assert not [name for name in ran(shared.said[6]) if re.match("train|answer", name)]
    assert lock(shared.folder) == lock(serial)


def test_the_tables_are_the_same_bytes(both):
    serial, shared = both
    assert subprocess.run(["diff", "-r", serial / "paper_tables", shared.folder / "paper_tables"]).returncode == 0


def test_a_changed_adapter_code_is_submitted_again(both):
    assert "2 done, 0 in a queue, 7 to submit" in both[1].said[7]
