"""docs/EXTENDING.md to the letter, on a copy of this repository: a task, a model, a training set and a language of
one's own.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy
import yaml

from maple.config import params
from maple.parts import parts, query
from maple.results import claims

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/EXTENDING.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    """The page's blocks of a kind, without the indentation of the list that they stand in."""
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"(?m)^{indent}", "", text) for indent, text in found]


def block(kind: str, name: str, holding: str = "") -> str:
    (found,) = [text for text in blocks(kind) if text.startswith(f"{name}:") and holding in text]
    return found


def indented(text: str, by: int) -> str:
    return re.sub("(?m)^(?=.)", " " * by, text)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended")
    for name in ("maple", "stages", "profiles", "paper_tables/published", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "sources.yaml",
        "params.yaml",
        "dvc.yaml",
        "paper_tables/claims.yaml",
        "paper_tables/questions.yaml",
        "docs/DEVIATIONS.md",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    extend(folder)
    return folder


def extend(folder: Path) -> None:
    """What the page says, step by step; rows, and a model, as files of one's own."""
    (task,) = [text for text in blocks("python") if "class Parity" in text]
    (folder / "maple/tasks/parity.py").write_text(task)
    entry = folder / "maple/tasks/__init__.py"
    text = entry.read_text().replace(
        "from maple.tasks.xcopa", "from maple.tasks.parity import Parity\nfrom maple.tasks.xcopa"
    )
    entry.write_text(text.replace("Xlsum(), ", "Xlsum(), Parity(), ", 1))
    (prompt,) = blocks("toml")
    (folder / "maple/tasks/prompts/english/parity.toml").write_text(prompt)
    (language,) = blocks("csv")
    with open(folder / "maple/upstream/languages.csv", "a", encoding="utf-8") as file:
        file.write(language)

    model = yaml.safe_load(block("yaml", "llama-2-13b"))["llama-2-13b"]
    del model["hub_id"], model["revision"]
    model |= {"path": "data/toy", "gated": False}
    model["shape"] = {
        "hidden": 64,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "intermediate": 96,
        "vocabulary": toy.VOCABULARY,
    }
    sources = folder / "sources.yaml"
    head, datasets = sources.read_text().split("\ndatasets:\n", 1)
    head += "\n" + indented(yaml.safe_dump({"toy-13b": model}, sort_keys=False), 2)
    eo = block("yaml", "mine").replace("mine:", "mine-eo:", 1).replace("data/mine", "data/eo").replace("[en]", "[eo]")
    datasets = indented(block("yaml", "mine") + eo + block("yaml", "parity", "path:"), 2) + datasets
    sources.write_text(head + "\ndatasets:\n" + datasets)

    params = folder / "params.yaml"
    given = yaml.safe_load(params.read_text())
    given["evaluation"]["tasks"] = {"xnli": given["evaluation"]["tasks"]["xnli"] | {"languages": ["en"]}}
    given["evaluation"]["tasks"] |= yaml.safe_load(block("yaml", "parity", "split:"))
    given["scoring"]["normalisation"]["parity"] = "none"
    sets = {"mine": ("mine", ["en"]), "mine-eo": ("mine-eo", ["eo"])}
    given["datasets"] |= {
        name: {"source": source, "languages": codes, "translations_per_instruction": "all", "english_share": None}
        for name, (source, codes) in sets.items()
    }
    given |= {"model": "toy-13b", "dataset": "mine", "quantisation": {"bits": 16}}
    given["grid"] |= {"bases": ["toy-13b-16bit"], "datasets": ["mine"], "ranks": [8]}
    given["prepare"] |= {"rows": 24, "heldout_rows": 4}
    given["tables"]["accept_missing"] = True
    params.write_text(yaml.safe_dump(given, sort_keys=False))

    for name, content in (
        ("mine/rows.json", json.dumps([{"ask": f"Say {n}.", "say": f"It is {n}."} for n in range(40)])),
        ("eo/rows.json", json.dumps([{"ask": f"Diru {n}.", "say": f"Jen {n}."} for n in range(40)])),
        ("parity/test.jsonl", "".join(json.dumps({"number": n, "label": n % 2}) + "\n" for n in range(12))),
    ):
        (folder / "data" / name).parent.mkdir(parents=True)
        (folder / "data" / name).write_text(content)
    toy.model("llama", context=2048).save_pretrained(folder / "data/toy")
    toy.tokeniser().save_pretrained(folder / "data/toy")


def stage(folder: Path, name: str, *words: str) -> str:
    command = [sys.executable, "-m", f"stages.{name}", *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(folder)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(copy):
    stage(copy, "download")
    for name in ("mine", "mine-eo"):
        stage(copy, "prepare", "--dataset", name)
    cell = "toy-13b-16bit.mine.r8.s42"
    stage(copy, "train", "--name", cell)
    for name in (cell, "toy-13b-16bit"):
        stage(copy, "answer", "--name", name)
    for name in ("score", "collect", "tables", "figures", "compare", "report"):
        stage(copy, name)
    return copy


def test_a_new_task_stands_in_the_grid_the_report_and_the_plan(finished):
    with open(finished / "paper_tables/regenerated/smoke/tables/details/grid.csv", newline="") as file:
        grid = {(row["name"], row["column"]): row for row in csv.DictReader(file)}
    for name in ("toy-13b-16bit.mine.r8.s42", "toy-13b-16bit"):
        assert grid[name, "parity"]["n"] == "12" and 0 <= float(grid[name, "parity"]["value"]) <= 1
    assert (finished / "paper_tables/regenerated/smoke/tables/languages/parity.csv").is_file()
    report = (finished / "artifacts/smoke/report/report.html").read_text()
    assert "parity" in report and "Is 0 an even number?" in report
    # Six sentence pairs of XNLI and twelve numbers, of one cell, one base and the experiment.
    assert "evaluation: 2 models" in stage(finished, "plan")


def test_a_new_model_and_a_training_set_from_a_file_are_trained(finished):
    record = json.loads((finished / "artifacts/smoke/adapters/toy-13b-16bit.mine.r8.s42/record.json").read_text())
    assert (record["model"], record["dataset"], record["base"]["hub_id"]) == ("toy-13b", "mine", "data/toy")
    assert record["heldout_loss"]["after"] < record["heldout_loss"]["before"]
    sources = json.loads((finished / "artifacts/smoke/sources/record.json").read_text())
    assert len(sources["datasets"]["mine"]["commit"]) == 40


def test_a_new_language_has_a_training_set(finished):
    statistics = json.loads((finished / "artifacts/smoke/prepared/mine-eo/statistics.json").read_text())
    assert list(statistics["languages"]) == ["eo"] and statistics["rows"]["train"] == 24


def test_a_file_of_ones_own_that_differs_from_its_sha256_is_refused(copy):
    sources = copy / "sources.yaml"
    text = sources.read_text()
    sources.write_text(
        text.replace("    path: data/mine\n", "    path: data/mine\n    sha256: {rows.json: " + "ab" * 32 + "}\n")
    )
    command = [sys.executable, "-m", "stages.download"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(copy)})
    sources.write_text(text)
    assert done.returncode == 1 and "Mine: rows.json is not the expected file" in done.stderr


def test_a_claim_is_read_and_planned(tmp_path):
    text = claims.PATH.read_text(encoding="utf-8") + block("yaml", "- id")
    (tmp_path / "claims.yaml").write_text(text)
    claim = query.claim_named(claims.load(tmp_path / "claims.yaml"), "alpaca-keeps-english")
    exact, *cheaper = parts.of_claim(claim, params.load("paper"), 100)
    assert len(exact.params.cells) == 60 and cheaper[-1].params.evaluation.tasks.keys() == {"xnli", "belebele"}
