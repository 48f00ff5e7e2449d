"""Preflight says what is missing before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maple.config import params
from maple.planning import preflight

ROOT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with the parameter files of both profiles, without a lock and without git."""
    for name in ("params.yaml", "profiles/paper/params.yaml", "sources.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


def check(profile):
    command = [sys.executable, "-m", "stages.check", "--profile", profile]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_smoke_needs_nothing_but_room(elsewhere):
    assert check("smoke").returncode == 0


def test_an_empty_lock_is_found_and_the_mend_named(elsewhere):
    (elsewhere / "dvc.lock").write_text("")
    result = check("smoke")
    assert result.returncode == 1
    assert "rm dvc.lock && make reproduce" in result.stdout


def test_the_paper_profile_asks_for_gpu_and_token_naming_the_page(elsewhere):
    result = check("paper")
    assert result.returncode == 1
    assert "GPU: none seen" in result.stdout
    assert "https://huggingface.co/meta-llama/Llama-2-7b-hf" in result.stdout and "HF_TOKEN" in result.stdout
    assert "nothing was started" in result.stderr


def test_a_wrong_parameter_stops_it_first(elsewhere):
    path = elsewhere / "params.yaml"
    path.write_text(path.read_text().replace("schedule: constant", "schedule: constnat"))
    result = check("smoke")
    assert result.returncode == 1 and "did you mean 'constant'" in result.stderr


def test_too_little_room_is_said_in_gigabytes(elsewhere, monkeypatch):
    monkeypatch.setitem(preflight.NEEDS_GB, "smoke", (10**6, 3))
    found = {f.name: f for f in preflight.findings(params.load("smoke"))}
    assert found["disk"].stops and "GB more" in found["disk"].do
