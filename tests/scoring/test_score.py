"""stages.score: any model folder, tasks, languages and rows from the command line."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import toy
import upstream

import stages.score_own
from maple.config import environment, params

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("score")
    upstream.write(made / "sources" / "datasets", rows=8)
    toy.model("mistral", window=40).save_pretrained(made / "model")
    toy.tokeniser().save_pretrained(made / "model")
    return made


def score(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "stages.score",
        "--model",
        str(folder / "model"),
        "--sources",
        str(folder / "sources"),
        *words,
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_it_prints_a_row_per_language_with_n_interval_and_chance(folder):
    out = folder / "out"
    done = score(
        folder, "--tasks", "xcopa,xquad", "--languages", "et,ar", "--limit", "5", "--shots", "0", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    assert [row[:3] for row in rows if row[2] in ("accuracy", "f1")] == [
        ["xcopa", "et", "accuracy"],
        ["xquad", "ar", "f1"],
    ]
    assert all(row[7] == "5" for row in rows) and rows[0][8] == "0.500"
    found = json.loads((out / "record.json").read_text())
    assert (found["kind"], found["name"], found["evaluated_bits"]) == ("base", "model", 16)


@pytest.mark.parametrize("limit", ["0", "-2", "half"])
def test_a_limit_below_one_row_is_refused(folder, limit, tmp_path):
    done = score(folder, "--tasks", "xcopa", "--languages", "et", f"--limit={limit}", "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and f"'{limit}' is not a number of rows, 1 or more" in done.stderr


def test_an_adapter_without_a_record_is_scored_as_trained_on_16_bits_and_that_is_said(folder, tmp_path, capsys):
    made = tmp_path / "adapter"
    made.mkdir()
    (made / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    safetensors.torch.save_file({"a": torch.zeros(1)}, made / "adapter_model.safetensors")
    assert stages.score_own.subject_of(folder / "model", made, None).bits == 16
    assert f"{made} has no record.json that says its bits: taken as trained on 16 bits" in capsys.readouterr().err
    (made / "record.json").write_text('{"bits": 8, "model": "mistral-7b"}')
    subject = stages.score_own.subject_of(folder / "model", made, None)
    assert (subject.bits, subject.evaluated_bits, capsys.readouterr().err) == (8, 8, "")


def test_an_adapter_from_elsewhere_is_scored_with_its_note_or_refused_before_the_first_example(folder, tmp_path):
    import peft

    made, asked = tmp_path / "adapter", ["--tasks", "xcopa", "--languages", "et", "--limit", "2", "--shots", "0"]
    tuned = peft.get_peft_model(
        toy.model("mistral", window=40), peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    tuned.peft_config["default"].base_model_name_or_path = "someone/a-base"
    tuned.save_pretrained(made)
    done = score(folder, *asked, "--adapter", str(made), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    note = "which base is used is not known; the adapter names someone/a-base"
    assert f"note: {note}" in done.stderr
    assert json.loads((tmp_path / "out" / "record.json").read_text())["notes"] == [note]

    path = made / "adapter_model.safetensors"
    renamed = {
        key.replace("model.layers", "model.language_model.layers"): value
        for key, value in safetensors.torch.load_file(path).items()
    }
    safetensors.torch.save_file(renamed, path, {"format": "pt"})
    done = score(folder, *asked, "--adapter", str(made), "--out", str(tmp_path / "other"))
    assert done.returncode == 1 and "does not fit this base: none of its 4 keys does" in done.stderr
    assert not (tmp_path / "other").exists() and not list(tmp_path.glob("other.predictions/*"))


def test_python_looks_for_garbage_again_when_the_model_is_loaded(folder, tmp_path, monkeypatch):
    """Importing stages turns that down; on the smoke profile the same call asks for one thread."""
    settled = []
    monkeypatch.setattr(environment, "settle", lambda settings: settled.append(settings.profile))
    words = {
        "model": str(folder / "model"),
        "sources": str(folder / "sources"),
        "out": str(tmp_path / "out"),
        "tasks": "xcopa",
    }
    words |= {"adapter": None, "bits": None, "languages": "et", "limit": 2, "shots": 0}
    stages.score_own.main(params.load("smoke"), argparse.Namespace(**words))
    assert settled == ["smoke"]


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
