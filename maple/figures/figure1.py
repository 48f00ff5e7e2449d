"""Figure 1: the average over tasks of every rank and quantisation, and the mean over them.

The caption of the paper says "average model performance ... across tasks on all rank-quantisation configurations";
its heading says Belebele, its numbers are not printed. Alpaca, which the caption leaves out, is drawn as well.
"""

from maple.figures import choice, style
from maple.figures.picture import Picture, Row
from maple.results.quantities import Quantity, mean
from maple.results.tables import AVERAGE, PAPER_TASKS, Results

ALL = "all"


def picture(results: Results) -> Picture:
    rows = numbers(results)
    title = "Figure 1. Average over tasks for every rank and quantisation"
    return Picture("figure1", title, words(rows), rows, draw)


def numbers(results: Results) -> list[Row]:
    """One row per configuration, then per model and training set the mean over all its cells, rank and bits `all`.

    Replicate seeds of a configuration are averaged. A configuration that lacks a task is left out: a mean of fewer
    tasks is another number. `cells` says how many are behind a row.
    """
    single, whole = [], []
    for model, dataset in choice.rows(results):
        scores = [(c, results.score(c, AVERAGE)) for c in results.rows[model, dataset]]
        complete = [(c, score) for c, score in scores if score is not None]
        for c, score in sorted(complete, key=lambda pair: (pair[0].bits, pair[0].rank)):
            single.append(_row(results, model, dataset, c.bits, c.rank, len(c.names), score))
        if complete:
            cells = sum(len(c.names) for c, _ in complete)
            whole.append(_row(results, model, dataset, ALL, ALL, cells, mean(score for _, score in complete)))
    return single + whole


def _row(
    results: Results, model: str, dataset: str, bits: int | str, rank: int | str, cells: int, score: Quantity
) -> Row:
    where = {"model": model, "dataset": dataset, "bits": bits, "rank": rank, "cells": cells}
    return where | choice.ends(results, score)


def draw(rows: list[Row]):
    """One line of panels per model: one per bit width over ranks, the last for the mean over all cells."""
    models = sorted({row["model"] for row in rows})
    datasets = style.training_sets({row["dataset"] for row in rows})
    bits = sorted({row["bits"] for row in rows if row["bits"] != ALL})
    ranks = sorted({row["rank"] for row in rows if row["rank"] != ALL})
    looks = style.look(datasets)
    figure, axes = style.canvas(
        9,
        2.3 * max(1, len(models)) + 0.5,
        nrows=max(1, len(models)),
        ncols=len(bits) + 1,
        sharey="row",
        width_ratios=[*[1] * len(bits), 0.5],
    )
    for line, model in enumerate(models):
        for column, width in enumerate([*bits, ALL]):
            axis = axes[line][column]
            axis.set_title("all cells" if width == ALL else f"{style.label(model)}, {width} bits")
            here = [row for row in rows if row["model"] == model and row["bits"] == width]
            if not here:
                axis.text(0.5, 0.5, "not in this grid", transform=axis.transAxes, ha="center", color=style.GREY)
            for place, dataset in enumerate(datasets):
                shift = (place - (len(datasets) - 1) / 2) * (0.2 if width == ALL else 0.16)
                points = [row for row in here if row["dataset"] == dataset]
                x = [(0 if width == ALL else ranks.index(row["rank"])) + shift for row in points]
                colour, _, marker = looks[dataset]
                axis.errorbar(
                    x,
                    [row["value"] for row in points],
                    style.errors(points),
                    color=colour,
                    marker=marker,
                    markersize=4.5,
                    linewidth=0.8,
                    linestyle="none" if width == ALL else ":",
                    elinewidth=0.9,
                )
            style.ticks(axis, ["mean"] if width == ALL else [str(rank) for rank in ranks])
            if line == len(models) - 1:
                axis.set_xlabel("" if width == ALL else "LoRA rank")
        axes[line][0].set_ylabel("average over tasks")
    style.legend(figure, [(style.label(dataset), *looks[dataset]) for dataset in datasets])
    return figure


def words(rows: list[Row]) -> str:
    means_of = [
        f"{style.label(row['model'])} on {style.label(row['dataset'])} {row['value']:.3f} "
        f"({row['low']:.3f} to {row['high']:.3f}, {row['cells']} cells)"
        for row in rows
        if row["bits"] == ALL
    ]
    return (
        f"Average score over {', '.join(map(style.label, PAPER_TASKS))} against LoRA rank, one panel per model and bit "
        "width, one series per training set, with 95 % intervals. The tasks mix accuracy, F1 and ROUGE-L, so the "
        "average is an index and has no chance level. Mean over all ranks and bit widths: "
        f"{'; '.join(means_of) or 'no configuration has every task'}."
    )
