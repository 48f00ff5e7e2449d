"""The smoke inputs have upstream's files, schemas and faults, and the tiny models have learnt something."""

import dataclasses
import filecmp
import gzip
import json
import math
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from maple import smoke
from maple.config import params
from maple.core.errors import MapleError
from maple.smoke import evaluation, instructions, texts
from maple.upstream import languages

TEXT = pa.string()
QA_TYPE = {"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())}
ALPACA = "tatsu-lab/alpaca/data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"


@pytest.fixture(scope="session")
def rows_root(tmp_path_factory) -> Path:
    """All rows, without the models."""
    root = tmp_path_factory.mktemp("smoke")
    evaluation.write(root)
    instructions.write(root)
    return root / "datasets"


@pytest.fixture(scope="session")
def models_root(tmp_path_factory) -> Path:
    from maple.smoke import models

    root = tmp_path_factory.mktemp("smoke-models")
    models.write(root)
    return root / "models"


def parquet(path: Path) -> list[dict]:
    return pa.parquet.read_table(path).to_pylist()


def jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def bactrian(root: Path) -> dict[str, dict[str, dict]]:
    """Language -> id -> row."""
    folder = root / "MBZUAI/Bactrian-X/data"
    return {
        path.name.split(".")[0]: {row["id"]: row for row in json.loads(gzip.decompress(path.read_bytes()))}
        for path in sorted(folder.glob("*.json.gz"))
    }


@pytest.mark.parametrize(
    "pattern, columns",
    [
        (ALPACA, {"instruction": TEXT, "input": TEXT, "output": TEXT, "text": TEXT}),
        ("facebook/xnli/*/*-00000-of-00001.parquet", {"premise": TEXT, "hypothesis": TEXT, "label": pa.int64()}),
        (
            "cambridgeltl/xcopa/*/*-00000-of-00001.parquet",
            {"premise": TEXT, "choice1": TEXT, "choice2": TEXT, "question": TEXT}
            | {"label": pa.int32(), "idx": pa.int32(), "changed": pa.bool_()},
        ),
        (
            "google/xquad/xquad.*/validation-*.parquet",
            {"id": TEXT, "context": TEXT, "question": TEXT, "answers": QA_TYPE},
        ),
        (
            "google/xtreme/MLQA.*/*.parquet",
            {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": QA_TYPE},
        ),
        ("csebuetnlp/xlsum/*/*/0000.parquet", {"id": TEXT, "url": TEXT, "title": TEXT, "summary": TEXT, "text": TEXT}),
    ],
)
def test_parquet_files_have_upstreams_columns_and_types(rows_root, pattern, columns):
    paths = sorted(rows_root.glob(pattern))
    assert paths
    for path in paths:
        schema = pa.parquet.read_schema(path)
        found = {field.name: field.type for field in schema}
        if "answers" in found:
            found["answers"] = {field.name: field.type for field in found["answers"].fields}
        assert found == columns, path


def test_json_files_have_upstreams_fields(rows_root):
    for path in sorted(rows_root.glob("facebook/belebele/data/*.jsonl")):
        for row in jsonl(path):
            answers = [f"mc_answer{i}" for i in range(1, 5)]
            fields = ["link", "question_number", "flores_passage", "question", *answers]
            assert list(row) == fields + ["correct_answer_num", "dialect", "ds"]
            assert row["correct_answer_num"] in ("1", "2", "3", "4") and isinstance(row["question_number"], int)
            assert len({row[name] for name in answers}) == 4
            assert row[f"mc_answer{row['correct_answer_num']}"] in row["flores_passage"]
            assert row["dialect"] == path.stem
    for rows in bactrian(rows_root).values():
        assert all(list(row) == ["instruction", "input", "id", "output"] for row in rows.values())
        assert all(isinstance(value, str) for row in rows.values() for value in row.values())
    references = {}
    for name in ("alpaca_eval", "alpaca_eval_gpt4_baseline"):
        references[name] = json.loads((rows_root / f"tatsu-lab/alpaca_eval/{name}.json").read_text(encoding="utf-8"))
        assert all(list(row) == ["instruction", "output", "generator", "dataset"] for row in references[name])
    first, second = references.values()
    assert [row["instruction"] for row in first] == [row["instruction"] for row in second]
    assert {row["generator"] for row in first} == {"text_davinci_003"}
    assert {row["generator"] for row in second} == {"gpt4_1106_preview"}


def test_every_language_file_is_complete_and_parallel():
    english = texts.load("en")
    for path in sorted(texts.FOLDER.glob("*.yaml")):
        text = texts.load(path.stem)
        if path.stem == "alpaca_eval":
            continue
        for fact, original in zip(text["story"]["facts"], english["story"]["facts"], strict=True):
            assert fact["sentence"].count("{}") == fact["paraphrase"].count("{}") == 1
            assert len(set(fact["values"])) == len(original["values"]) == 4
        if "exercises" in text:
            assert list(text["exercises"]) == list(instructions.EXERCISES)
            for key in ("animals", "colours", "foods", "numbers", "opposites", "capitals"):
                assert len(text[key]) == len(english[key]), (path.stem, key)
        if "events" in text:
            assert len({sentence for event in text["events"] for sentence in event}) == 18


def test_every_language_and_task_of_the_smoke_profile_has_its_files(rows_root):
    from maple import tasks

    folders = {name: folder for name, (folder, _) in evaluation._WRITERS.items()}
    folders |= {"xcopa": "cambridgeltl/xcopa", "alpaca_eval": "tatsu-lab/alpaca_eval"}
    for name, options in params.load("smoke").evaluation.tasks.items():
        task = tasks.get(name)
        for language in options.languages:
            assert len(task.examples(rows_root / folders[name], language, options.split)) >= options.limit
            source, split = task.shots_from.get(options.split, (None, None))
            if source and language in languages.of_task(source):
                assert tasks.get(source).examples(rows_root / folders[source], language, split)


def test_at_least_eight_languages_in_six_scripts():
    scripts = set()
    for code in texts.languages_with("story"):
        letters = "".join(texts.load(code)["plain"])
        scripts.add(Counter(unicodedata.name(c).split()[0] for c in letters if c.isalpha()).most_common(1)[0][0])
    assert len(texts.languages_with("story")) >= 8
    assert len(scripts) >= 6, scripts


@pytest.mark.parametrize("pattern", ["google/xquad/*/*.parquet", "google/xtreme/*/*.parquet"])
def test_the_answer_stands_where_answer_start_says(rows_root, pattern):
    for path in sorted(rows_root.glob(pattern)):
        for row in parquet(path):
            for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
                assert row["context"][start : start + len(text)] == text, path


def test_rows_are_parallel_across_languages_where_upstream_is(rows_root):
    def same(pattern: str, read, key):
        found = {tuple(key(row) for row in read(path)) for path in sorted(rows_root.glob(pattern))}
        assert len(found) == 1, pattern

    same("facebook/xnli/*/test-*.parquet", parquet, lambda row: row["label"])
    same("cambridgeltl/xcopa/*/test-*.parquet", parquet, lambda row: (row["idx"], row["label"]))
    same("google/xquad/*/*.parquet", parquet, lambda row: row["id"])
    same("google/xtreme/*/test-*.parquet", parquet, lambda row: row["id"])
    same("facebook/belebele/data/*.jsonl", jsonl, lambda row: (row["link"], row["question_number"]))
    rows = bactrian(rows_root)
    assert len({frozenset(by_id) for by_id in rows.values()}) == 1
    assert {id.split("-")[0] for id in rows["en"]} == {"alpaca", "dolly"}
    # By id, never by position.
    assert list(rows["en"]) != list(rows["de"])
    numbers = {tuple(rows[language]["alpaca-14"][key] for key in ("input", "output")) for language in ("en", "de")}
    assert len(numbers) == 2


def test_labels_are_balanced(rows_root):
    for pattern, count in (("facebook/xnli/*/test-*.parquet", 3), ("cambridgeltl/xcopa/*/*.parquet", 2)):
        for path in sorted(rows_root.glob(pattern)):
            labels = Counter(row["label"] for row in parquet(path))
            assert len(labels) == count and len(set(labels.values())) == 1, path
    for path in sorted(rows_root.glob("facebook/belebele/data/*.jsonl")):
        assert sorted(row["correct_answer_num"] for row in jsonl(path)[:4]) == ["1", "2", "3", "4"]


def test_the_faults_of_upstream_are_there(rows_root):
    xcopa = rows_root / "cambridgeltl/xcopa"
    paths = {name: xcopa / name / "test-00000-of-00001.parquet" for name in ("th", "sw", "zh")}
    questions = {name: [row["question"] for row in parquet(path)] for name, path in paths.items()}
    assert set(questions["th"]) == {"effect"}
    assert questions["sw"] != questions["zh"]
    for language, rows in bactrian(rows_root).items():
        assert rows["alpaca-3"]["output"] == ""
        assert rows["alpaca-6"] | {"id": "alpaca-7"} == rows["alpaca-7"]
        if language not in ("en", "th", "ja", "zh", "hi", "ar"):
            assert rows["alpaca-8"] != rows["alpaca-9"] | {"id": "alpaca-8"}
        assert rows["alpaca-5"]["instruction"].isascii()
    for path in sorted(rows_root.glob("DAMO-NLP-MT/multialpaca/*.jsonl")):
        rows = jsonl(path)
        assert any(row.get("input", "") is None for row in rows) and any("input" not in row for row in rows)
        assert len({json.dumps(row) for row in rows}) < len(rows)
        assert any(row["output"] == "" for row in rows) and all("id" not in row for row in rows)


def test_two_runs_write_the_same_bytes(rows_root, tmp_path):
    evaluation.write(tmp_path)
    instructions.write(tmp_path)
    names = [str(path.relative_to(rows_root)) for path in sorted(rows_root.rglob("*")) if path.is_file()]
    assert len(names) == sum(path.is_file() for path in tmp_path.rglob("*"))
    assert filecmp.cmpfiles(rows_root, tmp_path / "datasets", names, shallow=False) == (names, [], [])


def test_a_language_without_texts_is_named():
    chosen = params.load("smoke")
    smoke.check_languages(chosen)
    xnli = dataclasses.replace(chosen.evaluation.tasks["xnli"], languages=["en", "fr"])
    tasks = chosen.evaluation.tasks | {"xnli": xnli}
    chosen = dataclasses.replace(chosen, evaluation=dataclasses.replace(chosen.evaluation, tasks=tasks))
    with pytest.raises(MapleError, match="no xnli rows in 'fr'"):
        smoke.check_languages(chosen)


def test_the_corpus_holds_no_instruction_and_no_evaluation_sentence():
    from maple.smoke import corpus

    everything = "\n".join(corpus.documents(400))
    for code in texts.languages_with("story"):
        text = texts.load(code)
        assert not any(instruction in everything for instruction in text.get("exercises", {}).values())
        sentences = [fact["sentence"].format(value) for fact in text["story"]["facts"] for value in fact["values"]]
        assert not any(sentence in everything for sentence in sentences)


@pytest.mark.parametrize("hub_id", ["meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.1"])
def test_a_tiny_model_is_well_below_the_loss_of_guessing(models_root, hub_id):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from maple.smoke import corpus, models

    tokeniser = AutoTokenizer.from_pretrained(models_root / hub_id)
    model = AutoModelForCausalLM.from_pretrained(models_root / hub_id)
    assert model.dtype == torch.bfloat16
    assert model.get_input_embeddings().weight is not model.get_output_embeddings().weight
    held_out = models.token_rows(tokeniser, corpus.documents(60, seed=1))
    with torch.no_grad():
        loss = model(input_ids=held_out, labels=held_out).loss.item()
    assert loss < 0.6 * math.log(len(tokeniser))


def test_the_tokeniser_keeps_every_script(models_root):
    from transformers import AutoTokenizer

    tokeniser = AutoTokenizer.from_pretrained(models_root / "mistralai/Mistral-7B-v0.1")
    assert (tokeniser.bos_token, tokeniser.eos_token, tokeniser.unk_token) == ("<s>", "</s>", None)
    for code in texts.languages_with("story"):
        text = texts.load(code)["plain"][0]
        ids = tokeniser(text).input_ids
        assert ids[0] == tokeniser.bos_token_id and tokeniser.decode(ids[1:]) == text
    assert tokeniser.decode(tokeniser("ελ ქართ 🐈").input_ids, skip_special_tokens=True) == "ελ ქართ 🐈"


def test_models_are_made_alike_whatever_the_number_of_threads(models_root):
    """The first steps already show a difference, if there is one."""
    import torch

    from maple.smoke import models

    tokeniser, before = models.make_tokeniser(), torch.get_num_threads()
    found = []
    for threads in (1, 2):
        model = models.make_models()["mistralai/Mistral-7B-v0.1"]
        torch.set_num_threads(threads)
        models.pretrain(model, tokeniser, steps=2)
        assert torch.get_num_threads() == threads
        found.append(model.state_dict())
    torch.set_num_threads(before)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    written = (models_root / "mistralai/Mistral-7B-v0.1/tokenizer.json").read_text(encoding="utf-8")
    assert tokeniser.backend_tokenizer.to_str(pretty=True).strip() == written.strip()
