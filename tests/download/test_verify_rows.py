"""stages.verify_rows: one folder for the rows of all tasks and languages that were fetched."""

import argparse
import json
from pathlib import Path

import pytest
import upstream

from maple.config import catalogue, params
from maple.download import hub
from stages import verify_rows


class Hub(hub.Folder):
    """The rows of tests/upstream.py as if they came from the Hub; their number is not upstream's."""

    name = "hub"

    def resolve(self, source):
        return hub.Listing("smoke", super().resolve(source).files)


@pytest.fixture
def verify(tmp_path, monkeypatch):
    """`verify(task, languages)` returns the exit code; the working folder is a new one."""
    upstream.write(tmp_path / "rows")
    for task in ("xcopa", "xquad"):
        repository = tmp_path / "hub/datasets" / catalogue.datasets()[task].hub_id
        repository.parent.mkdir(parents=True, exist_ok=True)
        repository.symlink_to(tmp_path / "rows" / task)
    settings = params.load("paper")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "Hub", lambda: Hub(tmp_path / "hub"))
    monkeypatch.setattr(verify_rows, "XCOPA_WRONG", {"th": (6, 6)})

    def run(task: str, languages: str) -> int:
        with pytest.raises(SystemExit) as done:
            verify_rows.main(settings, argparse.Namespace(task=task, languages=languages))
        return done.value.code

    return run


def kept() -> set[str]:
    folder = Path("artifacts/verify/sources")
    found = json.loads((folder / "record.json").read_text())
    recorded = {f"{key}/{path}" for key, entry in found["datasets"].items() for path in entry["files"]}
    assert recorded == {str(p.relative_to(folder / "datasets")) for p in folder.rglob("*.parquet")}
    return {path.split("/")[0] + " " + path.split("/")[1] for path in recorded}


def test_a_language_to_repair_brings_one_that_agrees_but_does_not_list_it(verify, capsys):
    assert verify("xcopa", "th") == 0
    assert kept() == {"xcopa th", "xcopa et"}
    shown = capsys.readouterr().out
    assert "all as known" in shown and "\nth " in shown and "\net " not in shown


def test_another_task_or_language_stands_beside_the_first(verify):
    assert verify("xcopa", "zh") == 0 and verify("xquad", "ar") == 0 and verify("xcopa", "et") == 0
    assert kept() == {"xcopa zh", "xcopa et", "xquad xquad.ar"}


def test_what_somebody_removed_or_a_stopped_run_left_without_a_record_is_dealt_with(verify):
    assert verify("xcopa", "zh") == 0 and verify("xquad", "ar") == 0
    Path("artifacts/verify/sources/record.json").unlink()
    Path("artifacts/verify/sources/datasets/xcopa/zh/test-00000-of-00001.parquet").unlink()
    assert verify("xquad", "en") == 0
    assert kept() == {"xcopa zh", "xquad xquad.ar", "xquad xquad.en"}
