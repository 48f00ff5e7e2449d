"""stages.score: any model folder, tasks, languages and rows from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import toy
import upstream

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("score")
    upstream.write(made / "sources" / "datasets", rows=8)
    toy.model("mistral", window=40).save_pretrained(made / "model")
    toy.tokeniser().save_pretrained(made / "model")
    return made


def score(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "stages.score", "--model", str(folder / "model"), "--sources", str(folder / "sources"), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_it_prints_a_row_per_language_with_n_interval_and_chance(folder):
    out = folder / "out"
    done = score(folder, "--tasks", "xcopa,xquad", "--languages", "et,ar", "--limit", "5", "--shots", "0", "--out", str(out))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    assert [row[:3] for row in rows if row[2] in ("accuracy", "f1")] == [["xcopa", "et", "accuracy"], ["xquad", "ar", "f1"]]
    assert all(row[7] == "5" for row in rows) and rows[0][8] == "0.500"
    found = json.loads((out / "record.json").read_text())
    assert (found["kind"], found["name"], found["evaluated_bits"]) == ("base", "model", 16)


@pytest.mark.parametrize(
    "words, says",
    [
        (["--tasks", "xcop"], "did you mean 'xcopa'?"),
        (["--tasks", "xcopa", "--languages", "de"], "choose among"),
        (["--tasks", "xcopa", "--languages", "et", "--adapter", "nowhere"], "nowhere is no folder"),
    ],
)
def test_a_wrong_word_is_an_error_that_says_what_is_right(folder, words, says, tmp_path):
    done = score(folder, *words, "--out", str(tmp_path / "out"))
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr


def test_a_folder_with_something_else_is_not_replaced(folder, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    done = score(folder, "--tasks", "xcopa", "--languages", "et", "--out", str(tmp_path))
    assert done.returncode == 1 and "holds something else" in done.stderr and (tmp_path / "letter.txt").exists()
