"""Answers and scores as lm-evaluation-harness writes its own: results_*.json, and samples_*.jsonl per task and language.

    OUT/<model>/results_<time>.json
    OUT/<model>/samples_maple_xnli_ar_<time>.jsonl

Tasks are called `maple_<task>_<language>`: prompts, limits and extraction are this project's, and a number under the
harness's own name would be taken for one of its own. Its schema: lm_eval/result_schema.py of release 0.4.13.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maple.config.params import Params
from maple.core import storage
from maple.exchange.scored import Scored

# Where a metric of ours is one of the harness's, its name there.
NAMES = {"accuracy": "acc", "em": "exact_match"}


def write(params: Params, models: list[Scored], out: Path) -> Iterator[Path]:
    """One folder per model, written whole or not at all."""
    for model in models:
        with storage.folder(out / re.sub(r'["<>:/|\\?*\[\]]+', "__", model.name)) as folder:
            for name, lines in samples(model):
                text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
                storage.write_text(folder / f"samples_{name}_{model.time}.jsonl", text)
            storage.write_json(folder / f"results_{model.time}.json", results(params, model))
        yield out / model.name


def results(params: Params, model: Scored) -> dict[str, Any]:
    """The harness's EvalResults: metrics with their standard errors, shots, sizes and what the run was made with."""
    record = model.answers
    found: dict[str, Any] = {"results": {}, "group_subtasks": {}, "configs": {}, "versions": {}, "n-shot": {}}
    found |= {"higher_is_better": {}, "n-samples": {}}
    hashes = {}
    for sheet in record["sheets"]:
        name = task_name(sheet)
        rows = list(model.rows(sheet))
        metrics = sorted({metric for row in rows for metric in row["scores"]})
        values = {metric: [row["scores"][metric] for row in rows if metric in row["scores"]] for metric in metrics}
        found["results"][name] = {"name": name, "alias": name, "sample_len": len(rows)} | {
            key: value for metric in metrics for key, value in _metric(metric, values[metric]).items()
        }
        found["group_subtasks"][name] = []
        found["versions"][name] = 1.0
        found["n-shot"][name] = int(re.match(r"\d+", str(sheet["shots"]))[0])
        found["higher_is_better"][name] = {NAMES.get(metric, metric): True for metric in metrics}
        found["n-samples"][name] = {"original": sheet["n"], "effective": len(rows)}
        scored = sheet["scoring"] == "loglikelihood"
        found["configs"][name] = {
            "task": name,
            "dataset_path": record["sources"].get(_source(sheet), {}).get("hub_id", _source(sheet)),
            "test_split": sheet["split"],
            "output_type": "multiple_choice" if scored else "generate_until",
            "description": f"MAPLE's {sheet['prompt']}",
        }
        hashes[name] = _hash(
            "".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in map(_sample, rows, range(len(rows))))
        )
    quantised = {} if record["bits"] == 16 else {f"load_in_{record['bits']}bit": True}
    seed = params.evaluation.seed
    return found | {
        "config": {
            "model": "hf",
            "model_args": {
                "pretrained": record["model"],
                **({"peft": record["name"]} if record["kind"] != "base" else {}),
                **quantised,
            },
            "batch_size": None,
            "batch_sizes": [],
            "limit": None,
            "bootstrap_iters": 0,
            "gen_kwargs": {},
            "random_seed": seed,
            "numpy_seed": seed,
            "torch_seed": seed,
            "fewshot_seed": seed,
        },
        "git_hash": "",
        "date": 0.0,
        "transformers_version": record["versions"]["transformers"],
        "model_source": "maple-repro",
        "model_name": record["name"],
        "model_name_sanitized": record["name"],
        "task_hashes": hashes,
    }


def samples(model: Scored) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(task name, its samples) of every task and language."""
    for sheet in model.answers["sheets"]:
        yield task_name(sheet), [_sample(row, place) for place, row in enumerate(model.rows(sheet))]


def task_name(sheet: dict[str, Any]) -> str:
    return f"maple_{sheet['task']}_{sheet['language'].replace('-', '_')}"


def _source(sheet: dict[str, Any]) -> str:
    return sheet["source"].split("@")[0]


def _metric(metric: str, values: list[float]) -> dict[str, float]:
    """The mean and the standard error of the mean, as the harness takes it: from the sample's own deviation."""
    mean = math.fsum(values) / len(values)
    spread = (
        math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)) if len(values) > 1 else 0.0
    )
    name = NAMES.get(metric, metric)
    return {f"{name},none": mean, f"{name}_stderr,none": spread / math.sqrt(len(values))}


def _sample(row: dict[str, Any], place: int) -> dict[str, Any]:
    """The harness's SampleResult: a request per option, or one whose answer was written."""
    if "options" in row:
        arguments = {
            f"gen_args_{number}": {"arg_0": row["prompt"], "arg_1": option["text"]}
            for number, option in enumerate(row["options"])
        }
        answered = [[str(option["logprob"]), str(option["greedy"])] for option in row["options"]]
        resps: list[Any] = [[answer] for answer in answered]
    else:
        arguments = {"gen_args_0": {"arg_0": row["prompt"], "arg_1": {}}}
        answered, resps = [row["prediction"]], [[row["output"]]]
    document = {"id": row["id"], "reference": row["reference"]}
    target = str(row["reference"])
    return {
        "doc_id": place,
        "doc": document,
        "target": target,
        "arguments": arguments,
        "resps": resps,
        "filtered_resps": answered,
        "filter": "none",
        "metrics": [NAMES.get(metric, metric) for metric in row["scores"]],
        "doc_hash": _hash(json.dumps(document, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(row["prompt"]),
        "target_hash": _hash(target),
        **{NAMES.get(metric, metric): value for metric, value in row["scores"].items()},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
