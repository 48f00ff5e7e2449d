"""benchmarks/trials.py on a pipeline of one stage: it counts what is survived, and sees what is not."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import trials

SAFE = """
import os, time
time.sleep(0.6)
os.makedirs("artifacts", exist_ok=True)
open("artifacts/result.part", "w").write("42")
os.replace("artifacts/result.part", "artifacts/result")
time.sleep(0.3)
"""
# Goes on from what a killed run left in work/ and counts it twice.
CARELESS = """
import os, time
os.makedirs("work", exist_ok=True)
open("work/lines", "a").write("line\\n")
time.sleep(0.8)
os.makedirs("artifacts", exist_ok=True)
open("artifacts/result", "w").write(open("work/lines").read())
os.remove("work/lines")
"""


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def make(script: str) -> Path:
        (tmp_path / "stage.py").write_text(script)
        (tmp_path / "dvc.yaml").write_text(
            "stages:\n  toy:\n    cmd: python stage.py\n    deps: [stage.py]\n    outs: [artifacts]\n"
        )
        for command in (
            ["dvc", "init", "-q", "--no-scm"],
            ["dvc", "config", "core.analytics", "false"],
            ["dvc", "repro", "-q"],
        ):
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        return tmp_path

    return make


def test_a_stage_that_renames_its_result_last_survives(pipeline):
    folder = pipeline(SAFE)
    assert trials.stages_of(folder) == {"toy": "toy"}
    done = trials.trials(folder, {"toy": "toy"}, 2, random.Random(1), check=())
    hits = [one for one in done if one.fate != "late"]
    assert [one.fate for one in hits] == ["survived"] * 2, done
    assert trials.summary(done).startswith("2 of 2 signals survived (toy 2)")


def test_a_stage_that_counts_a_killed_run_s_work_twice_is_seen(pipeline):
    folder = pipeline(CARELESS)
    first, last, _ = trials.window(folder, "toy", ())
    expected = trials.state(folder, "toy")
    found = trials.trial(folder, "toy", "toy", "SIGKILL", "stage", (last - first) / 2, expected, ())
    assert found.fate == "differs" and "artifacts/result" in found.said, found
