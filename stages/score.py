"""Turn stored answers into scores, on a CPU: all models of the grid, the experiment, or a model of your own.

    python -m stages.score                             every answer folder of the grid
    python -m stages.score --name experiment           the experiment alone
    python -m stages.score --model MODEL --tasks xcopa,xquad --languages et,th --limit 50 --out OUT
    python -m stages.score --model MODEL --adapter ADAPTER --tasks xcopa --sources SOURCES --out OUT

With --model, the model is asked first, as the profile's parameters say (prompts, shots, split), and a table is printed.
That is no DVC stage: nothing else reads OUT. Stopped, the same command goes on from there.
"""

import argparse

from maple.config import command
from maple.config.params import EXPERIMENT
from maple.core import storage
from maple.core.progress import Progress
from maple.scoring import score_record


def main(params, arguments):
    if arguments.model:
        from stages import score_own

        return score_own.main(params, arguments)
    if arguments.name == EXPERIMENT:
        folder = params.folder("answers", EXPERIMENT)
        found = score_record.score(folder, params.evaluation, params.scoring, params.folder("scores", EXPERIMENT))
        storage.write_json(params.artifacts / "experiment.json", score_record.averages(found["scores"]))
        print(line(params, found))
        return
    names = [model.name for model in [*params.cells, *params.bases]]
    with storage.folder(params.artifacts / "scores" / "grid") as out, Progress(len(names), "score", "models") as bar:
        for name in names:
            answers = params.folder("answers", name)
            if not (answers / "record.json").is_file() and params.tables.accept_missing:
                continue
            print(line(params, score_record.score(answers, params.evaluation, params.scoring, out / name)))
            bar.advance(1, name)


def line(params, found):
    summary = score_record.averages(found["scores"])
    shown = ", ".join(f"{task} {next(iter(v.values())):.3f}" for task, v in summary.items() if task != "average")
    smoke = " (SMOKE)" if params.is_smoke else ""
    average = f"; average {summary['average']:.3f}" if "average" in summary else ""
    return f"{found['name']}{smoke}: {shown}{average}"


def rows(text):
    """The type of --limit."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of rows, 1 or more")
    return int(text)


if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        name={"choices": ("grid", EXPERIMENT), "default": "grid", "help": "whose stored answers (default: grid)"},
        model={"help": "folder of a base model in Hugging Face layout, to be asked first"},
        adapter={"help": "folder of a LoRA adapter (default: none)"},
        bits={
            "type": int,
            "choices": (4, 8, 16),
            "help": "bit width of the base (default: the one the adapter was trained on, else 16)",
        },
        tasks={"help": "tasks, with commas between them"},
        languages={"help": "language codes, with commas (default: the profile's)"},
        limit={"type": rows, "help": "rows per language, a sample by the profile's evaluation.seed (default: all)"},
        shots={
            "type": int,
            "choices": range(9),
            "metavar": "0..8",
            "help": "examples in the prompt (default: the profile's)",
        },
        sources={"help": "folder with datasets/<key>/<upstream path> (default: what the download stage fetched)"},
        out={"help": "score folder to write"},
    )
