"""How every figure looks, and how it is written so that equal numbers give equal bytes.

Colours are those of Okabe and Ito (2008), told apart with any colour vision; hatches and markers carry the same
distinction, so grey prints lose nothing.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib

matplotlib.use("agg")
from matplotlib.figure import Figure  # noqa: E402  (the backend is chosen first)
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

from maple.core import storage

RESOLUTION = 150
SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, selectable, read aloud
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "errorbar.capsize": 2,
}

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, BLACK, GREY = "#0072B2", "#D55E00", "#CC79A7", "#000000", "#999999"

# Training set: colour, hatch, marker.
TRAINING_SETS = {
    "multialpaca": (BLUE, "", "o"),
    "bactrian-x-22": (ORANGE, "///", "s"),
    "bactrian-x-11": (GREEN, "---", "^"),
    "alpaca": (PURPLE, "xxx", "D"),
}
SPARE = [(VERMILION, "\\\\\\", "v"), (SKY, "+++", "P"), (YELLOW, "|||", "X"), (GREY, "//", "*")]
NO_TRAINING = "none"
LABELS = {
    "multialpaca": "MultiAlpaca",
    "bactrian-x-22": "Bactrian-X-22",
    "bactrian-x-11": "Bactrian-X-11",
    "alpaca": "Alpaca",
    NO_TRAINING: "no finetuning",
    "llama-2-7b": "Llama-2-7B",
    "mistral-7b": "Mistral-7B",
    "xnli": "XNLI",
    "xcopa": "XCOPA",
    "xquad": "XQuAD",
    "belebele": "Belebele",
    "mlqa": "MLQA",
    "xlsum": "XLSum",
    "alpaca_eval": "AlpacaEval",
}


def label(key: str) -> str:
    """The paper's spelling, or the key itself for a model or training set that the paper does not have."""
    return LABELS.get(key, key)


def training_sets(found: set[str]) -> list[str]:
    """Those found, the paper's in its order first."""
    return [key for key in TRAINING_SETS if key in found] + sorted(found - set(TRAINING_SETS))


def look(keys: list[str]) -> dict[str, tuple[str, str, str]]:
    """Training set -> colour, hatch, marker."""
    spare = [key for key in keys if key not in TRAINING_SETS]
    return {key: TRAINING_SETS.get(key) or SPARE[spare.index(key) % len(SPARE)] for key in keys}


def canvas(width: float, height: float, **grid):
    """A figure of that many inches and its axes, an array of shape (rows, columns)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(squeeze=False, **grid)


def errors(rows: list[dict]) -> list[list[float]]:
    """Distances of the interval's ends from the value, as errorbar takes them: shape (2, rows).

    None is negative: resamples are of single-precision scores, so an interval without width can miss its value by 1e-9.
    """
    return [
        [max(row["value"] - row["low"], 0.0) for row in rows],
        [max(row["high"] - row["value"], 0.0) for row in rows],
    ]


def ticks(axis, labels: list[str]) -> None:
    axis.set_xticks(range(len(labels)), labels)
    axis.set_xlim(-0.5, max(1, len(labels)) - 0.5)


def chance(axis, level: float, left: float, right: float, label: str | None = None) -> None:
    axis.hlines(level, left, right, color=VERMILION, linestyle="--", linewidth=1.2, zorder=3, label=label)


def legend(figure: Figure, series: list[tuple[str, str, str, str]]) -> None:
    """One row above the panels; `series` is label, colour, hatch, marker."""
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=name) for name, colour, _, marker in series
    ]
    _legend(figure, handles)


def bar_legend(figure: Figure, series: list[tuple[str, str, str]], chance: bool) -> None:
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.6, label=name)
        for name, colour, hatch in series
    ]
    if chance:
        handles.append(Line2D([], [], color=VERMILION, linestyle="--", linewidth=1.2, label="chance"))
    _legend(figure, handles)


def _legend(figure: Figure, handles: list) -> None:
    if handles:
        figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=len(handles),
            handlelength=1.5,
            handletextpad=0.5,
            columnspacing=1.1,
        )


def save(draw: Callable[[], Figure], path: Path, title: str, text: str, label: str | None) -> None:
    """Draw and write `path`.svg and `path`.png; `text` is the alternative for those who cannot see the picture."""
    with matplotlib.rc_context(SETTINGS | {"svg.hashsalt": path.name}):
        figure = draw()
        if label:
            _mark(figure, label)
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # the second drawing keeps the places found for the first
        figure.savefig(
            png, format="png", dpi=RESOLUTION, metadata={"Software": None, "Title": title, "Description": text}
        )
    storage.write_text(path.with_suffix(".svg"), described(svg.getvalue(), path.name, title, text))
    storage.write_bytes(path.with_suffix(".png"), png.getvalue())


def _mark(figure: Figure, label: str) -> None:
    """The label below, and its first word (SMOKE) across the drawing."""
    figure.text(
        0.5,
        0.5,
        label.split(":")[0],
        fontsize=80,
        color=GREY,
        alpha=0.18,
        ha="center",
        va="center",
        rotation=20,
        zorder=10,
    )
    figure.supxlabel(label, fontsize=7, color=VERMILION, x=0.99, ha="right")


def described(svg: str, name: str, title: str, text: str) -> str:
    """The drawing with title and description for screen readers, fit to stand beside others in one HTML page.

    Ids that nothing refers to are dropped (every matplotlib drawing has a `patch_1`); the rest carry the figure's
    salt and stay.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    named = f'<svg role="img" aria-labelledby="{name}-title {name}-desc"'
    words = f'\n <title id="{name}-title">{escape(title)}</title>\n <desc id="{name}-desc">{escape(text)}</desc>'
    end = svg.index(">")
    svg = named + svg[len("<svg") : end + 1] + words + svg[end + 1 :]
    fallback = "'DejaVu Sans', Verdana, Arial, sans-serif"
    return svg.replace("'DejaVu Sans'", fallback)
