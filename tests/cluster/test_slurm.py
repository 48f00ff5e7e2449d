"""The grid on a real Slurm: several tasks at once, and all that goes wrong on a cluster. In the end the same bytes.

One copy of the tree runs the pipeline serially, another by `stages.submit`; while its tasks run, one reaches its time
limit, one is asked to make room, the stage of one is killed and a node is drained. Whoever is to be met while it trains
is halted at its first step until it has been: a slow machine changes nothing.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import copies
import pytest
import s3
import slurm
from copies import lock, ran, run, stage

from maple.cluster import ledger, status, submission
from maple.config import params

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing())]

BASES, SETS = ("llama-2-7b-4bit", "mistral-7b-8bit"), ("alpaca", "multialpaca")
LLAMA, MISTRAL = ([f"{base}.{key}.r8.s42" for key in SETS] for base in BASES)
# One task of two models, the first of which reaches the limit.
LIMITED, NEXT = "experiment", LLAMA[0]
ASKED, KILLED = LLAMA[1], MISTRAL[0]
# Slurm gives a task the first node that is free.
DRAINED = slurm.NODES[0]
PATIENCE_SECONDS = 600


def small(given: dict[str, Any]) -> None:
    """Seven models: four cells, their two bases and an experiment that trains twice as long."""
    given["grid"] |= {"bases": list(BASES), "datasets": list(SETS), "ranks": [8]}
    given |= {"model": "llama-2-7b", "dataset": "alpaca", "datasets": {key: given["datasets"][key] for key in SETS}}
    given["prepare"] |= {"rows": 160, "heldout_rows": 8}
    given["train"]["epochs"] = 2
    for options in given["evaluation"]["tasks"].values():
        options["limit"] = 2
        options["languages"] = options["languages"][:2]


class Shared:
    """A folder that all nodes see, and what was observed while they worked in it."""

    def __init__(self, folder: Path, cluster: slurm.Slurm):
        self.folder, self.cluster = folder, cluster
        self.environment = copies.ENVIRONMENT | {"SLURM_CONF": cluster.environment["SLURM_CONF"]}
        with contextlib.chdir(folder):
            self.params = params.load("smoke")
        self.said: dict[str, str] = {}
        self.states: dict[str, list[str]] = {}
        self.most_running: Counter[str] = Counter()
        self.drained = ""

    def count(self, ended: threading.Event) -> None:
        """The most tasks of each array that ran at a time."""
        while not ended.wait(0.3):
            running = (job.split("_")[0] for job, state in self.cluster.jobs().items() if state == "RUNNING")
            self.most_running |= Counter(running)

    def say(self, what: str, name: str, *options: str) -> None:
        self.said[what] = stage(self.folder, name, *options, environment=self.environment)

    def look(self) -> dict[str, str]:
        """{model: state}, as `make status` has them; every state that a model was ever seen in is kept."""
        with contextlib.chdir(self.folder):
            lines = status.lines(self.params, submission.names(self.params))
        for line in lines:
            if self.states.setdefault(line.name, [""])[-1] != line.state:
                self.states[line.name].append(line.state)
        return {line.name: line.state for line in lines}

    def until(self, true, what: str, wait: float = 0.3) -> Any:
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := true()):
            assert time.monotonic() < end, f"never: {what}\n{self.look()}\n{self.cluster.jobs()}\n{self.logs(800)}"
            time.sleep(wait)
        return found

    def logs(self, characters: int = 10**9) -> str:
        folder = self.folder / ledger.folder(self.params)
        paths = [*folder.rglob("*.log"), *folder.rglob("*.out")]
        return "\n".join(f"{path.name}:\n{path.read_text()[-characters:]}" for path in sorted(paths))

    def told(self, name: str) -> dict[str, Any]:
        """What a model's task last told of it: job, node, ..."""
        return json.loads((self.folder / f"work/smoke/cluster/states/{name}.json").read_text())

    def halted(self, name: str) -> int:
        """The process that trains a model in this folder, stopped at its first step."""
        log = self.folder / f"work/smoke/logs/train-{name}.log"
        (pid,) = self.until(lambda: self.training(name), f"{name} is trained")
        self.until(lambda: log.exists() and "step 1 " in log.read_text(), f"{name} takes its first step", 0.01)
        os.kill(pid, signal.SIGSTOP)
        return pid

    def training(self, name: str) -> list[int]:
        """The process that trains a model in this folder, if one does."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
                mine = os.readlink(path / "cwd") == str(self.folder)
            except OSError:
                continue
            if mine and name.encode() in words and b"stages.train" in words:
                found.append(int(path.name))
        return found


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(serial folder, shared folder's story), both finished."""
    serial = copies.tree(tmp_path_factory.mktemp("serial"), small)
    run(serial, "dvc", "repro", "download", *(f"dvc.yaml:prepare@{key}" for key in SETS))
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
    names = (LIMITED, ASKED, KILLED)
    with ThreadPoolExecutor(len(names)) as pool:
        # They watch before anything is submitted: a fast machine trains a cell while the next is submitted.
        halted = pool.map(shared.halted, names)
        shared.say("two models in a task", "submit", "--names", LIMITED, NEXT, "--chunk", "2", "--time", "2")
        shared.say("the others", "submit")
        shared.say("nothing twice", "submit")
        pids = dict(zip(names, halted))
    shared.until(lambda: max(shared.most_running.values()) >= 4, "four tasks of an array run at a time")
    shared.cluster.ask("scontrol", "update", f"nodename={DRAINED}", "state=drain", "reason=test")

    os.kill(pids[KILLED], signal.SIGKILL)
    shared.until(lambda: shared.look()[KILLED] == "failed", "the killed cell has failed")
    shared.say("after a kill", "status", "--all")

    shared.cluster.ask("scancel", "--signal=USR1", shared.told(ASKED)["job"])
    shared.until(lambda: "SIGUSR1" in shared.logs(), "the task hears that it is to make room")
    os.kill(pids[ASKED], signal.SIGCONT)
    shared.until(lambda: shared.look()[ASKED] == "requeued", "the cell that was asked is requeued", 0.05)

    # Slurm's own warning; to submitit the other one, too, is a limit.
    shared.until(lambda: "SIGUSR2" in shared.logs(), "the task hears of its limit")
    os.kill(pids[LIMITED], signal.SIGCONT)
    shared.until(lambda: shared.look()[LIMITED] == "requeued", "the cell whose time is up is requeued", 0.05)
    # Once is enough; on a slow machine it would be requeued again and again.
    shared.cluster.ask("scontrol", "update", f"jobid={shared.told(LIMITED)['job']}", "timelimit=60")

    shared.until(lambda: shared.look() and not shared.cluster.jobs(), "the queue is empty")
    shared.say("what failed", "submit")
    shared.until(lambda: set(shared.look().values()) == {"done"}, "all are done")
    shared.say("nothing is left", "submit")
    shared.drained = shared.cluster.states()[DRAINED]
    shared.say("commit", "commit")
    shared.said["the rest"] = run(shared.folder, "dvc", "repro", environment=shared.environment)
    path = shared.folder / "maple/training/loop.py"
    text = path.read_text()
    path.write_text(text.replace("1 - done", "1 - done**2"))
    shared.say("other code", "submit", "--dry-run")
    path.write_text(text)


def test_tasks_run_side_by_side_and_nothing_is_submitted_twice(both):
    said = both[1].said
    assert "2 to submit" in said["two models in a task"] and "submitted 1 tasks" in said["two models in a task"]
    assert "2 in a queue, 5 to submit" in said["the others"] and "submitted 5 tasks" in said["the others"]
    assert "7 in a queue, 0 to submit" in said["nothing twice"]
    assert max(both[1].most_running.values()) == 4


def test_a_killed_stage_fails_alone_and_submit_takes_only_that(both):
    _, shared = both
    assert "failed" in shared.states[KILLED] and shared.states[KILLED][-1] == "done"
    assert not any("failed" in states for name, states in shared.states.items() if name != KILLED)
    said = shared.said["what failed"]
    assert "6 done, 0 in a queue, 1 to submit" in said and "submitted 1 tasks" in said
    assert "7 done, 0 in a queue, 0 to submit" in shared.said["nothing is left"]


def test_status_says_what_failed_where_its_log_is_and_who_runs_on_which_node(both):
    lines = {line.split()[1]: line for line in both[1].said["after a kill"].splitlines()[1:]}
    assert re.match(r"failed +\S+  train: killed by SIGKILL.*; log work/smoke/cluster/logs/", lines[KILLED])
    assert re.match(rf"running +\S+  train: .*; job \d+ on {DRAINED}$", lines[LIMITED])


def test_a_task_at_its_time_limit_goes_on_in_another(both):
    _, shared = both
    assert re.search(r"Caught signal SIGUSR2 .*: this job is timed-out", shared.logs())
    assert "requeued" in shared.states[LIMITED] and shared.states[LIMITED][-1] == "done"
    assert shared.states[NEXT][-1] == "done"


def test_a_task_that_is_asked_to_make_room_goes_on_later(both):
    _, shared = both
    assert "requeued" in shared.states[ASKED] and shared.states[ASKED][-1] == "done"


@pytest.mark.parametrize("name", [LIMITED, ASKED])
def test_whoever_is_requeued_goes_on_from_the_step_it_had_reached(both, name):
    bill = json.loads((both[1].folder / f"artifacts/smoke/bills/train/{name}.json").read_text())
    assert bill["resumed_at_step"] >= 1


def test_a_drained_node_gets_no_more_work(both):
    """The node that the scheduler would have taken first, which the task at its limit left."""
    _, shared = both
    assert shared.drained in ("drain", "drained")
    hosts = {name: shared.told(name)["host"] for name in (LIMITED, NEXT, ASKED, KILLED)}
    assert set(hosts.values()) <= set(slurm.NODES) - {DRAINED}, hosts


def test_dvc_lock_says_what_a_serial_run_says_and_nothing_is_trained_again(both):
    serial, shared = both
    assert not [name for name in ran(shared.said["the rest"]) if re.match("train|answer", name)]
    assert lock(shared.folder) == lock(serial)


def test_the_tables_are_the_same_bytes(both):
    serial, shared = both
    assert subprocess.run(["diff", "-r", serial / "paper_tables", shared.folder / "paper_tables"]).returncode == 0


def test_another_machine_pulls_through_s3_what_the_tasks_made_and_runs_nothing(both, tmp_path):
    """What can be wrong with a store: tests/exchange/test_remote.py."""
    _, shared = both
    clone = tmp_path / "clone"
    with s3.serving() as (address, _):
        there = {key: value for key, value in copies.ENVIRONMENT.items() if "proxy" not in key} | s3.ENVIRONMENT
        run(shared.folder, "dvc", "remote", "add", "--default", "store", "s3://lab/runs")
        for name, value in {"endpointurl": address, "verify": "true"}.items():
            run(shared.folder, "dvc", "remote", "modify", "store", name, value)
        stage(shared.folder, "push", environment=there)
        run(shared.folder, "git", "add", "--all")
        run(shared.folder, "git", "commit", "-qm", "finished")
        run(tmp_path, "git", "clone", "-q", str(shared.folder), clone.name)
        stage(clone, "pull", environment=there)
    assert ran(run(clone, "dvc", "repro")) == []
    assert run(clone, "git", "status", "--porcelain") == ""


def test_a_changed_adapter_code_is_submitted_again(both):
    assert "2 done, 0 in a queue, 5 to submit" in both[1].said["other code"]
