"""benchmarks/conditions.py on a pipeline of one stage: what it calls well, and what it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import conditions
from benchmarks.conditions import Condition

STAGE = """
import os, sys
os.makedirs("artifacts", exist_ok=True)
if os.environ.get("MOOD") == "clear":
    sys.exit("no room\\n  why: MOOD is clear\\n  do:  unset it")
if os.environ.get("MOOD") == "trace":
    raise ValueError("MOOD")
open("artifacts/result", "w").write("42" + os.environ.get("MOOD", ""))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    changed = pytest.MonkeyPatch()
    changed.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    (folder / "stage.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(
        "stages:\n  toy:\n    cmd: python stage.py\n    deps: [stage.py]\n    outs: [artifacts]\n"
    )
    for command in (["dvc", "init", "-q", "--no-scm"], ["dvc", "repro", "-q"]):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    yield folder
    changed.undo()


@pytest.mark.parametrize(
    "condition, fate",
    [
        (conditions.CONDITIONS["umask 077"], "same bytes"),
        (conditions.CONDITIONS["a path with spaces and other letters"], "same bytes"),
        (Condition(environment={"MOOD": "bad"}), "differs"),
        (Condition(environment={"MOOD": "clear"}), "failed"),
        (Condition(environment={"MOOD": "clear"}, fails="mood"), "refused, then same bytes"),
        (Condition(environment={"MOOD": "trace"}, fails="mood"), "traceback"),
    ],
)
def test_a_condition_is_called_what_it_is(run, condition, fate):
    found, said = conditions.trial(run, condition, ["toy"], check=("true",))
    assert found == fate, said
    assert fate != "refused, then same bytes" or said == "why: MOOD is clear"
