"""Figure 4: XQuAD F1 by language, in the paper's order, for each model and training set.

The paper's figure also shows other systems; their numbers by language are not printed anywhere we could read.
XQuAD's twelfth language, Chinese, is in the data but not in the figure.
"""

from maple.figures import choice, style
from maple.figures.picture import Picture, Row
from maple.results.tables import Results
from maple.upstream import languages

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi")


def picture(results: Results) -> Picture:
    rows = numbers(results)
    return Picture("figure4", "Figure 4. XQuAD F1 by language", words(rows), rows, draw)


def numbers(results: Results) -> list[Row]:
    """One row per model, training set and language that was scored."""
    rows = []
    for one in choice.shown(results, "xquad"):
        for code in LANGUAGES:
            score = results.score(one.configuration, "xquad", [code])
            if score:
                rows.append(one.where() | {"language": code, "n": score.n} | choice.ends(results, score))
    return rows


def draw(rows: list[Row]):
    models = sorted({row["model"] for row in rows})
    codes = [code for code in LANGUAGES if any(row["language"] == code for row in rows)]
    sets = style.training_sets({row["dataset"] for row in rows} - {style.NO_TRAINING})
    looks = style.look(sets) | {style.NO_TRAINING: (style.BLACK, "", "_")}
    series = [key for key in (style.NO_TRAINING, *sets) if any(row["dataset"] == key for row in rows)]
    figure, axes = style.canvas(9, 2.5 * max(1, len(models)) + 0.5, nrows=max(1, len(models)), sharex=True, sharey=True)
    for axis, model in zip(axes[:, 0], models, strict=False):
        for place, dataset in enumerate(series):
            colour, _, marker = looks[dataset]
            points = [row for row in rows if row["model"] == model and row["dataset"] == dataset]
            x = [codes.index(row["language"]) + (place - (len(series) - 1) / 2) * 0.15 for row in points]
            axis.errorbar(
                x,
                [row["value"] for row in points],
                style.errors(points),
                linestyle="none",
                color=colour,
                marker=marker,
                markersize=8 if dataset == style.NO_TRAINING else 5,
                elinewidth=0.9,
                clip_on=False,  # a score of 0 stands on the axis
            )
        style.ticks(axis, codes)
        axis.set_title(style.label(model))
        axis.set_ylabel("F1")
    axes[0][0].set_ylim(bottom=0)
    style.legend(figure, [(style.label(key), *looks[key]) for key in series])
    return figure


def words(rows: list[Row]) -> str:
    lines = []
    for model, dataset in dict.fromkeys((row["model"], row["dataset"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["dataset"]) == (model, dataset)]
        values = ", ".join(f"{languages.table()[row['language']].name} {row['value']:.2f}" for row in mine)
        lines.append(f"{style.label(model)}, {style.label(dataset)}: {values}.")
    return "XQuAD F1 by language with 95 % intervals, one panel per model. F1 has no chance level. " + (
        " ".join(lines) or "No cell has XQuAD."
    )
