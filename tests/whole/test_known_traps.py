"""docs/KNOWN_TRAPS.md: each row has a source and a test that exists; and the rows that have no other place for theirs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maple.config import catalogue

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (?!trap |---)(.+) \|$", (ROOT / "docs/KNOWN_TRAPS.md").read_text(), re.M)
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_there_are_enough_rows_and_none_stands_there_twice():
    sources = [source for row in ROWS for source in re.findall(r"[\w-]+/[\w-]+#\d+", row)]
    assert len(ROWS) >= 49 and len(sources) == len(set(sources))


@pytest.mark.parametrize("row", ROWS, ids=[row.split(" |")[0] for row in ROWS])
def test_a_trap_has_its_source_by_name_and_a_test_that_exists(row):
    _, source, _, test = row.split(" | ")
    for one in re.split(r'(?<="), ', source):
        assert re.fullmatch(r'[\w-]+/[\w-]+#\d+ ".+"', one), one
    path, name = re.fullmatch(r"`(.+)::(test_\w+)`", test).groups()
    assert re.search(rf"^def {name}\(", (ROOT / "tests" / path).read_text(), re.M), test


def test_no_data_set_is_a_program():
    for source in catalogue.datasets().values():
        patterns = [pattern for _, _, pattern in source.parts(source.codes, source.files)]
        assert patterns and all(re.search(r"\.(parquet|jsonl|json|json\.gz)$", pattern) for pattern in patterns), (
            patterns
        )


@pytest.fixture
def pipeline(tmp_path):
    """One stage under this repository's own settings of DVC."""
    subprocess.run(["dvc", "init", "-q", "--no-scm"], cwd=tmp_path, env=ENVIRONMENT, check=True)
    shutil.copy(ROOT / ".dvc/config", tmp_path / ".dvc/config")
    (tmp_path / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  toy:\n    cmd: mkdir -p out && seq 1000 >out/record\n    outs: [out]\n"
    )
    assert repro(tmp_path).returncode == 0
    return tmp_path


def repro(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(["dvc", "repro"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def test_a_file_that_is_cut_in_the_workspace_comes_back_whole(pipeline):
    whole = (pipeline / "out/record").read_bytes()
    os.truncate(pipeline / "out/record", 100)
    assert repro(pipeline).returncode == 0
    assert (pipeline / "out/record").read_bytes() == whole
    shutil.rmtree(pipeline / "out")
    assert repro(pipeline).returncode == 0
    assert (pipeline / "out/record").read_bytes() == whole


def test_an_object_that_is_cut_in_the_cache_is_not_taken_for_the_whole(pipeline):
    whole = (pipeline / "out/record").read_bytes()
    (cached,) = (
        path
        for path in (pipeline / ".dvc/cache/files").rglob("*")
        if path.is_file() and path.stat().st_size == len(whole)
    )
    os.truncate(cached, 100)
    shutil.rmtree(pipeline / "out")
    assert repro(pipeline).returncode == 0
    assert (pipeline / "out/record").read_bytes() == whole


def test_a_lock_file_without_a_process_stops_nothing(pipeline):
    """What a killed DVC leaves: its lock, and itself as a writer in its list."""
    (pipeline / ".dvc/tmp/lock").write_text("999999999\n")
    dead = '{"pid": 999999999, "cmd": "dvc repro"}'
    (pipeline / ".dvc/tmp/rwlock").write_text(f'{{"write": {{"{pipeline / "out"}": {dead}}}, "read": {{}}}}')
    (pipeline / "dvc.yaml").write_text((pipeline / "dvc.yaml").read_text().replace("1000", "1001"))
    assert repro(pipeline).returncode == 0
    assert len((pipeline / "out/record").read_text().split()) == 1001
