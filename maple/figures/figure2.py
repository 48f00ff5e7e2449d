"""Figure 2: the best finetuned model of each base, task by task, beside GPT-4, PaLM2 and two chat models.

The published figure follows from the published Table 1: its best finetuned models are the rows with the highest
Model Average. Ours takes the baselines from the same table: the project does not run them.
"""

from collections.abc import Sequence

from maple.figures import choice, style
from maple.figures.picture import Picture, Row
from maple.results.published import number as printed_number
from maple.results.tables import PAPER_TASKS, Results

# Keys of the published rows -> label; the order of the paper's caption, best first.
BASELINES = {
    "gpt-4": "GPT-4",
    "palm2": "PaLM2",
    "llama-2-70b-chat": "Llama-2-70b-chat",
    "mistral-7b-instruct": "Mistral-7B-Instruct",
}
# Label's place among the bars: colour, hatch.
LOOKS = [
    (style.BLACK, ""),
    (style.GREY, "///"),
    (style.YELLOW, "\\\\\\"),
    (style.SKY, "---"),
    (style.BLUE, "xxx"),
    (style.VERMILION, ""),
]

# (row, column) -> the string printed in Table 1, as `published.printed` gives it.
Published = dict[tuple[str, str], str]
# Task -> the accuracy of blind guessing, as our answers give it; tasks of free text have none.
Chances = dict[str, float | None]


def picture(results: Results, published: Published) -> Picture:
    rows = numbers(results, published)
    return Picture("figure2", "Figure 2. Best finetuned models against other models, by task", words(rows), rows, draw)


def published_picture(published: Published, chances: Chances) -> Picture:
    rows = published_numbers(published, chances)
    title = "Figure 2 as published: best finetuned models against other models, by task"
    return Picture("figure2-published", title, words(rows), rows, draw)


def numbers(results: Results, published: Published) -> list[Row]:
    """Baselines as published, without interval; then each base model with its best training set."""
    tasks = [task for task in PAPER_TASKS if task in results.resampled.tasks]
    rows = _baselines(published, tasks, results.chances)
    for model in sorted({model for model, _ in results.rows}):
        for task in tasks:
            best = choice.best_of_model(results, model, task)
            if best:
                row = _row(
                    f"{style.label(model)} finetuned",
                    "ours",
                    " ".join(best.configuration.names),
                    task,
                    None,
                    results.chances,
                )
                rows.append(row | choice.ends(results, results.score(best.configuration, task)))
    return rows


def published_numbers(published: Published, chances: Chances) -> list[Row]:
    rows = _baselines(published, PAPER_TASKS, chances)
    finetuned = [key for key, column in published if column == "average" and "." in key]
    for model in sorted({key.split(".")[0] for key in finetuned}):
        # Ties in the printed average go to the row that stands first.
        mine = [key for key in finetuned if key.startswith(model + ".")]
        key = max(mine, key=lambda key: _number(published, key, "average"))
        label = f"{style.label(model)} finetuned"
        rows += [_row(label, "published", key, task, _number(published, key, task), chances) for task in PAPER_TASKS]
    return rows


def _baselines(published: Published, tasks: Sequence[str], chances: Chances) -> list[Row]:
    return [
        _row(label, "published", key, task, _number(published, key, task), chances)
        for key, label in BASELINES.items()
        for task in tasks
    ]


def _number(published: Published, row: str, column: str) -> float | None:
    """None where the paper prints NA."""
    number = printed_number(published[row, column])
    return None if number is None else float(number)


def _row(system: str, origin: str, name: str, task: str, value: float | None, chances: Chances) -> Row:
    """`name` is the cells (one per seed), or the row of Table 1, that the value is taken from."""
    where = {"system": system, "origin": origin, "name": name, "task": task, "chance": chances.get(task)}
    return where | {"value": value, "low": None, "high": None}


def draw(rows: list[Row]):
    tasks = [task for task in PAPER_TASKS if any(row["task"] == task for row in rows)]
    systems = list(dict.fromkeys(row["system"] for row in rows))
    width = 0.84 / max(1, len(systems))
    figure, axes = style.canvas(9, 3.6)
    axis = axes[0][0]
    for place, system in enumerate(systems):
        colour, hatch = LOOKS[place % len(LOOKS)]
        for row in (row for row in rows if row["system"] == system):
            x = tasks.index(row["task"]) + (place - (len(systems) - 1) / 2) * width
            if row["value"] is None:
                axis.text(x, 0.01, "NA", rotation=90, ha="center", va="bottom", fontsize=7)
                continue
            axis.bar(
                x,
                row["value"],
                width,
                color=colour,
                hatch=hatch,
                edgecolor="white" if place == 0 else "black",
                linewidth=0.6,
            )
            if row["low"] is not None:
                axis.errorbar([x], [row["value"]], style.errors([row]), color="black", elinewidth=1, capsize=2)
            axis.text(
                x,
                (row["high"] or row["value"]) + 0.012,
                f"{row['value']:.2f}",
                rotation=90,
                ha="center",
                va="bottom",
                fontsize=6.5,
            )
    chances = {row["task"]: row["chance"] for row in rows}
    for place, task in enumerate(tasks):
        if chances.get(task):
            style.chance(axis, chances[task], place - 0.46, place + 0.46, label="chance" if place == 0 else None)
    style.ticks(axis, [style.label(task) for task in tasks])
    axis.set_ylim(0, 1.1)
    axis.set_ylabel("score")
    style.bar_legend(
        figure, [(system, *LOOKS[place % len(LOOKS)]) for place, system in enumerate(systems)], chance=True
    )
    return figure


def words(rows: list[Row]) -> str:
    systems = list(dict.fromkeys(row["system"] for row in rows))
    sentences = []
    for system in systems:
        mine = [row for row in rows if row["system"] == system]
        values = ", ".join(
            f"{style.label(row['task'])} {'NA' if row['value'] is None else format(row['value'], '.2f')}"
            for row in mine
        )
        sentences.append(f"{system} ({mine[0]['origin']}): {values}.")
    return (
        "Scores by task (accuracy for XNLI, XCOPA and Belebele, F1 for XQuAD and MLQA, ROUGE-L for XLSum). "
        + " ".join(sentences)
        + " Chance: XNLI 0.33, XCOPA 0.50, Belebele 0.25. Published values carry no interval."
    )
