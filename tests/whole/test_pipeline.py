"""The DVC graph: both profiles share it, every stage is described, and dependencies are what the code imports."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from maple.core import source_code
from maple.exchange import remote

STAGES = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]

# Packages that a stage may use without depending on them: they carry bytes, words and parameters, never a number.
PLUMBING = {"core", "config"}
# A change of these costs GPUs, so not even their own file in stages/, which reads, prints and writes, marks them as
# changed. What decides their numbers begins here instead.
DEAR = {"train": ["training/run.py", "training/adapter_folder.py"], "answer": ["answering/run.py", "models/loading.py"]}


def body(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


def packages(stage: str) -> set[str]:
    """Packages of maple that decide what stages/<stage>.py writes."""
    start = [source_code.ROOT / "maple" / name for name in DEAR.get(stage, ())] or [
        source_code.ROOT / f"stages/{stage}.py"
    ]
    return {f"maple/{found}" for found in map(source_code.package_of, source_code.closure(start, PLUMBING)) if found}


def code_of(name: str) -> str:
    return re.search(r"python -m stages\.(\w+)", body(name)["cmd"])[1]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_uses(name):
    stated = {dep for dep in body(name)["deps"] if dep.startswith(("maple/", "stages/"))}
    own = set() if code_of(name) in DEAR else {f"stages/{code_of(name)}.py"}
    assert stated == packages(code_of(name)) | own


@pytest.mark.parametrize("path", sorted(Path("profiles").glob("*/dvc.yaml")), ids=str)
def test_every_profile_has_the_one_graph_that_is_edited(path):
    first, rest = path.read_text().split("\n", 1)
    assert (
        first == f"# Made from dvc.yaml at the root by: make {path} (do not edit)"
        and rest == Path("dvc.yaml").read_text()
    )


def test_the_lock_file_names_no_stage_that_is_gone():
    """DVC keeps an entry for ever, and reads and writes them all at every stage."""
    locked = yaml.load(Path("dvc.lock").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["stages"]
    listed = subprocess.run(["dvc", "stage", "list", "--name-only"], capture_output=True, text=True, check=True).stdout
    assert set(locked) <= set(listed.split())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_does_and_runs_in_the_root(name):
    assert body(name)["desc"] and body(name)["wdir"] == "${root}"


@pytest.mark.parametrize("name", ["tables", "figures", "compare"])
def test_what_pull_fetches_as_scores_is_all_that_tables_figures_and_verdicts_need(name):
    """What git keeps aside. `scores` of the grid lie below the folder that collect depends on."""
    made = [path for stage in remote.SCORES for path in body(stage).get("outs", [])]
    needed = [path for path in body(name)["deps"] if path.startswith("artifacts/")]
    assert needed and set(needed) <= set(map(str, made))


def test_the_experiment_runs_the_same_commands_as_the_grid():
    for verb in ("train", "answer", "score"):
        assert code_of(verb) == code_of(f"{verb}_experiment")
        of_code = [
            {d for d in body(n)["deps"] if d.endswith(".py") or "/" not in d} for n in (verb, f"{verb}_experiment")
        ]
        assert of_code[0] == of_code[1]


def test_grid_stages_do_not_depend_on_the_experiments_parameters():
    for name in ("train", "answer", "answer_base"):
        keys = body(name)["params"][0]["${params_file}"]
        assert not {"lora", "train", "quantisation", "dataset"} & set(keys)
