"""The part of `stages.score --model` that asks a model of your own before its answers are scored."""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from maple import tasks
from maple.answering import run
from maple.core import storage
from maple.core.errors import MapleError, nearest
from maple.metrics import bootstrap
from maple.models import adapter_check
from maple.planning import auto, memory
from maple.scoring import score_record

# Bytes; an adapter of rank 128 on a 7B model has 1.3 GB.
HASHED_BELOW = 2_000_000_000


def main(params, arguments):
    for option in ("tasks", "out"):
        if not getattr(arguments, option):
            raise MapleError(
                f"--{option} is missing",
                why="--model asks a model of your own",
                do=f"add --{option}; --help says what it takes",
            )
    weights, adapter = Path(arguments.model), Path(arguments.adapter) if arguments.adapter else None
    out = Path(arguments.out)
    if out.exists() and any(out.iterdir()) and not (out / "record.json").exists():
        raise MapleError(
            f"{out} holds something else",
            why="the score folder replaces it as a whole",
            do="name an empty or new folder",
        )
    subject = subject_of(weights, adapter, arguments.bits)
    for note in subject.notes:
        print(f"note: {note}", file=sys.stderr)

    asked = auto.asked(chosen(params.evaluation, arguments), weights, subject.evaluated_bits)
    if adapter and adapter_check.is_virtual(adapter):
        asked = dataclasses.replace(asked, path="plain")

    def load():
        memory.check_address_space()
        from maple.config import environment
        from maple.models import loading

        environment.settle(params)
        how = subject.evaluated_bits, params.recipe.quantisation, loading.device(), asked.unpack_4bit
        model = loading.load_tuned(weights, adapter, adapter_check.base_in(weights), *how)
        return model, loading.load_tokeniser(weights)

    sources = Path(arguments.sources) if arguments.sources else params.artifacts / "sources"
    answers = out.with_name(out.name + ".answers")
    run.answer(subject, load, asked, sources, out.with_name(out.name + ".predictions"), answers, params.profile)
    found = score_record.score(answers, asked, params.scoring, out)
    print("task      lang metric     value  95 % interval    n    chance")
    for row in found["scores"]:
        values = [
            one["scores"][row["metric"]]
            for one in storage.read_jsonl_gz(out / f"{row['task']}-{row['language']}.jsonl.gz")
        ]
        rng = np.random.default_rng(params.tables.seed)
        _, low, high = bootstrap.interval(values, params.tables.bootstrap_samples, params.tables.confidence, rng)
        chance = "" if row["chance"] is None else f"{row['chance']:.3f}"
        interval = f"{low:.3f} to {high:.3f}"
        print(
            f"{row['task']:9s} {row['language']:4s} {row['metric']:9s} {row['value']:6.3f}  {interval} {row['n']:5d}    {chance}"
        )
    print(f"every answer: {answers}; every score: {out}")


def subject_of(weights, adapter, bits):
    """What is scored; an adapter's own record says on how many bits it was trained."""
    trained = adapter / "record.json" if adapter else None
    known = storage.read_json(trained) if trained and trained.exists() else {}
    base_bits = known.get("bits") or bits or 16
    if adapter and "bits" not in known:
        print(f"{adapter} has no record.json that says its bits: taken as trained on {base_bits} bits", file=sys.stderr)
    return run.Subject(
        name=(adapter or weights).name,
        kind="cell" if adapter else "base",
        model=known.get("model", weights.name),
        bits=base_bits,
        evaluated_bits=bits or base_bits,
        **{key: known.get(key) for key in ("dataset", "rank", "seed", "heldout_loss")},
        identity={"model": contents(weights), "adapter": contents(adapter) if adapter else None},
        notes=adapter_check.notes(adapter, adapter_check.base_in(weights)) if adapter else [],
    )


def contents(folder):
    """Names, sizes and times of a base's files, whose hashing would take longer than loading them; of small files, and
    of an adapter's, their hashes."""
    if not folder.is_dir():
        raise MapleError(
            f"{folder} is no folder", why="a model or adapter is a folder in Hugging Face layout", do="correct the path"
        )
    found = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        size = path.stat().st_size
        found.append([path.name, size, path.stat().st_mtime_ns if size > HASHED_BELOW else storage.sha256(path)])
    return found


def chosen(evaluated, arguments):
    """The profile's evaluation with the command line's tasks, languages, rows and shots."""
    asked = {}
    for name in arguments.tasks.split(","):
        # A quiz is put as the task whose files it asks about.
        of = tasks.QUIZZES[name].source if name in tasks.QUIZZES else name
        if of not in evaluated.tasks:
            known = [*evaluated.tasks, *tasks.QUIZZES]
            raise MapleError(
                f"no task '{name}'", why="the profile's parameters do not have it", do=nearest(name, known)
            )
        options = evaluated.tasks[of]
        if name in tasks.QUIZZES:
            options = dataclasses.replace(options, scoring="loglikelihood", prompt_set="english", shots=0)
        codes = arguments.languages.split(",") if arguments.languages else options.languages
        codes = [code for code in codes if code in tasks.get(name).codes]
        if not codes:
            raise MapleError(
                f"{name} has none of the languages {arguments.languages}",
                why="upstream has no files for them",
                do=f"choose among {', '.join(tasks.get(name).codes)}",
            )
        shots = options.shots if arguments.shots is None else arguments.shots
        asked[name] = dataclasses.replace(options, languages=codes, limit=arguments.limit, shots=shots)
    return dataclasses.replace(evaluated, tasks=asked)
