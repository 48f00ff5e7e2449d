"""Stored answers in other tools' formats, read by those tools; an adapter loaded with PEFT as docs/RELEASE.md says."""

import dataclasses
import json
import re
from pathlib import Path

import pandas
import pydantic
import pytest
import tiny
import torch
from lm_eval import result_schema, utils

from maple.config import params
from maple.core import storage
from maple.core.errors import MapleError
from maple.exchange import harness, scored, tidy

ROOT = Path(__file__).parents[2]
XNLI = [
    {"id": "7", "prompt": "a?", "reference": 1, "options": [
        {"text": " yes", "logprob": -1.5, "greedy": True, "tokens": 1, "bytes": 4},
        {"text": " no", "logprob": -2.5, "greedy": False, "tokens": 1, "bytes": 3}]},
    {"id": "9", "prompt": "b?", "reference": 0, "options": [
        {"text": " yes", "logprob": -0.5, "greedy": True, "tokens": 1, "bytes": 4},
        {"text": " no", "logprob": -3.5, "greedy": False, "tokens": 1, "bytes": 3}]},
]  # fmt: skip
XQUAD = [{"id": "q", "prompt": "ماذا؟", "output": " كتاب\n", "reference": ["كتاب", "الكتاب"]}]
SHEETS = [
    {"task": "xnli", "language": "ar", "n": 2, "shots": "0", "scoring": "loglikelihood", "split": "test", "prompt": "english/xnli@1", "source": "xnli@c"},
    {"task": "xquad", "language": "zh-hant", "n": 1, "shots": "4 en", "scoring": "generation", "split": "validation", "prompt": "english/xquad@1", "source": "xquad@c"},
]  # fmt: skip
SCORES = {
    "xnli-ar": [
        {"id": "7", "prediction": 0, "scores": {"accuracy": 0.0}},
        {"id": "9", "prediction": 0, "scores": {"accuracy": 1.0}},
    ],
    "xquad-zh-hant": [{"id": "q", "prediction": "كتاب", "scores": {"f1": 1.0, "em": 1.0}}],
}


@pytest.fixture
def model(tmp_path) -> scored.Scored:
    folders = tmp_path / "answers", tmp_path / "scores"
    for name, rows in (("xnli-ar", XNLI), ("xquad-zh-hant", XQUAD)):
        storage.write_jsonl_gz(folders[0] / f"{name}.jsonl.gz", rows)
        storage.write_jsonl_gz(folders[1] / f"{name}.jsonl.gz", SCORES[name])
    record = {"name": "m-4bit.alpaca.r8.s42", "kind": "cell", "model": "m", "bits": 4, "evaluated_bits": 4, "dataset": "alpaca", "rank": 8,
              "seed": 42, "sheets": SHEETS, "sources": {"xnli": {"hub_id": "facebook/xnli"}}, "versions": {"transformers": "5"}}  # fmt: skip
    return scored.Scored(record["name"], record, {}, folders, "2026-01-31T12-00-00")


@pytest.fixture
def written(model, tmp_path) -> list[str]:
    list(harness.write(params.load("smoke"), [model], tmp_path / "out"))
    return [str(path) for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_the_harness_finds_its_files_and_reads_task_and_time_from_their_names(written):
    (results,), samples = utils.get_results_filenames(written), utils.get_sample_results_filenames(written)
    names = {utils.get_file_task_name(Path(path).name) for path in samples}
    assert names == {"maple_xnli_ar", "maple_xquad_zh_hant"} and len(samples) == 2
    assert {utils.get_file_datetime(path) for path in samples} == {"2026-01-31T12-00-00"}
    assert utils.get_latest_filename([results]) == results


def test_the_results_have_the_harnesses_schema_and_its_table_shows_them(written):
    found = json.loads(Path(utils.get_results_filenames(written)[0]).read_text())
    pydantic.TypeAdapter(result_schema.EvalResults).validate_python(found)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in utils.make_table(found).splitlines()]
    # Two scores, 0 and 1: the standard error of their mean is half.
    shown = next(line for line in lines if line[0] == "maple_xnli_ar")
    assert shown[1:6] == ["1", "none", "0", "acc", "↑"] and float(shown[6]) == float(shown[8]) == 0.5
    assert [line[4] for line in lines if line[0] == "maple_xquad_zh_hant" or line[0] == ""] == ["exact_match", "f1"]
    assert found["n-shot"]["maple_xquad_zh_hant"] == 4 and found["config"]["model_args"]["load_in_4bit"]


def test_the_samples_have_the_harnesses_schema_and_load_as_a_data_set(written, tmp_path):
    import datasets

    for path in utils.get_sample_results_filenames(written):
        for line in Path(path).read_text().splitlines():
            pydantic.TypeAdapter(result_schema.SampleResult).validate_python(json.loads(line))
    path = next(path for path in written if "samples_maple_xnli" in path)
    rows = datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["doc_id"][:] == [0, 1] and rows["acc"][:] == [0.0, 1.0] and rows["target"][:] == ["1", "0"]
    assert rows[0]["arguments"]["gen_args_1"] == {"arg_0": "a?", "arg_1": " no"}
    assert rows[0]["filtered_resps"] == [["-1.5", "True"], ["-2.5", "False"]]


def test_one_row_per_example_and_metric_the_same_in_csv_and_parquet(model, tmp_path):
    tidy.write_csv([model], tmp_path / "x.csv")
    tidy.write_parquet([model], tmp_path / "x.parquet")
    frame = pandas.read_parquet(tmp_path / "x.parquet")
    assert frame.groupby(["task", "metric"]).score.mean().to_dict() == {
        ("xnli", "accuracy"): 0.5,
        ("xquad", "em"): 1.0,
        ("xquad", "f1"): 1.0,
    }
    assert frame.reference.tolist() == ["1", "0", "كتاب | الكتاب", "كتاب | الكتاب"] and set(frame["rank"]) == {8}
    pandas.testing.assert_frame_equal(pandas.read_csv(tmp_path / "x.csv"), frame, check_dtype=False)


def test_scores_of_other_answers_are_refused(model):
    storage.write_jsonl_gz(model.folders[1] / "xnli-ar.jsonl.gz", SCORES["xnli-ar"][::-1])
    with pytest.raises(MapleError, match="not of these answers"):
        list(model.rows(SHEETS[0]))


def test_scores_of_fewer_answers_are_refused(model):
    storage.write_jsonl_gz(model.folders[1] / "xnli-ar.jsonl.gz", SCORES["xnli-ar"][:1])
    with pytest.raises(ValueError, match="shorter"):
        list(model.rows(SHEETS[0]))


def test_an_adapter_loads_with_peft_as_the_page_says(tmp_path, capsys):
    from maple.config import catalogue
    from maple.models import loading
    from maple.training import adapter_folder

    tiny.save_model(tmp_path / "base")
    recipe = params.load("smoke").recipe
    tuned = loading.make_trainable(
        loading.load_base(tmp_path / "base", 16, recipe.quantisation, torch.device("cpu")), recipe, 8
    )
    for name, matrix in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(matrix, std=0.1)
    (tmp_path / "adapter").mkdir()
    adapter_folder.save(tuned, tmp_path / "adapter", catalogue.models()["mistral-7b"])
    page = (ROOT / "docs/RELEASE.md").read_text()
    block = next(text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "PeftModel" in text)
    lines = [line for line in block.splitlines() if line]
    assert len(lines) == 5
    code = re.sub(r'"sources/[^"]*"', repr(str(tmp_path / "base")), "\n".join(lines))
    code = re.sub(r'"adapters/[^"]*"', repr(str(tmp_path / "adapter")), code)
    # The tiny base has no tokeniser beside it.
    made: dict = {}
    exec("\n".join(code.splitlines()[:4]), made)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        ours, theirs = tuned.eval()(ids).logits, made["model"].eval()(ids).logits
        alone = made["model"].get_base_model()
        with made["model"].disable_adapter():
            bare = alone(ids).logits
    assert torch.allclose(ours.float(), theirs.float(), atol=1e-2) and not torch.allclose(
        bare.float(), theirs.float(), atol=1e-1
    )


def test_what_a_profile_exports_needs_answers_and_scores(tmp_path, monkeypatch):
    given = dataclasses.replace(params.load("smoke"), profile="nothing-here")
    with pytest.raises(MapleError, match="nothing of the nothing-here profile is answered"):
        scored.load(given)
