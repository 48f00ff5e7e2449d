"""Side by side with lm-evaluation-harness: its own tasks and prompts on the same files, offline.

Per-option log-likelihoods within 1e-3 in fp32, accuracies exactly, generated strings to the letter. With
MAPLE_SOURCES=artifacts/<profile>/sources the XCOPA files of that folder are scored too, in full.
"""

import dataclasses
import os
from pathlib import Path

import outside
import pytest

lm_eval = outside.package("lm_eval")

import pyarrow.parquet
import torch
import toy
import upstream
import yaml
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from maple.answering import generate, loglikelihood
from maple.answering.run import Subject, answer
from maple.config import params
from maple.core import storage
from maple.scoring import score_record
from maple.tasks import base

HARNESS = Path(lm_eval.__file__).parent / "tasks"
ROWS = 12
TOKENISERS = {
    "bytes": toy.tokeniser(),
    "metaspace": toy.tokeniser("metaspace"),
    "no first token": toy.tokeniser(bos=False),
}
# The harness's task file -> ours: task, language, split, upstream's file.
TASKS = {
    "xnli/xnli_en": ("xnli", "en", "validation", "xnli/en/validation-00000-of-00001.parquet"),
    "xnli/xnli_ar": ("xnli", "ar", "validation", "xnli/ar/validation-00000-of-00001.parquet"),
    "xnli/xnli_th": ("xnli", "th", "validation", "xnli/th/validation-00000-of-00001.parquet"),
    "xcopa/default_et": ("xcopa", "et", "test", "xcopa/et/test-00000-of-00001.parquet"),
    "xcopa/default_th": ("xcopa", "th", "test", "xcopa/th/test-00000-of-00001.parquet"),
    "xcopa/default_zh": ("xcopa", "zh", "test", "xcopa/zh/test-00000-of-00001.parquet"),
    "belebele/belebele_eng_Latn": ("belebele", "en", "test", "belebele/data/eng_Latn.jsonl"),
}
# The same with two shots from the validation file beside it.
WITH_SHOTS = {
    "xnli/xnli_en": ("xnli", "en", "test", "xnli/en/test-00000-of-00001.parquet"),
    "xnli/xnli_ar": ("xnli", "ar", "test", "xnli/ar/test-00000-of-00001.parquet"),
    "xcopa/default_et": ("xcopa", "et", "test", "xcopa/et/test-00000-of-00001.parquet"),
    "xcopa/default_zh": ("xcopa", "zh", "test", "xcopa/zh/test-00000-of-00001.parquet"),
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    return upstream.write(tmp_path_factory.mktemp("sources") / "datasets", rows=ROWS)


def harness(model, tokeniser, batch_size: int = 5) -> HFLM:
    return HFLM(pretrained=model, tokenizer=tokeniser, batch_size=batch_size, softmax_dtype="float32")


def local_task(folder: Path, name: str, split: str, data: Path, shots: Path | None) -> str:
    """The harness's task on a local file instead of the Hub's; its shots are the first rows of another."""
    path = folder / f"{Path(name).name}.yaml"
    kind = "parquet" if data.suffix == ".parquet" else "json"
    files = {split: str(data)} | ({"shots": str(shots)} if shots else {})
    changes = {"dataset_path": kind, "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    changes |= {"training_split": None, "validation_split": None, "test_split": None, f"{split}_split": split}
    changes |= {"fewshot_split": "shots" if shots else None, "fewshot_config": {"sampler": "first_n"}}
    path.write_text(yaml.safe_dump({"include": str(HARNESS / f"{name}.yaml"), "task": f"local_{path.stem}"} | changes))
    return str(path)


def drawn_rows(data: Path, count: int, seed: int, folder: Path) -> Path:
    """A file that holds exactly the shots that we draw from the validation file beside `data`, in their order."""
    pool = pyarrow.parquet.read_table(data.with_name("validation-00000-of-00001.parquet")).to_pylist()
    return upstream.write_file(folder / "shots.parquet", base.draw(pool, count, seed))


@pytest.mark.parametrize("tokeniser", TOKENISERS)
@pytest.mark.parametrize("name", TASKS)
def test_its_own_tasks_give_the_same_log_likelihoods_and_accuracy(name, tokeniser, datasets, tmp_path):
    assert compare(name, *TASKS[name], TOKENISERS[tokeniser], datasets, tmp_path) == ROWS


@pytest.mark.parametrize("tokeniser", TOKENISERS)
@pytest.mark.parametrize("name", WITH_SHOTS)
def test_two_shots_give_the_same_log_likelihoods_and_accuracy(name, tokeniser, datasets, tmp_path):
    assert compare(name, *WITH_SHOTS[name], TOKENISERS[tokeniser], datasets, tmp_path, shots=2) == ROWS


@pytest.mark.skipif("MAPLE_SOURCES" not in os.environ, reason="MAPLE_SOURCES names no folder with real rows")
@pytest.mark.parametrize("language", ["et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh"])
def test_real_xcopa_gives_the_same_log_likelihoods_and_accuracy(language, tmp_path):
    datasets = Path(os.environ["MAPLE_SOURCES"]).absolute() / "datasets"
    data = f"xcopa/{language}/test-00000-of-00001.parquet"
    if not (datasets / data).exists():
        pytest.skip(f"{data} is not there")
    assert (
        compare(f"xcopa/default_{language}", "xcopa", language, "test", data, TOKENISERS["bytes"], datasets, tmp_path)
        == 500
    )


def compare(
    name: str, task: str, language: str, split: str, data: str, tokeniser, datasets: Path, folder: Path, shots: int = 0
) -> int:
    """Run the harness's task and ours on a file; returns the number of rows."""
    evaluated = params.parse(Path(__file__).parents[2] / "params.yaml").evaluation
    model = toy.model("mistral", context=1024)
    drawn = drawn_rows(datasets / data, shots, evaluated.seed, folder) if shots else None
    results = lm_eval.simple_evaluate(
        harness(model, tokeniser),
        tasks=[local_task(folder, name, split, datasets / data, drawn)],
        num_fewshot=shots,
        task_manager=TaskManager(include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    (samples,), (metrics,) = results["samples"].values(), results["results"].values()
    theirs = [
        [float(answer[0]) for answer in sample["filtered_resps"]]
        for sample in sorted(samples, key=lambda s: s["doc_id"])
    ]

    options = dataclasses.replace(
        evaluated.tasks[task], languages=[language], split=split, limit=None, shots=shots, prompt_set="harness"
    )
    evaluated = dataclasses.replace(evaluated, tasks={task: options})
    subject = Subject("toy", "base", "toy", 16, 16)
    answer(
        subject, lambda: (model, tokeniser), evaluated, datasets.parent, folder / "work", folder / "answers", "smoke"
    )
    found = score_record.score(
        folder / "answers", evaluated, params.Scoring({task: "none"}, [], "default"), folder / "scores"
    )
    examples = list(storage.read_jsonl_gz(folder / "answers" / f"{task}-{language}.jsonl.gz"))
    assert not any("shots_dropped" in row or "shortened" in row for row in examples)
    ours = [[option["logprob"] for option in row["options"]] for row in examples]
    assert max(abs(a - b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)) < 1e-3
    assert found["scores"][0]["value"] == metrics["acc,none"]
    return len(ours)


REQUESTS = [
    ("The answer is  ", "the river"),
    ("The r", "iver runs through"),
    ("", " the river runs"),
    ("", "<s>the river"),
    ("<s>The river", " runs"),
    ("Long text. " * 60, " the river"),
    ("النهر", " يجري"),
    ("नदी घा", "टी में"),
    ("问题：", "河流"),
]


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_boundaries_first_tokens_and_truncation_are_the_harness_s(tokeniser):
    model, tokeniser = toy.model("mistral", window=40, context=64), TOKENISERS[tokeniser]
    instances = [Instance("loglikelihood", {}, request, 0) for request in REQUESTS]
    theirs = harness(model, tokeniser, batch_size=1).loglikelihood(instances, disable_tqdm=True)
    ours = loglikelihood.loglikelihoods(model, tokeniser, [(context, [answer]) for context, answer in REQUESTS], 100)
    for (score,), (logprob, greedy) in zip(ours, theirs, strict=True):
        assert abs(score.logprob - logprob) < 1e-3 and score.greedy == greedy


@pytest.mark.parametrize("batch_size", [1, 4])
def test_generated_strings_are_the_harness_s(batch_size):
    model, tokeniser = toy.model(context=512), TOKENISERS["bytes"]
    prompts = [f"Passage: The river {'runs ' * (i % 3)}through the valley.\nQ: {i}?\nA:" for i in range(8)]
    instances = [
        Instance("generate_until", {}, (prompt, {"until": ["\n", "e"], "max_gen_toks": 24}), 0) for prompt in prompts
    ]
    with torch.inference_mode():
        theirs = harness(model, tokeniser, batch_size).generate_until(instances, disable_tqdm=True)
    assert generate.generate(model, tokeniser, prompts, 24, ["\n", "e"], 200) == theirs
