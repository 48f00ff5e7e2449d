"""Score any model folder, with or without an adapter, on chosen tasks, languages and rows; prints a table.

    python -m stages.score --model MODEL --tasks xcopa,xquad --languages et,th --limit 50 --out OUT
    python -m stages.score --model MODEL --adapter ADAPTER --tasks xcopa --sources SOURCES --out OUT

How a task is put to the model (prompts, shots, split) is what the profile's parameters say. No DVC stage: nothing
else reads OUT. Stopped, the same command goes on from there.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from maple.answering import run
from maple.config import command
from maple.core import storage
from maple.upstream import languages
from maple.core.errors import MapleError, nearest


def main(params, arguments):
    weights, adapter = Path(arguments.model), Path(arguments.adapter) if arguments.adapter else None
    out = Path(arguments.out)
    if out.exists() and any(out.iterdir()) and not (out / "record.json").exists():
        raise MapleError(f"{out} holds something else", why="the score folder replaces it as a whole", do="name an empty or new folder")
    subject = subject_of(weights, adapter, arguments.bits)

    def load():
        from maple.config import environment
        from maple.models import loading

        environment.settle(params)
        base = loading.load_base(weights, subject.evaluated_bits, params.recipe.quantisation, loading.device())
        return loading.attach_adapter(base, adapter) if adapter else base.eval(), loading.load_tokeniser(weights)

    sources = Path(arguments.sources) if arguments.sources else params.artifacts / "sources"
    asked = chosen(params.evaluation, arguments)
    found = run.evaluate(subject, load, asked, sources, out.with_name(out.name + ".predictions"), out, params.profile)
    print("task      lang metric     value  95 % interval    n    chance")
    for row in found["scores"]:
        chance = "" if row["chance"] is None else f"{row['chance']:.3f}"
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        print(f"{row['task']:9s} {row['language']:4s} {row['metric']:9s} {row['value']:6.3f}  {interval} {row['n']:5d}    {chance}")
    print(f"every example: {out / 'examples'}")


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
    )


def contents(folder):
    """Names, sizes and times of a folder's files; hashing a base model takes longer than loading it."""
    if not folder.is_dir():
        raise MapleError(f"{folder} is no folder", why="a model or adapter is a folder in Hugging Face layout", do="correct the path")
    return sorted([path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in folder.iterdir() if path.is_file())


def chosen(evaluated, arguments):
    """The profile's evaluation with the command line's tasks, languages, rows and shots."""
    tasks = {}
    for name in arguments.tasks.split(","):
        if name not in evaluated.tasks:
            raise MapleError(f"no task '{name}'", why="the profile's parameters do not have it", do=nearest(name, evaluated.tasks))
        options = evaluated.tasks[name]
        codes = arguments.languages.split(",") if arguments.languages else options.languages
        codes = [code for code in codes if code in languages.of_task(name)]
        if not codes:
            raise MapleError(
                f"{name} has none of the languages {arguments.languages}",
                why="upstream has no files for them",
                do=f"choose among {', '.join(languages.of_task(name))}",
            )
        shots = options.shots if arguments.shots is None else arguments.shots
        tasks[name] = dataclasses.replace(options, languages=codes, limit=arguments.limit, shots=shots)
    return dataclasses.replace(evaluated, tasks=tasks)


def rows(text):
    """The type of --limit."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of rows, 1 or more")
    return int(text)


if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        model={"required": True, "help": "folder of a base model in Hugging Face layout"},
        adapter={"help": "folder of a LoRA adapter (default: none)"},
        bits={"type": int, "choices": (4, 8, 16), "help": "bit width of the base (default: the one the adapter was trained on, else 16)"},
        tasks={"required": True, "help": "tasks, with commas between them"},
        languages={"help": "language codes, with commas (default: the profile's)"},
        limit={"type": rows, "help": "rows per language, a sample by the profile's evaluation.seed (default: all)"},
        shots={"type": int, "choices": range(9), "metavar": "0..8", "help": "examples in the prompt (default: the profile's)"},
        sources={"help": "folder with datasets/<key>/<upstream path> (default: what the download stage fetched)"},
        out={"required": True, "help": "score folder to write"},
    )
