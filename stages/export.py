"""Stored answers and scores in the formats of other tools, in OUT.

    python -m stages.export --profile paper --format harness --out export
    python -m stages.export --profile paper --format parquet --out export

harness: results and samples as lm-evaluation-harness writes them, a folder per model. csv, parquet: one row per model, task,
language, example and metric.
"""

from pathlib import Path

from maple.config import command
from maple.core.progress import Progress
from maple.exchange import harness, scored, tidy


def main(params, arguments):
    models, out = scored.load(params), Path(arguments.out)
    if arguments.format == "harness":
        with Progress(len(models), "export", "models") as bar:
            for folder in harness.write(params, models, out):
                bar.advance(1, folder.name)
        print(f"{len(models)} models: {out}")
        return
    path = out / f"examples.{arguments.format}"
    write = tidy.write_csv if arguments.format == "csv" else tidy.write_parquet
    write(models, path)
    print(f"{len(models)} models: {path}")


if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        format={"choices": ("harness", "csv", "parquet"), "required": True, "help": "of what is written"},
        out={"required": True, "help": "folder to write to"},
    )
