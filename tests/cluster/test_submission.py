"""What is submitted, what a task does and what is told of it, with stages that only pretend; the real ones: test_slurm.py."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from maple.cluster import inputs, ledger, resources, status, submission
from maple.cluster.resources import Options, Work
from maple.cluster.task import Task
from maple.config import params
from maple.core import storage
from maple.core.errors import MapleError
from maple.planning import cell_cost, plan

ROOT = Path(__file__).parents[2]
BASE = "llama-2-7b-4bit"
CELLS = [f"{BASE}.{key}.r8.s42" for key in ("alpaca", "multialpaca")]
# Writes a record after a while; `slow` and `broken` in the folder change how. SIGTERM is how the real one saves.
STAGE = """
import json, pathlib, signal, sys, time
verb, name = pathlib.Path(sys.argv[0]).stem, sys.argv[sys.argv.index("--name") + 1]
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("saved").write_text(name), sys.exit(143)))
print(f"cell 1 of 2: {verb} {name} 3 of 9 steps (33 %), 5 s left, loss 2.1", file=sys.stderr, flush=True)
while pathlib.Path("slow").exists():
    time.sleep(0.05)
if pathlib.Path("broken").exists() and pathlib.Path("broken").read_text() == name:
    sys.exit("no room\\n  why: the disk is full\\n  do:  free some\\n  log: x.log")
place = f"artifacts/smoke/adapters/{name}" if verb == "train" else f"artifacts/smoke/answers/grid/{name}"
if name == "experiment" and verb == "answer":
    place = "artifacts/smoke/answers/experiment"
pathlib.Path(place).mkdir(parents=True, exist_ok=True)
pathlib.Path(place, "record.json").write_text(json.dumps({"name": name}))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A checkout with two cells whose sources and training sets are prepared, and stages that pretend."""
    for name in ("dvc.yaml", "maple", "sources.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    found = yaml.safe_load((ROOT / "params.yaml").read_text())
    found["grid"] |= {"bases": [BASE], "datasets": ["alpaca", "multialpaca"], "ranks": [8]}
    found |= {"model": "llama-2-7b", "dataset": "alpaca"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(found, sort_keys=False))
    outs = ["sources", *(f"prepared/{key}" for key in found["datasets"])]
    for out in outs:
        (tmp_path / "artifacts/smoke" / out).mkdir(parents=True)
    stages = {"download": {"outs": [{"path": f"artifacts/smoke/{out}", "md5": out} for out in outs]}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").touch()
    for verb in ("train", "answer"):
        (tmp_path / "stages" / f"{verb}.py").write_text(STAGE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.fixture
def given(folder) -> params.Params:
    return params.load("smoke")


def states(given) -> dict[str, str]:
    return {line.name: line.state for line in status.lines(given, submission.names(given))}


def do(given, *names: str, queue: str | None = None) -> None:
    Task("smoke", os.getcwd(), list(names), queue=queue)()


# -- What a stage depends on ----------------------------------------------------------------------------------------------


def test_inputs_are_those_of_dvc_yaml(given):
    do(given, CELLS[0])
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["answer"]
    keys = [key for block in stage["params"] for names in block.values() for key in names]
    assert len(inputs.of(given, "answer", CELLS[0])) == len(stage["deps"]) + len(keys)
    assert f"artifacts/smoke/adapters/{CELLS[0]}" in inputs.of(given, "answer", CELLS[0])


def test_a_parameter_of_the_recipe_outdates_adapters_and_one_of_evaluation_only_answers(given, folder):
    do(given, *CELLS, BASE)
    assert submission.missing(given, [*CELLS, BASE]) == []
    path = folder / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("learning_rate: 0.003", "learning_rate: 0.004"))
    assert {work.name: work.verbs for work in submission.missing(given, [*CELLS, BASE])} == dict.fromkeys(
        CELLS, ("train", "answer")
    )
    path.write_text(text.replace("      limit: 100", "      limit: 99", 1))
    assert {work.name: work.verbs for work in submission.missing(given, [*CELLS, BASE])} == dict.fromkeys(
        [*CELLS, BASE], ("answer",)
    )


def test_another_training_set_outdates_the_cells_on_it(given, folder):
    do(given, *CELLS)
    lock = (folder / "dvc.lock").read_text()
    (folder / "dvc.lock").write_text(lock.replace("md5: prepared/alpaca", "md5: others"))
    assert [work.name for work in submission.missing(given, CELLS)] == [CELLS[0]]


def test_without_prepared_training_sets_the_stages_to_run_are_named(given, folder):
    shutil.rmtree(folder / "artifacts/smoke/prepared/multialpaca")
    assert inputs.missing(given, CELLS) == ["prepare@multialpaca"]
    assert inputs.missing(given, [BASE]) == []


# -- A task ---------------------------------------------------------------------------------------------------------------


def test_a_task_trains_and_asks_its_models_and_leaves_what_is_done(given, folder):
    do(given, *CELLS, BASE)
    assert states(given) == {CELLS[0]: "done", CELLS[1]: "done", BASE: "done", "experiment": "not submitted"}
    record = folder / "artifacts/smoke/adapters" / CELLS[0] / "record.json"
    before = record.stat().st_mtime_ns
    do(given, *CELLS)
    assert record.stat().st_mtime_ns == before


def test_a_failed_model_does_not_stop_the_others_and_says_why(given, folder):
    (folder / "broken").write_text(CELLS[0])
    with pytest.raises(RuntimeError, match=f"failed: {CELLS[0]};"):
        do(given, *CELLS)
    found = {line.name: line for line in status.lines(given, CELLS)}
    assert found[CELLS[1]].state == "done"
    assert found[CELLS[0]].state == "failed" and "train: no room; log work/smoke/cluster/logs/" in found[CELLS[0]].text
    assert submission.missing(given, CELLS) == [Work(CELLS[0], ("train", "answer"))]


def started(folder: Path, name: str) -> subprocess.Popen:
    """A task in a process of its own, until its stage runs."""
    (folder / "slow").touch()
    code = f"from maple.cluster.task import Task; Task('smoke', {str(folder)!r}, [{name!r}])()"
    running = subprocess.Popen([sys.executable, "-c", code], cwd=folder)
    log = folder / "work/smoke/cluster/logs" / f"{name}.log"
    end = time.monotonic() + 30
    while not (log.exists() and "steps" in log.read_text()):
        assert running.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    return running


def test_a_running_model_shows_its_progress_and_a_silent_one_is_told(given, folder):
    running = started(folder, CELLS[0])
    (line,) = status.lines(given, [CELLS[0]])
    assert line.state == "running" and "train: 3 of 9 steps (33 %), 5 s left, loss 2.1; job" in line.text
    running.kill()
    running.wait()
    path = folder / f"work/smoke/cluster/states/{CELLS[0]}.json"
    os.utime(path, (0, time.time() - 2 * ledger.SILENT_SECONDS))
    (line,) = status.lines(given, [CELLS[0]])
    assert line.state == "silent" and "no sign of life for" in line.text


def test_a_killed_task_takes_its_stage_with_it(given, folder):
    running = started(folder, CELLS[0])
    running.kill()
    running.wait()
    end = time.monotonic() + 10
    while not (folder / "saved").exists():
        assert time.monotonic() < end, "the stage lives on"
        time.sleep(0.05)


def test_sigterm_saves_and_ends_and_is_told(given, folder):
    running = started(folder, CELLS[0])
    running.terminate()
    assert running.wait(20) == 143 and (folder / "saved").read_text() == CELLS[0]
    (line,) = status.lines(given, [CELLS[0]])
    assert line.state == "stopped" and "SIGTERM was received" in line.text


def test_warnings_of_the_scheduler_do_not_reach_the_stage(given, folder):
    running = started(folder, CELLS[0])
    (child,) = [int(word) for word in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.kill(child, number)
    (folder / "slow").unlink()
    assert running.wait(20) == 0 and states(given)[CELLS[0]] == "done"


def test_an_adapter_made_before_its_code_changed_is_not_taken_for_the_new_one(given, folder):
    """The note of what it was made from is gone before the stage runs, so a kill at any point leaves it without one."""
    do(given, CELLS[0])
    assert ledger.stamped(given, "train", CELLS[0])
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("learning_rate: 0.003", "learning_rate: 0.004"))
    ledger.log(given, CELLS[0]).unlink()
    started(folder, CELLS[0]).kill()
    assert ledger.stamped(given, "train", CELLS[0]) is None


def test_tasks_that_share_a_list_take_each_name_once(given, folder):
    queue = str(folder / "queue")
    do(given, CELLS[0], queue=queue)
    ledger.forget(given, CELLS[0])
    os.environ["SUBMITIT_LOCAL_JOB_ID"] = "another"
    try:
        do(given, *CELLS, queue=queue)
    finally:
        del os.environ["SUBMITIT_LOCAL_JOB_ID"]
    assert ledger.read(given, CELLS[0]) is None and states(given)[CELLS[1]] == "done"


# -- Submitting -----------------------------------------------------------------------------------------------------------


def test_this_machine_does_the_grid_by_submitits_local_executor(given, folder):
    works = submission.missing(given, submission.names(given))
    device, _ = plan.device_of(given)
    (array,) = submission.arrays(given, works, device, Options(), 1)
    jobs = submission.submit(given, array, submission.Place("local", parallel=2))
    assert len(jobs) == 2
    # Both tasks are alive from the start: nothing would be submitted twice.
    assert submission.alive(given) <= {work.name for work in works}
    end = time.monotonic() + 60
    while set(states(given).values()) != {"done"}:
        assert time.monotonic() < end, states(given)
        time.sleep(0.2)
    assert submission.missing(given, submission.names(given)) == []


def test_chunks_hold_models_of_one_base_and_arrays_tasks_that_ask_for_the_same():
    given = params.load("paper")
    device, _ = plan.device_of(given)
    works = [Work(name, inputs.verbs(given, name)) for name in submission.names(given)]
    arrays = submission.arrays(given, works, device, Options(), 4)
    tasks = [task for array in arrays for task in array.tasks]
    assert sorted(work.name for task in tasks for work in task) == sorted(work.name for work in works)
    for task in tasks:
        assert len(task) <= 4
        assert len({work.name.split(".")[0] for work in task if work.name != "experiment"}) == 1
    asks = [dataclasses.replace(array.ask, gpu_gb=0) for array in arrays]
    assert len(asks) == len(set(asks))


def test_a_large_cell_asks_for_more_than_a_small_one():
    given = params.load("paper")
    device = next(device for device in cell_cost.devices() if device.name == "A100-80GB")
    works = [
        Work(f"mistral-7b-{bits}bit.alpaca.r{rank}.s42", ("train", "answer")) for bits, rank in ((4, 8), (16, 128))
    ]
    types = {"rtx_4090": 24.0, "a100": 80.0}
    recipe = dataclasses.replace(given.recipe, micro_batch_tokens=8192, gradient_checkpointing=False)
    given = dataclasses.replace(given, recipe=recipe)
    small, large = (resources.of(given, [work], device, Options(gpu_types=types)) for work in works)
    assert large.gpu_gb > small.gpu_gb and large.memory_gb > small.memory_gb
    with pytest.raises(MapleError, match="fits none of the GPUs"):
        resources.of(given, [works[1]], device, Options(gpu_types={"gtx": 8.0}))


def test_what_is_said_goes_into_sbatchs_words():
    given = params.load("paper")
    ask = resources.Ask(90, 32, 8, 1, "a100", 40.0)
    place = submission.Place("slurm", "gpu", "lab", 4, None, {"qos": "long"})
    words = submission.slurm_parameters(given, ask, place)
    from submitit.slurm.slurm import _make_sbatch_string

    text = _make_sbatch_string(command="x", folder="/f", map_count=3, **words)
    for line in (
        "partition=gpu",
        "account=lab",
        "time=90",
        "mem=32GB",
        "gpus-per-node=a100:1",
        "qos=long",
        "array=0-2%3",
        "signal=USR2@300",
        "requeue",
    ):
        assert f"#SBATCH --{line}\n" in text.replace("'", ""), line


def test_a_container_goes_before_python(given):
    ask = resources.Ask(90, 32, 8, 1, "", 40.0)
    root = os.getcwd()
    assert submission.prefix(submission.Place(container="x.sif"), ask) == [
        "apptainer",
        "exec",
        "--nv",
        "--bind",
        root,
        "--pwd",
        root,
        "x.sif",
    ]
    assert submission.prefix(submission.Place(container="x.sqsh"), ask)[:2] == ["enroot", "start"]


def test_a_task_runs_its_stages_in_the_container(given, folder, monkeypatch):
    """A command of that name that only notes its arguments and runs what follows the image."""
    tool = folder / "bin/apptainer"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/called\nwhile [ "$1" != x.sif ]; do shift; done; shift; exec "$@"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    ask = resources.Ask(90, 32, 8, 0, "", 0.0)
    Task("smoke", str(folder), [CELLS[0]], submission.prefix(submission.Place(container="x.sif"), ask))()
    called = (folder / "called").read_text().splitlines()
    assert called[0].endswith(f"x.sif python -m stages.train --profile smoke --name {CELLS[0]}") and len(called) == 2
    assert states(given)[CELLS[0]] == "done"


def test_a_queue_that_cannot_be_read_submits_nothing(given, folder, monkeypatch):
    ledger.add_submission(given, {"executor": "slurm", "host": "x", "jobs": {"1_0": [CELLS[0]]}})
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MapleError, match="would be submitted twice"):
        submission.alive(given)


def test_the_summary_says_what_to_do_next(given, folder):
    names = submission.names(given)
    said = list(status.text(given, status.lines(given, names), False))
    assert said == [
        "smoke profile (SMOKE): 4 models: 4 not submitted",
        "next: make submit PROFILE=smoke, which submits what is not done and in no queue",
    ]
    do(given, *names)
    said = list(status.text(given, status.lines(given, names), False))
    assert said == ["smoke profile (SMOKE): 4 models: 4 done", "next: make collect PROFILE=smoke"]


def test_records_are_read_as_written(given, folder):
    storage.write_json(folder / "work/smoke/cluster/states/x.json", {"name": "x", "state": "waiting", "since": 1.0})
    state, _ = ledger.read(given, "x")
    assert (state.state, state.error) == ("waiting", "") and json.loads(
        (folder / "work/smoke/cluster/states/x.json").read_text()
    )
