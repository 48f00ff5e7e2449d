"""One model on all tasks and languages: answers kept as they come, then scored and written as a score folder."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from maple.config import environment
from maple.core import storage
from maple.metrics import bootstrap
from maple.scoring import score_record
from maple.core.errors import MapleError
from maple.config.params import Evaluation
from maple.answering.store import Store
from maple.core.progress import Progress
from maple.answering.questions import Question, Sheet, questions, sheet

# Of the interval in a record. The tables' own (tables.confidence) are computed again, from the examples.
CONFIDENCE = 0.95
# What turns examples into answers: stored answers of an earlier version of these are not used.
ENGINE = ("questions", "encoding", "loglikelihood", "generate", "decode_attention", "forward", "tree_attention", "prefix_tree")


@dataclass(frozen=True)
class Subject:
    """What is scored: a base, or an adapter on it. `identity` tells its weights from any others (hashes, revisions)."""

    name: str
    kind: str
    model: str
    bits: int
    evaluated_bits: int
    dataset: str | None = None
    rank: int | None = None
    seed: int | None = None
    heldout_loss: dict[str, Any] | None = None
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """`8bit`, or `16bit (trained 8bit)` where an adapter is not on the precision that it was trained on."""
        trained = "" if self.bits == self.evaluated_bits else f" (trained {self.bits}bit)"
        return f"{self.evaluated_bits}bit{trained}"


class Loaded:
    """Model and tokeniser, loaded when the first answer is needed: with all answers stored, never."""

    def __init__(self, load: Callable[[], tuple[Any, Any]]):
        self._load = load
        self._pair: tuple[Any, Any] | None = None
        self.seconds = 0.0

    def __call__(self) -> tuple[Any, Any]:
        if self._pair is None:
            start = time.time()
            self._pair = self._load()
            self.seconds = time.time() - start
        return self._pair


def evaluate(
    subject: Subject,
    load: Callable[[], tuple[Any, Any]],
    evaluation: Evaluation,
    sources: Path,
    work: Path,
    destination: Path,
    profile: str,
) -> dict[str, Any]:
    """Score a model and write its score folder; returns the record.

    `load()` gives (model, tokeniser). `sources` holds datasets/<key> and, if the download stage made it,
    record.json. Answers are kept in `work`/<task>-<language>.jsonl: whatever stops this, the same call goes on
    from there and ends with the same bytes.
    """
    bill = environment.Bill()
    versions = environment.versions()
    entries = _entries(sources)
    loaded = Loaded(load)
    # All sheets first: a missing file or prompt is found before any model runs.
    sheets = [
        sheet(name, language, options, sources / "datasets", evaluation.seed)
        for name, options in evaluation.tasks.items()
        for language in options.languages
    ]
    rows: list[dict] = []
    counts: dict[str, dict[str, int]] = {}
    spent: dict[str, dict[str, float]] = {}
    with storage.folder(destination) as folder, Progress(
        sum(len(asked.examples) for asked in sheets), f"evaluate {subject.name}", "examples"
    ) as bar:
        for asked in sheets:
            start = time.time()
            store, usage = answers(asked, subject, loaded, evaluation, work, versions, bar)
            examples = list(judged(asked, store))
            storage.write_jsonl_gz(folder / "examples" / f"{asked.name}.jsonl.gz", examples)
            revision = entries.get(asked.task.source, {}).get("commit", "local")
            rows += _scores(asked, examples, subject, revision, versions, evaluation)
            counts |= {asked.name: found} if (found := _counts(asked, store)) else {}
            seconds = time.time() - start
            cost = spent.setdefault(asked.task.name, {"seconds": 0.0, "examples": 0, "reused": 0, "tokens": 0, "tokens_computed": 0})
            for key, value in zip(cost, (seconds, len(examples), usage["reused"], usage["asked"], usage["computed"])):
                cost[key] = round(cost[key] + value, 3)
        found = {
            "schema": score_record.SCHEMA,
            "profile": profile,
            "kind": subject.kind,
            "name": subject.name,
            "model": subject.model,
            "bits": subject.bits,
            "dataset": subject.dataset,
            "rank": subject.rank,
            "seed": subject.seed,
            "evaluated_bits": subject.evaluated_bits,
            "scores": rows,
            "counts": counts,
            "heldout_loss": subject.heldout_loss,
            "sources": {key: entries[key] for key in sorted({asked.task.source for asked in sheets} & set(entries))},
            "versions": versions,
        }
        storage.write_json(folder / "bill.json", bill.total(load_seconds=round(loaded.seconds, 3), tasks=spent))
        storage.write_json(folder / "record.json", score_record.check(found))
    return found


def answers(
    asked: Sheet, subject: Subject, loaded: Loaded, evaluation: Evaluation, work: Path, versions: dict[str, str], bar: Progress
) -> tuple[Store, dict[str, int]]:
    """The sealed store of a sheet's answers; how many of them an earlier run gave, and the tokens this run cost."""
    options = dataclasses.asdict(asked.options)
    # How answers are scored is not what they are: another normalisation or repair of a metric asks nothing again.
    settings = {key: options[key] for key in ("split", "scoring", "shots", "shot_language", "max_new_tokens")} | {
        "task": asked.task.name,
        "language": asked.language,
        "texts": storage.fingerprint([asked.texts(), asked.form.stop, asked.form.join], 32),
        "batch_tokens": evaluation.batch_tokens,
        "evaluated_bits": subject.evaluated_bits,
        "identity": subject.identity,
        "versions": {name: versions[name] for name in score_record.LIBRARIES},
        "engine": storage.fingerprint([storage.sha256(Path(__file__).with_name(f"{name}.py")) for name in ENGINE]),
    }
    store = Store(work / f"{asked.name}.jsonl", settings)
    bar.advance(len(store.rows), asked.name)
    reused = len(store.rows)
    if store.sealed:
        return store, {"reused": reused, "asked": 0, "computed": 0}

    from maple.answering import encoding, generate, loglikelihood

    model, tokeniser = loaded()
    usage = loglikelihood.Usage()
    scored = asked.options.scoring == "loglikelihood"
    room = loglikelihood.context_length(model) - (0 if scored else asked.options.max_new_tokens)
    listed = questions(asked, room, count=lambda text: len(encoding.encode(tokeniser, text)))
    done = {place for place, question in enumerate(listed) if question.example.id in store.rows}
    if scored:
        requests = [(question.prompt, question.options) for question in listed]
        batches = loglikelihood.score(model, tokeniser, requests, evaluation.batch_tokens, done, usage)
    else:
        batches = generate.generate_batches(
            model,
            tokeniser,
            [question.prompt for question in listed],
            asked.options.max_new_tokens,
            asked.form.stop,
            evaluation.batch_tokens,
            done,
            usage,
        )
    for batch in _named(batches, asked, listed):
        store.append(_kept(listed[place], answer) for place, answer in sorted(batch.items()))
        bar.advance(len(batch), asked.name)
    store.seal()
    return store, {"reused": reused, **dataclasses.asdict(usage)}


def _named(batches: Iterator[dict], asked: Sheet, listed: list[Question]) -> Iterator[dict]:
    """The batches; a failed one becomes an error that names the example. No failure is ever scored."""
    from maple.answering import loglikelihood

    try:
        yield from batches
    except loglikelihood.Failed as error:
        raise MapleError(
            f"{asked.task.name} {asked.language}: example '{listed[error.index].example.id}' could not be answered",
            why=error.why,
            do="look at that row; finished answers are kept, and the same command goes on from there",
        ) from error


def _kept(question: Question, answer: Any) -> dict[str, Any]:
    """One line of the store: what was shown and what came back."""
    row: dict[str, Any] = {"id": question.example.id, "prompt": question.prompt}
    if question.options is None:
        row["output"] = answer
    else:
        row["options"] = [
            {"text": text, "logprob": round(score.logprob, 6), "tokens": score.tokens, "bytes": score.bytes, "greedy": score.greedy}
            for text, score in zip(question.options, answer)
        ]
    notes = {"shots_dropped": question.shots_dropped, "shortened": question.shortened}
    return row | {key: value for key, value in notes.items() if value}


def judged(asked: Sheet, store: Store) -> Iterator[dict[str, Any]]:
    """Each example with its answer, prediction and scores, in upstream's order."""
    for example in asked.examples:
        row = dict(store.rows[example.id])
        if "options" in row:
            prediction = choose(row["options"], asked.options.normalisation)
        else:
            prediction = asked.task.extract(row["output"], example, asked.form)
        row |= {"prediction": prediction, "reference": example.reference}
        yield row | {"scores": asked.task.score(prediction, example, asked.options.repair)}


def choose(options: list[dict[str, Any]], normalisation: str) -> int:
    """The option with the highest log-likelihood (per byte or token if so asked); the first of equal ones.

    >>> choose([{"logprob": -4.0, "bytes": 2}, {"logprob": -5.0, "bytes": 10}], "bytes")
    1
    """
    def value(option: dict[str, Any]) -> float:
        return option["logprob"] if normalisation == "none" else option["logprob"] / option[normalisation]

    return max(range(len(options)), key=lambda place: value(options[place]))


def _scores(
    asked: Sheet, examples: list[dict], subject: Subject, revision: str, versions: dict[str, str], evaluation: Evaluation
) -> Iterator[dict[str, Any]]:
    """One row per metric; none for a task that only a judge can score."""
    for place, metric in enumerate(asked.task.metrics):
        values = [row["scores"][metric] for row in examples if metric in row["scores"]]
        if not values:
            continue
        rng = np.random.default_rng(evaluation.seed)
        value, low, high = bootstrap.interval(values, evaluation.bootstrap_samples, CONFIDENCE, rng)
        yield {
            "task": asked.task.name,
            "language": asked.language,
            "metric": metric,
            "primary": place == 0,
            "value": value,
            "n": len(values),
            "low": low,
            "high": high,
            "chance": asked.task.chance,
            "signature": score_record.signature(asked, metric, subject.base, revision, versions),
        }


def _counts(asked: Sheet, store: Store) -> dict[str, int]:
    """What was not as asked: examples whose shots or text did not fit, and rows whose upstream fault was repaired."""
    rows = store.rows.values()
    found = {
        "shots_dropped": sum(row.get("shots_dropped", 0) for row in rows),
        "shortened": sum(row.get("shortened", False) for row in rows),
        "repaired": sum(example.repaired for example in asked.examples),
    }
    return {key: value for key, value in found.items() if value}


def _entries(sources: Path) -> dict[str, Any]:
    """The data sets in the download stage's record, without their lists of files."""
    path = sources / "record.json"
    found = storage.read_json(path)["datasets"] if path.exists() else {}
    return {key: {name: value for name, value in entry.items() if name != "files"} for key, entry in found.items()}


def averages(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """{task: {metric: mean over languages}} and the mean of the primary metrics over tasks, all unweighted.

    In decimals, as the tables have them: binary floats would round some means the other way.

    >>> averages([{"task": "xnli", "metric": "accuracy", "primary": True, "value": v} for v in (0.2, 0.4)])
    {'xnli': {'accuracy': 0.3}, 'average': 0.3}
    """
    values: dict[str, dict[str, list[Decimal]]] = {}
    primary = {}
    for row in rows:
        values.setdefault(row["task"], {}).setdefault(row["metric"], []).append(Decimal(repr(row["value"])))
        if row["primary"]:
            primary[row["task"]] = row["metric"]
    means = {task: {metric: sum(v) / len(v) for metric, v in metrics.items()} for task, metrics in values.items()}
    firsts = [means[task][metric] for task, metric in primary.items()]
    found: dict[str, Any] = {
        task: {metric: float(round(mean, 6)) for metric, mean in metrics.items()} for task, metrics in means.items()
    }
    return found | {"average": float(round(sum(firsts) / len(firsts), 6))} if firsts else found
