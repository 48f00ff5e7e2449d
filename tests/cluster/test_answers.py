"""All models on a base asked in one process: the same bytes as one by one, a failure stays its own, DVC is told."""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
import upstream

from maple.cluster import inputs, into_dvc, ledger, submission
from maple.cluster.resources import Work
from maple.config import catalogue, params
from maple.core.errors import MapleError
from maple.models import loading
from maple.training import adapter_folder
from stages import answer, answers

BASE = "mistral-7b-16bit"
CELLS = [f"{BASE}.alpaca.r8.s42", f"{BASE}.bactrian-x-22.r8.s42"]


@pytest.fixture
def smoke(tmp_path, monkeypatch):
    """The smoke profile in an empty place, with the stand-in, a few rows of two tasks and two adapters."""
    monkeypatch.setattr(params.Params, "artifacts", tmp_path / "artifacts")
    monkeypatch.setattr(params.Params, "work", tmp_path / "work")
    monkeypatch.setattr(inputs, "of", lambda given, verb, name: {"made of": name})
    found = params.load("smoke")
    asked = {
        name: dataclasses.replace(found.evaluation.tasks[name], languages=languages, limit=3, max_new_tokens=4)
        for name, languages in (("xcopa", ["th", "et"]), ("xquad", ["en"]))
    }
    found = dataclasses.replace(found, evaluation=dataclasses.replace(found.evaluation, tasks=asked))
    sources, source = found.artifacts / "sources", catalogue.models()["mistral-7b"]
    upstream.write(sources / "datasets", rows=4)
    shutil.copytree(source.stand_in.folder, source.folder(sources))
    files = {"model.safetensors": {"sha256": "0"}}
    (sources / "record.json").write_text(json.dumps({"models": {"mistral-7b": {"files": files}}, "datasets": {}}))
    for seed, name in enumerate(CELLS):
        torch.manual_seed(seed)
        base = loading.load_base(source.folder(sources), 16, found.recipe.quantisation, torch.device("cpu"))
        tuned = loading.make_trainable(base, found.recipe, 8)
        for parameter, p in tuned.named_parameters():
            if "lora_B" in parameter:
                torch.nn.init.normal_(p, std=0.05)
        folder = found.artifacts / "adapters" / name
        adapter_folder.save(tuned, folder, source)
        record = {"schema": "maple.adapter/1", "name": name, "model": "mistral-7b", "bits": 16, "rank": 8, "seed": 42}
        record |= {"dataset": name.split(".")[1], "heldout_loss": {}}
        record["recipe"] = {"quantisation": dataclasses.asdict(found.recipe.quantisation)}
        (folder / "record.json").write_text(json.dumps(record))
    return found


@pytest.fixture
def told(monkeypatch):
    """What DVC is told."""
    said = []
    monkeypatch.setattr(into_dvc, "dvc", lambda *words: said.append(words[-1]))
    return said


def files(params):
    folder = params.artifacts / "answers" / "grid"
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_models_asked_on_one_base_leave_the_bytes_that_the_answer_stage_leaves(smoke, told, monkeypatch):
    names = [BASE, *CELLS]
    for name in names:
        answer.main(smoke, argparse.Namespace(name=name))
    alone = files(smoke)
    shutil.rmtree(smoke.artifacts / "answers")
    shutil.rmtree(smoke.work)
    loaded, load_base = [], loading.load_base
    monkeypatch.setattr(loading, "load_base", lambda *given: loaded.append(given) or load_base(*given))
    monkeypatch.setattr(submission, "missing", lambda given, wanted: [Work(name, ("answer",)) for name in names])
    assert answers.make(smoke, names) == [] and len(loaded) == 1
    assert files(smoke) == alone and len({alone[f"{name}/xcopa-th.jsonl.gz"] for name in names}) == 3
    assert told == [
        f"dvc.yaml:answer_base@{BASE}",
        *(f"dvc.yaml:answer@{BASE}-{n}-8-42" for n in ("alpaca", "bactrian-x-22")),
    ]
    assert all(ledger.stamped(smoke, "answer", name) == {"made of": name} for name in names)


def test_a_failure_stays_its_own_and_what_is_not_trained_is_named(smoke, told, monkeypatch):
    (smoke.artifacts / "adapters" / CELLS[0] / "adapter_model.safetensors").write_bytes(b"cut")
    works = [Work(CELLS[0], ("answer",)), Work(CELLS[1], ("answer",)), Work("other", ("train", "answer"))]
    monkeypatch.setattr(submission, "missing", lambda given, wanted: works)
    with pytest.raises(MapleError, match=f"1 of 2 models failed: {CELLS[0]}"):
        answers.make(smoke, [])
    assert told == [f"dvc.yaml:answer@{BASE}-bactrian-x-22-8-42"]
    assert ledger.read(smoke, CELLS[0])[0].state == "failed" and ledger.read(smoke, CELLS[1])[0].state == "done"
    works[:2] = []
    assert answers.make(smoke, []) == ["other"]


def test_only_one_base_s_models_are_asked_and_an_unknown_base_is_refused(monkeypatch, capsys):
    smoke, asked = params.load("smoke"), []
    monkeypatch.setattr(answers, "make", lambda given, names: asked.extend(names) or names[:1])
    answers.main(smoke, argparse.Namespace(base=BASE))
    assert BASE in asked and len(asked) == 1 + sum(cell.base.name == BASE for cell in smoke.cells)
    assert (
        all(name.startswith(BASE) for name in asked) and f"not trained, so not asked: {BASE}" in capsys.readouterr().out
    )
    with pytest.raises(MapleError, match="'mistral-7b-2bit' is no base of the profile smoke") as error:
        answers.main(smoke, argparse.Namespace(base="mistral-7b-2bit"))
    assert BASE in error.value.why and not Path("work", "mistral-7b-2bit").exists()
