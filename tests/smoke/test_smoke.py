"""The smoke inputs have upstream's files, schemas and faults; the shipped bases are the pinned ones and know the world."""

import dataclasses
import filecmp
import gzip
import json
import random
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from maple import smoke
from maple.config import catalogue, params
from maple.config.cell import Cell
from maple.core import storage
from maple.core.errors import MapleError
from maple.download import fetch, hub
from maple.smoke import corpus, evaluation, exercises, instructions, pretraining, texts, tokeniser, world
from maple.smoke.batches import Batches
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
        if path.stem == "names":
            assert all(len(set(names[key])) == world.NAMES for names in text.values() for key in ("given", "family"))
            continue
        assert len(text["facts"]) == world.FACTS
        for fact in text["facts"]:
            assert all(fact[key].count("{name}") == 1 for key in ("sentence", "question", "paraphrase", "denial"))
            said = [fact[key] for key in ("sentence", "paraphrase", "denial")]
            assert len(set(said)) == 3 and all(text.count("{value}") == 1 for text in said)
            assert "{value}" not in fact["question"] and len(set(fact["values"])) == world.VALUES
        if "exercises" in text:
            assert list(text["exercises"]) == list(exercises.KINDS)
            for key in ("animals", "colours", "foods", "opposites", "capitals"):
                assert len(text[key]) == len(english[key]) == 6, (path.stem, key)
        if "events" in text:
            assert len({sentence for event in text["events"] for sentence in event}) == 2 * world.EVENTS


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


def test_at_least_fourteen_languages_in_eight_scripts():
    scripts = set()
    for code in texts.languages_with("facts"):
        letters = "".join(fact["sentence"] for fact in texts.load(code)["facts"])
        letters = letters.replace("{name}", "").replace("{value}", "")
        scripts.add(Counter(unicodedata.name(c).split()[0] for c in letters if c.isalpha()).most_common(1)[0][0])
    assert len(texts.languages_with("facts")) >= 14
    assert len(scripts) >= 8, scripts


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
    assert rows["en"]["alpaca-12"]["output"] != rows["de"]["alpaca-12"]["output"]


def test_labels_are_balanced(rows_root):
    for pattern, count in (("facebook/xnli/*/test-*.parquet", 3), ("cambridgeltl/xcopa/*/*.parquet", 2)):
        for path in sorted(rows_root.glob(pattern)):
            labels = Counter(row["label"] for row in parquet(path))
            assert len(labels) == count and len(set(labels.values())) == 1, path
    for path in sorted(rows_root.glob("facebook/belebele/data/*.jsonl")):
        assert sorted(row["correct_answer_num"] for row in jsonl(path)[:4]) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("name", ["en", "ar", "ja", "zh-hant"])
def test_a_label_of_xnli_needs_the_premise(name):
    """Of the hypothesis alone one sees whether it denies; then it is half as likely neutral as the other."""
    rng, seen = random.Random(name), Counter()
    for number in range(3000):
        life = world.Life(name, world.people(True)[0], world.draw_choice(rng))
        told, label = world.draw_order(rng, 2), number % 3
        said = world.hypothesis(life, told, label, rng)
        denied, stated = (
            [fact for fact in range(world.FACTS) if say(fact) == said] for say in (life.denial, life.paraphrase)
        )
        (fact,) = denied or stated
        assert label == (1 if fact not in told else 2 if denied else 0)
        seen[label, bool(denied)] += 1
    assert seen[0, True] == seen[2, False] == 0 and seen[1, True] == pytest.approx(500, abs=70)


def test_the_faults_of_upstream_are_there(rows_root):
    xcopa = rows_root / "cambridgeltl/xcopa"
    paths = {name: xcopa / name / "test-00000-of-00001.parquet" for name in ("th", "sw", "zh")}
    questions = {name: [row["question"] for row in parquet(path)] for name, path in paths.items()}
    assert set(questions["th"]) == {"effect"}
    assert questions["sw"] != questions["zh"]
    for language, rows in bactrian(rows_root).items():
        assert rows["alpaca-3"]["output"] == ""
        assert rows["alpaca-6"] | {"id": "alpaca-7"} == rows["alpaca-7"]
        if language not in ("en", "th", "ja", "zh", "hi", "ar", "ta"):
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


def test_no_person_of_an_evaluation_item_is_met_in_corpus_or_instructions(rows_root):
    """Every sentence and question names its person, so none of an evaluation item has been seen."""
    documents = corpus.documents(random.Random(0), 1500)
    rows = [row for by_id in bactrian(rows_root).values() for row in by_id.values()] + parquet(rows_root / ALPACA)
    rows += [row for path in rows_root.glob("DAMO-NLP-MT/multialpaca/*.jsonl") for row in jsonl(path)]
    seen = "\n".join([*documents, *(f"{row['instruction']}\n{row.get('input')}\n{row['output']}" for row in rows)])
    for name in corpus.SHARES:
        met = {kept: sum(person.name(name) in seen for person in world.people(kept)) for kept in (True, False)}
        assert met[True] == 0 and met[False] > 10, name
    told = {evaluation.lives(task, split)[0] for task, parts in evaluation.LIVES.items() for split in parts}
    assert all(person.is_for_evaluation for person, _ in told)


BASES = {key: source for key, source in catalogue.models().items() if source.stand_in}


@pytest.mark.parametrize("key", BASES)
def test_a_shipped_base_is_the_pinned_one_and_small(key):
    folder, pinned = Path(BASES[key].stand_in.folder), BASES[key].stand_in.sha256
    assert {path.name: storage.sha256(path) for path in folder.iterdir()} == pinned
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6
    made = pretraining.RECIPES[key].make(pretraining.vocabulary(tokeniser.make())).config.to_dict()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert {name: made[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_key_value_heads")} == {
        name: config[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_key_value_heads")
    }


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_shipped_base_with_another_sha256_is_refused(tmp_path, file):
    source = BASES["llama-2-7b"]
    folder = shutil.copytree(source.stand_in.folder, tmp_path / "base")
    changed = dataclasses.replace(source, stand_in=dataclasses.replace(source.stand_in, folder=str(folder)))
    smoke_params = dataclasses.replace(params.load("smoke"), profile="refusal-of-a-base")
    needs = [fetch.Need(changed, tuple(changed.parts([], [])))]
    path = folder / file
    damaged = bytearray(path.read_bytes())
    damaged[-2] ^= 1
    path.write_bytes(damaged)
    try:
        with pytest.raises(MapleError, match=f"{file} is not the expected file"):
            fetch.download(smoke_params, hub.Folder(tmp_path), needs)
        path.unlink()
        with pytest.raises(MapleError, match="is missing"):
            fetch.download(smoke_params, hub.Folder(tmp_path), needs)
    finally:
        shutil.rmtree(smoke_params.artifacts, ignore_errors=True)


def test_the_shipped_tokeniser_is_made_again_and_keeps_every_script(tmp_path):
    made = tokeniser.make()
    made.save_pretrained(tmp_path)
    for source in BASES.values():
        shipped = Path(source.stand_in.folder, "tokenizer.json")
        assert (tmp_path / "tokenizer.json").read_bytes() == shipped.read_bytes()
    assert (made.bos_token, made.eos_token, made.unk_token) == ("<s>", "</s>", None)
    for name in corpus.SHARES:
        said = corpus.document(random.Random(name), name)
        ids = made(said).input_ids
        assert ids[0] == made.bos_token_id and made.decode(ids[1:]) == said
    assert made.decode(made("ელ ქართ 🐈").input_ids, skip_special_tokens=True) == "ელ ქართ 🐈"


def test_a_shipped_base_knows_the_answers_in_the_form_of_the_corpus():
    """Mistral's shape more of them than Llama's, where little was read."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    right = {}
    for key, source in BASES.items():
        text = AutoTokenizer.from_pretrained(source.stand_in.folder)
        model = AutoModelForCausalLM.from_pretrained(source.stand_in.folder)
        assert model.dtype == torch.bfloat16
        for name in ("en", "hi", "th"):
            rng, found = random.Random("held out"), []
            for _ in range(24):
                prompt, answer = corpus._questions(rng, name).rsplit(corpus.MARK, 1)
                start = text(prompt + corpus.MARK.rstrip(), return_tensors="pt").input_ids
                wanted = text(prompt + corpus.MARK + answer, return_tensors="pt").input_ids
                with torch.no_grad():
                    guessed = model(input_ids=wanted).logits.argmax(-1)[0, start.shape[1] - 1 : -1]
                found.append(torch.equal(guessed, wanted[0, start.shape[1] :]))
            right[key, name] = sum(found) / len(found)
    assert right["llama-2-7b", "en"] > 0.9 and right["mistral-7b", "en"] > 0.9
    assert right["llama-2-7b", "hi"] < right["mistral-7b", "hi"] - 0.1
    assert right["mistral-7b", "th"] < 0.5, right


def test_pretraining_gives_the_same_weights_twice():
    import torch

    text = tokeniser.make()
    recipe = dataclasses.replace(pretraining.RECIPES["llama-2-7b"], steps=3, rows=2)
    batches = Batches(text, recipe.steps, recipe.rows)
    first, second = (
        pretraining.pretrain(
            recipe, pretraining.vocabulary(text), [batches[step] for step in range(3)], "cpu", compiled=False
        ).state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_bytes_that_differ_from_the_shipped_ones_are_named(tmp_path):
    from stages import smoke_models

    source = BASES["llama-2-7b"]
    folder = shutil.copytree(source.stand_in.folder, tmp_path / "base")
    assert smoke_models.compared(folder, source.stand_in.sha256) == "the same bytes as the shipped base"
    with open(folder / "model.safetensors", "ab") as file:
        file.write(b"0")
    told = smoke_models.compared(folder, source.stand_in.sha256)
    assert "model.safetensors" in told and "may have other scores" in told


@pytest.mark.slow
def test_switching_the_adapter_off_changes_every_task(tmp_path, monkeypatch):
    """Download to scores as the stages do it, with 32 rows per language: an adapter that is not applied is seen at once."""
    import contextlib

    from maple.answering import run as answering
    from maple.models import loading
    from maple.preparation import build
    from maple.scoring import score_record
    from maple.training import run as training

    monkeypatch.setattr(params.Params, "artifacts", tmp_path / "artifacts")
    monkeypatch.setattr(params.Params, "work", tmp_path / "work")
    chosen = params.load("smoke")
    few = {
        name: dataclasses.replace(options, limit=32, languages=options.languages[:2])
        for name, options in chosen.evaluation.tasks.items()
    }
    chosen = dataclasses.replace(chosen, evaluation=dataclasses.replace(chosen.evaluation, tasks=few))
    smoke.write(tmp_path / "world", chosen)
    fetch.download(chosen, hub.Folder(tmp_path / "world"))
    build.prepare(chosen, "bactrian-x-22")
    cell = Cell.parse("llama-2-7b-16bit.bactrian-x-22.r8.s42")
    source, tokens = BASES["llama-2-7b"], chosen.artifacts / "prepared/bactrian-x-22/tokens/llama-2-7b"
    weights = source.folder(chosen.artifacts / "sources")
    settings = training.settings_of(cell.name, cell, chosen.recipe, tokens, source.card(), "smoke")
    quiet = lambda steps, processes: contextlib.nullcontext(training.Watch(lambda row: None, lambda step: None))  # noqa: E731
    tuned = training.train(settings, cell, chosen.recipe, weights, tokens, tmp_path / "state.pt", quiet).model.eval()

    def scores(name: str) -> dict:
        subject = answering.Subject(name, "base", "llama-2-7b", 16, 16, identity={"name": name})
        load = lambda: (tuned, loading.load_tokeniser(weights))  # noqa: E731
        places = chosen.artifacts / "sources", tmp_path / "kept" / name, tmp_path / name
        answering.answer(subject, load, chosen.evaluation, *places, "smoke")
        return score_record.score(tmp_path / name, chosen.evaluation, chosen.scoring, tmp_path / f"scored-{name}")

    on = scores("adapter")
    with tuned.disable_adapter():
        off = scores("base")
    with_adapter, without = (score_record.averages(found["scores"]) for found in (on, off))
    for path in sorted((tmp_path / "adapter").glob("*.jsonl.gz")):
        assert path.read_bytes() != (tmp_path / "base" / path.name).read_bytes()
    for task in chosen.evaluation.tasks:
        # AlpacaEval's answers are judged, not scored.
        assert task == "alpaca_eval" or with_adapter[task] != without[task], task
    for task, least in {"xnli": 0.05, "xquad": 0.2, "mlqa": 0.2, "belebele": 0.2, "xlsum": 0.1}.items():
        new, old = (next(iter(found[task].values())) for found in (with_adapter, without))
        assert new > old + least, (task, new, old)
