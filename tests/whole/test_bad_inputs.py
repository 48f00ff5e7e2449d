"""benchmarks/bad_inputs.py: its rows are those of its list, and what is no refusal is seen."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import bad_inputs
from benchmarks.bad_inputs import Case

ROOT = Path(__file__).parents[2]
STAGE = """
import os, sys
mood = open("mood").read()
if mood == "done":
    os.makedirs("artifacts/smoke/made")
    sys.exit(0)
if mood == "half":
    os.makedirs("artifacts/smoke/made")
    open("artifacts/smoke/made/rows.part", "w").write("x")
if mood == "trace":
    raise ValueError
message = "no rows\\n  why: they are bad\\n  do:  mend them"
sys.exit("\\n".join([message] * (2 if mood == "twice" else 1)))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    (tmp_path / "stage.py").write_text(STAGE)
    for name in ("params.yaml", "sources.yaml", "mood", "dvc.lock"):
        (tmp_path / name).write_text("")
    made = tmp_path / "artifacts/smoke/made"
    made.mkdir(parents=True)
    (made / "rows").write_text("whole")
    return tmp_path


@pytest.mark.parametrize(
    "mood, says, fate",
    [
        ("clear", "are bad", "refused"),
        ("clear", "are good", "says something else"),
        ("done", "are bad", "accepted"),
        ("half", "are bad", "left something"),
        ("trace", "are bad", "unexpected"),
        ("twice", "are bad", "not one message"),
    ],
)
def test_an_input_is_called_what_became_of_it_and_the_folder_is_as_before(folder, mood, says, fate):
    case = Case("data files", mood, "python stage.py", says, "mood", lambda _: mood.encode(), "made")
    assert bad_inputs.trial(folder, case)[0] == fate
    assert (folder / "artifacts/smoke/made/rows").read_text() == "whole" and not (folder / "mood").read_text()


def test_the_rows_are_of_the_inputs_of_the_list_and_say_refused():
    names = [(case.kind, case.name) for case in bad_inputs.cases()]
    known = bad_inputs.read(ROOT / "benchmarks/bad_inputs.csv")
    assert len(names) == len(set(names)) and set(known) <= set(names)
    assert len(known) >= 60 and {row["fate"] for row in known.values()} == {"refused"}


@pytest.mark.parametrize("name", ["lora.r: 0", "not YAML"])
def test_a_parameter_of_the_list_is_refused_by_the_check(name, folder):
    shutil.copy(ROOT / "sources.yaml", folder)
    shutil.copy(ROOT / "params.yaml", folder)
    for package in ("maple", "stages"):
        (folder / package).symlink_to(ROOT / package)
    (case,) = (case for case in bad_inputs.cases() if case.name == name)
    assert bad_inputs.trial(folder, case)[0] == "refused"
