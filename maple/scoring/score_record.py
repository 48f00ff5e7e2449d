"""From a model's answer folder to its score folder, on a CPU, without the model.

scores/<name>/record.json                              what the answers determine, the same bytes at every run
scores/<name>/<task>-<language>.jsonl.gz               one line per example: prediction and scores
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pydantic

from maple import tasks
from maple.config.params import Evaluation, Scoring
from maple.core import storage
from maple.core.errors import MapleError
from maple.metrics.mean import mean
from maple.scoring import extraction, rules
from maple.tasks import protocols

SCHEMA = "maple.scores/2"
# What maple/answering/run.py writes.
ANSWERS = "maple.answers/1"


class Score(pydantic.BaseModel, extra="forbid", strict=True):
    """One task, language and metric of a model. `chance` is None where guessing has no meaning."""

    task: str
    language: str
    metric: str
    primary: bool
    value: float = pydantic.Field(ge=0, le=1)
    n: int = pydantic.Field(ge=1)
    chance: float | None
    signature: str


class Record(pydantic.BaseModel, extra="forbid", strict=True):
    """A score folder's record.json."""

    schema_: Literal["maple.scores/2"] = pydantic.Field(alias="schema")
    profile: str
    kind: Literal["cell", "base", "experiment"]
    name: str
    model: str
    bits: int
    evaluated_bits: int
    dataset: str | None
    rank: int | None
    seed: int | None
    heldout_loss: dict[str, Any] | None
    # What cannot be known of an adapter that was made elsewhere.
    notes: list[str] = []
    scores: list[Score]
    counts: dict[str, dict[str, int]]
    sources: dict[str, Any]
    versions: dict[str, str]


def score(answers: Path, evaluation: Evaluation, scoring: Scoring, destination: Path) -> dict[str, Any]:
    """Score an answer folder, write the score folder, return its record.

    Raises MapleError where the folder lacks what its record lists, or was asked other tasks and languages than
    `evaluation` has: such a score would be of something else.
    """
    found = storage.read_record(answers / "record.json", ANSWERS)
    rows: list[dict[str, Any]] = []
    counts = {}
    _check_asked(answers, found, evaluation)
    with storage.folder(destination) as folder:
        for sheet in found["sheets"]:
            name = f"{sheet['task']}-{sheet['language']}"
            examples = list(scored(answers / f"{name}.jsonl.gz", sheet, scoring))
            rows += _scores(sheet, examples, scoring)
            counts |= {name: sheet["counts"]} if sheet["counts"] else {}
            kept = ({key: row[key] for key in ("id", "prediction", "scores")} for row in examples)
            storage.write_jsonl_gz(folder / f"{name}.jsonl.gz", kept)
        described = {key: value for key, value in found.items() if key != "sheets"}
        record = described | {"schema": SCHEMA, "scores": rows, "counts": counts}
        storage.write_json(folder / "record.json", check(record))
    return record


def scored(path: Path, sheet: dict[str, Any], scoring: Scoring) -> Iterator[dict[str, Any]]:
    """Each stored answer with its `prediction` and `scores`, in upstream's order."""
    task = tasks.get(sheet["task"])
    rule = rules.get(protocols.rule_of(task, scoring.protocol))
    rows = list(storage.read_jsonl_gz(path))
    if len(rows) != sheet["n"]:
        raise MapleError(
            f"{path} holds {len(rows)} answers",
            why=f"its record lists {sheet['n']}",
            do=f"delete {path.parent} and run `dvc repro`",
        )
    for row in rows:
        prediction = extraction.predict(row, task.answer_part, scoring.normalisation.get(task.name, "none"))
        scores = rule.score(prediction, row["reference"], sheet["language"], task.name in scoring.repair)
        yield row | {"prediction": prediction, "scores": scores}


def _check_asked(answers: Path, found: dict[str, Any], evaluation: Evaluation) -> None:
    asked = [(sheet["task"], sheet["language"]) for sheet in found["sheets"]]
    wanted = [(task, code) for task, options in evaluation.tasks.items() for code in options.languages]
    if asked != wanted:
        one = next(iter(set(asked) ^ set(wanted)), asked[0] if asked else ("no", "task"))
        raise MapleError(
            f"{answers} answers other questions than the parameters ask",
            why=f"{' '.join(one)} is in one of the two only, or their order differs",
            do="run `dvc repro`, which asks the model again",
        )


def _scores(sheet: dict[str, Any], examples: list[dict], scoring: Scoring) -> Iterator[dict[str, Any]]:
    """One row per metric; none for a task that only a judge can score."""
    chance = rules.chance(examples)
    rule = rules.get(protocols.rule_of(tasks.get(sheet["task"]), scoring.protocol))
    for place, metric in enumerate(rule.metrics):
        values = [row["scores"][metric] for row in examples if metric in row["scores"]]
        if values:
            yield {
                "task": sheet["task"],
                "language": sheet["language"],
                "metric": metric,
                "primary": place == 0,
                "value": math.fsum(values) / len(values),
                "n": len(values),
                "chance": chance,
                "signature": signature(sheet, metric, scoring),
            }


def signature(sheet: dict[str, Any], metric: str, scoring: Scoring) -> str:
    """All that a score depends on besides the model's weights, readable, with a fingerprint that also covers every
    character shown to the model.

        task:xnli|lang:ar|prompt:english/xnli@1f2e3d4c|shots:0|scoring:loglikelihood/none|metric:accuracy|split:test|...
    """
    free = f"{sheet['max_new_tokens']} tokens"
    chosen = scoring.normalisation.get(sheet["task"], "none") if sheet["scoring"] == "loglikelihood" else free
    parts = [
        f"task:{sheet['task']}",
        f"lang:{sheet['language']}",
        f"prompt:{sheet['prompt']}",
        f"shots:{sheet['shots']}",
        f"scoring:{sheet['scoring']}/{chosen}",
        f"metric:{metric}" + ("/repaired" if sheet["task"] in scoring.repair else ""),
        f"split:{sheet['split']}",
        f"source:{sheet['source']}",
        f"base:{sheet['base']}",
        *(["path:plain"] if sheet["path"] == "plain" else []),
        *(f"{name}:{version}" for name, version in sheet["libraries"].items()),
    ]
    text = "|".join(parts)
    return f"{text}#{storage.fingerprint([text, sheet['texts']])}"


def check(found: dict[str, Any]) -> dict[str, Any]:
    """`found` if it is a score record, else MapleError that names the first wrong key."""
    try:
        record = Record.model_validate(found)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise MapleError(
            f"score record: {'.'.join(map(str, first['loc']))} is wrong",
            why=first["msg"],
            do="nothing was written; please report this defect",
        ) from error
    seen = set()
    for row in record.scores:
        if (key := (row.task, row.language, row.metric)) in seen:
            raise MapleError(
                f"score record: {' '.join(key)} stands there twice",
                why="a score is one",
                do="please report this defect",
            )
        seen.add(key)
    return found


def averages(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """{task: {metric: mean over languages}} and the mean of the primary metrics over tasks, all unweighted.

    >>> averages([{"task": "xnli", "metric": "accuracy", "primary": True, "value": v} for v in (0.2, 0.4)])
    {'xnli': {'accuracy': 0.3}, 'average': 0.3}
    """
    values: dict[str, dict[str, list[float]]] = {}
    primary = {}
    for row in rows:
        values.setdefault(row["task"], {}).setdefault(row["metric"], []).append(row["value"])
        if row["primary"]:
            primary[row["task"]] = row["metric"]
    shown: dict[str, Any] = {
        task: {metric: mean(found, 6) for metric, found in metrics.items()} for task, metrics in values.items()
    }
    firsts = [mean(values[task][metric]) for task, metric in primary.items()]
    return shown | {"average": mean(firsts, 6)} if firsts else shown
