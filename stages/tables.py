"""Write Tables 1 and 2 in the paper's layout, and the tables behind them, from collected scores.

    python -m stages.tables --profile smoke

paper_tables/regenerated/<profile>/tables/ gets table1 and table2 as CSV, Markdown and LaTeX, which
`diff -r` with paper_tables/published/tables compares; details/ has the configuration and interval of each cell,
what choosing it cost, and the whole grid, languages/ one table per task, analyses/ what the paper asks but prints no numbers for.
"""

from pathlib import Path

from maple.config import command
from maple.core import storage
from maple.results import analyses, collect, errors, published, render, tables

FERTILITY = Path(__file__).parents[1] / "benchmarks" / "fertility.csv"


def main(params, arguments):
    results = tables.Results(collect.load(params.artifacts / "collected"), params)
    destination = params.regenerated / "tables"
    with storage.folder(destination) as part:
        for name in published.TABLES:
            table = tables.regenerated(results, name)
            for suffix, text_of in render.FORMATS.items():
                storage.write_text(part / f"{name}.{suffix}", text_of(table))
            storage.write_text(part / "details" / f"{name}_cells.csv", render.to_csv(tables.cells_csv(results, name)))
            choices = render.to_markdown(tables.choice_table(results, name))
            storage.write_text(part / "details" / f"{name}_choice.md", choices)
        storage.write_text(part / "details" / "grid.csv", render.to_csv(tables.grid_csv(results)))
        for task in params.evaluation.tasks:
            long, wide = tables.language_tables(results, task)
            storage.write_text(part / "languages" / f"{task}.csv", render.to_csv(long))
            storage.write_text(part / "languages" / f"{task}.md", render.to_markdown(wide))
        beyond = analyses.all_of(results, _statistics(params)) | {
            "fertility_lift": analyses.fertility_lift(results, _costs()),
            "errors": errors.table(results),
        }
        storage.write_text(part / "analyses" / "errors_shown.csv", render.to_csv(errors.shown(results)))
        for name, (long, summary) in beyond.items():
            storage.write_text(part / "analyses" / f"{name}.csv", render.to_csv(long))
            storage.write_text(part / "analyses" / f"{name}.md", render.to_markdown(summary))
    print(render.to_markdown(tables.regenerated(results, "table1")))
    print(f"written: {destination}")


def _costs():
    """Model -> language -> tokens of a text as a multiple of the same text's in English."""
    costs = {}
    for row in storage.read_csv(FERTILITY):
        if row["measure"] == "times_english":
            costs.setdefault(row["tokeniser"], {})[row["language"]] = float(row["value"])
    return costs


def _statistics(params):
    """Training set -> what prepare measured of it, as git keeps it: a clone that has only the scores has it too."""
    paths = {name: params.regenerated / "training_sets" / f"{name}.json" for name in params.datasets}
    return {name: storage.read_json(path) for name, path in paths.items() if path.is_file()}


if __name__ == "__main__":
    command.run(__doc__, main)
