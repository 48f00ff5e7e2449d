"""One model on all tasks and languages: its answers, kept as they come, then written as an answer folder.

    answers/<name>/record.json                         what was asked, of which model; the same bytes at every run
    answers/<name>/<task>-<language>.jsonl.gz          one line per example: prompt, answer, reference

Nothing here is a score. `maple/scoring` turns the folder into scores on a CPU, as often as a metric changes.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from maple.answering.questions import Question, Sheet, questions, sheet
from maple.answering.store import AnswerStore
from maple.config import bills, environment
from maple.config.params import Evaluation
from maple.core import source_code, storage
from maple.core.errors import MapleError
from maple.core.progress import Progress

SCHEMA = "maple.answers/1"
# Which libraries can move an answer.
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers")
# Where the code begins that turns examples into answers. Answers stored by other code than this and all that it imports
# from these two packages are not used.
ENGINE = (
    "answering/questions.py",
    "answering/loglikelihood.py",
    "answering/generate.py",
    "answering/plain.py",
    "models/loading.py",
)


@dataclass(frozen=True)
class Subject:
    """What is asked: a base, or an adapter on it. `identity` tells its weights from any others (hashes, revisions)."""

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
    # What cannot be known of an adapter that was made elsewhere (maple/models/adapter_check.py).
    notes: list[str] = field(default_factory=list)

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


def answer(
    subject: Subject,
    load: Callable[[], tuple[Any, Any]],
    evaluation: Evaluation,
    sources: Path,
    work: Path,
    destination: Path,
    profile: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask a model everything and write its answer folder; returns the record and what it cost.

    `load()` gives (model, tokeniser). `sources` holds datasets/<key> and, if the download stage made it,
    record.json. Answers are kept in `work`/<task>-<language>.jsonl: whatever stops this, the same call goes on
    from there and ends with the same bytes.
    """
    bill = bills.Bill()
    versions = environment.versions()
    entries = _entries(sources)
    loaded = Loaded(load)
    # All sheets first: a missing file or prompt is found before any model runs.
    sheets = [
        sheet(name, language, options, sources / "datasets", evaluation.seed)
        for name, options in evaluation.tasks.items()
        for language in options.languages
    ]
    listed: list[dict[str, Any]] = []
    spent: dict[str, dict[str, float]] = {}
    total = sum(len(asked.examples) for asked in sheets)
    with storage.folder(destination) as folder, Progress(total, f"answer {subject.name}", "examples") as bar:
        for asked in sheets:
            start = time.time()
            store, usage = answers(asked, subject, loaded, evaluation, work, versions, bar)
            storage.write_jsonl_gz(folder / f"{asked.name}.jsonl.gz", (_line(asked, store, e) for e in asked.examples))
            revision = entries.get(asked.task.source, {}).get("commit", "local")
            how = {"path": evaluation.path}
            if subject.evaluated_bits == 8:
                # There a token's result depends on what else is in its pass.
                how["batch_tokens"] = evaluation.batch_tokens
            listed.append(_listed(asked, subject, revision, versions) | how | _counts(asked, store))
            cost = spent.setdefault(asked.task.name, dict.fromkeys(("seconds", "examples", *usage), 0))
            for key, value in {"seconds": time.time() - start, "examples": len(asked.examples), **usage}.items():
                cost[key] = round(cost[key] + value, 3)
        described = dataclasses.asdict(subject)
        del described["identity"]
        if not described["notes"]:
            del described["notes"]
        record = {"schema": SCHEMA, "profile": profile, **described, "sheets": listed}
        record["sources"] = {
            key: entries[key] for key in sorted({asked.task.source for asked in sheets} & set(entries))
        }
        record["versions"] = versions
        storage.write_json(folder / "record.json", record)
    return record, bill.total(load_seconds=round(loaded.seconds, 3), tasks=spent)


def answers(
    asked: Sheet,
    subject: Subject,
    loaded: Loaded,
    evaluation: Evaluation,
    work: Path,
    versions: dict[str, str],
    bar: Progress,
) -> tuple[AnswerStore, dict[str, int]]:
    """The sealed store of a sheet's answers; how many of them an earlier run gave, and the tokens this run cost."""
    options = dataclasses.asdict(asked.options)
    # How answers are scored is not what they are: another normalisation or repair of a metric asks nothing again.
    settings = {key: options[key] for key in ("split", "scoring", "shots", "shot_language", "max_new_tokens")} | {
        "task": asked.task.name,
        "language": asked.language,
        "texts": storage.fingerprint([asked.texts(), asked.form.stop, asked.form.join], 32),
        "path": evaluation.path,
        "batch_tokens": evaluation.batch_tokens,
        "evaluated_bits": subject.evaluated_bits,
        "identity": subject.identity,
        "versions": {name: versions[name] for name in LIBRARIES},
        "engine": engine(),
    }
    store = AnswerStore(work / f"{asked.name}.jsonl", settings, [example.id for example in asked.examples])
    bar.advance(len(store.rows), asked.name)
    usage = {"reused": len(store.rows), "tokens": 0, "tokens_computed": 0}
    if store.sealed:
        return store, usage

    from maple.answering import encoding, generate, loglikelihood, plain

    model, tokeniser = loaded()
    spent = loglikelihood.Usage()
    scored = asked.options.scoring == "loglikelihood"
    room = loglikelihood.context_length(model) - (0 if scored else asked.options.max_new_tokens)
    listed = questions(asked, room, count=lambda text: len(encoding.encode(tokeniser, text)))
    done = {place for place, question in enumerate(listed) if question.example.id in store.rows}
    if scored:
        requests = [(question.prompt, question.options) for question in listed]
        if evaluation.path == "plain":
            batches = plain.score(model, tokeniser, requests, done, spent)
        else:
            batches = loglikelihood.score(model, tokeniser, requests, evaluation.batch_tokens, done, spent)
    else:
        asking = model, tokeniser, [q.prompt for q in listed], asked.options.max_new_tokens, asked.form.stop
        if evaluation.path == "plain":
            batches = plain.generate_batches(*asking, done, spent)
        else:
            batches = generate.generate_batches(*asking, evaluation.batch_tokens, done, spent)
    for batch in _named(batches, asked, listed):
        store.append(_kept(listed[place], found) for place, found in sorted(batch.items()))
        bar.advance(len(batch), asked.name)
    store.seal()
    return store, usage | {"tokens": spent.asked, "tokens_computed": spent.computed}


@cache
def engine() -> str:
    """Changes with the code that turns examples into answers."""
    package = Path(__file__).parents[1]
    files = source_code.closure(package / name for name in ENGINE)
    return storage.fingerprint(sorted(storage.sha256(f) for f in files if f.parent.name in ("answering", "models")))


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


def _kept(question: Question, found: Any) -> dict[str, Any]:
    """One line of the store: what was shown and what came back."""
    row: dict[str, Any] = {"id": question.example.id, "prompt": question.prompt}
    if question.options is None:
        row["output"] = found
    else:
        row["options"] = [
            {
                "text": text,
                "logprob": round(score.logprob, 6),
                "tokens": score.tokens,
                "bytes": score.bytes,
                "greedy": score.greedy,
            }
            for text, score in zip(question.options, found)
        ]
    notes = {"shots_dropped": question.shots_dropped, "shortened": question.shortened}
    return row | {key: value for key, value in notes.items() if value}


def _line(asked: Sheet, store: AnswerStore, example: Any) -> dict[str, Any]:
    """One line of the answer folder: the store's, and what a score needs besides it."""
    row = dict(store.rows[example.id])
    options = asked.form.options(example)
    if "output" in row and options is not None:
        # A generated text is matched with the options that the model was shown.
        row["options"] = [{"text": text} for text in options]
    return row | {"reference": example.reference}


def _listed(asked: Sheet, subject: Subject, revision: str, versions: dict[str, str]) -> dict[str, Any]:
    """What a sheet's answers depend on besides the model's weights; `texts` covers every character shown to the
    model.
    """
    options = asked.options
    return {
        "task": asked.task.name,
        "language": asked.language,
        "n": len(asked.examples),
        "prompt": f"{asked.form.name}@{asked.form.fingerprint[:8]}",
        "shots": f"{options.shots}" + (f"/{options.shot_language}" if options.shots else ""),
        "scoring": options.scoring,
        "max_new_tokens": options.max_new_tokens,
        "split": options.split + ("/repaired" if options.repair else ""),
        "source": f"{asked.task.source}@{revision[:7]}",
        "base": subject.base,
        "libraries": {name: versions[name] for name in LIBRARIES},
        "texts": storage.fingerprint(asked.texts(), 32),
    }


def _counts(asked: Sheet, store: AnswerStore) -> dict[str, dict[str, int]]:
    """What was not as asked: examples whose shots or text did not fit, and rows whose upstream fault was repaired."""
    rows = store.rows.values()
    found = {
        "shots_dropped": sum(row.get("shots_dropped", 0) for row in rows),
        "shortened": sum(row.get("shortened", False) for row in rows),
        "repaired": sum(example.repaired for example in asked.examples),
    }
    return {"counts": {key: value for key, value in found.items() if value}}


def _entries(sources: Path) -> dict[str, Any]:
    """The data sets in the download stage's record, without their lists of files."""
    path = sources / "record.json"
    found = storage.read_json(path)["datasets"] if path.exists() else {}
    return {key: {name: value for name, value in entry.items() if name != "files"} for key, entry in found.items()}
