"""Figure 1: the average over tasks of every rank and quantisation, and the mean over them.

The caption of the paper says "average model performance ... across tasks on all rank-quantisation configurations";
its heading says Belebele, its numbers are not printed. Alpaca, which the caption leaves out, is drawn as well.
"""

from maple.figures import style
from maple.figures.picture import Picture, Row
from maple.figures.scored import Scored
from maple.resampled import Quantity, mean

ALL = "all"


def picture(scored: Scored) -> Picture:
    rows = numbers(scored)
    title = "Figure 1. Average over tasks for every rank and quantisation"
    return Picture("figure1", title, words(rows, scored.tasks), rows, draw)


def numbers(scored: Scored) -> list[Row]:
    """One row per cell, then per model and training set the mean over its cells with bits and rank `all`.

    Seeds of one configuration are averaged like configurations. A cell that lacks a task is left out; `cells` says
    how many are behind a row.
    """
    averages: dict[tuple, list[Quantity]] = {}
    for name, record in scored.cells():
        average = scored.average(name, scored.tasks)
        if average is not None:
            key = (record["model"], record["dataset"], record["bits"], record["rank"])
            averages.setdefault(key, []).append(average)
    order = style.training_sets({dataset for _, dataset, _, _ in averages})
    rows = [
        _row(scored, *key, averages[key])
        for key in sorted(averages, key=lambda key: (key[0], order.index(key[1]), key[2], key[3]))
    ]
    whole: dict[tuple, list[Quantity]] = {}
    for (model, dataset, _, _), found in averages.items():
        whole.setdefault((model, dataset), []).extend(found)
    ordered = sorted(whole, key=lambda key: (key[0], order.index(key[1])))
    return rows + [_row(scored, model, dataset, ALL, ALL, whole[model, dataset]) for model, dataset in ordered]


def _row(scored: Scored, model: str, dataset: str, bits: int | str, rank: int | str, parts: list[Quantity]) -> Row:
    where = {"model": model, "dataset": dataset, "bits": bits, "rank": rank, "cells": len(parts)}
    return where | scored.ends(mean(parts))


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


def words(rows: list[Row], tasks: list[str]) -> str:
    means_of = [
        f"{style.label(row['model'])} on {style.label(row['dataset'])} {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f}, {row['cells']} cells)"
        for row in rows
        if row["bits"] == ALL
    ]
    return (
        f"Average score over {', '.join(map(style.label, tasks))} against LoRA rank, one panel per model and bit width, "
        "one series per training set, with 95 % intervals. The tasks mix accuracy, F1 and ROUGE-L, so the average is an "
        f"index and has no chance level. Mean over all ranks and bit widths: {'; '.join(means_of) or 'no cell has every task'}."
    )
