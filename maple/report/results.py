"""Tables, verdicts, figures, claims and scores as the template shows them, read from the files of other stages."""

import csv
import itertools
import re
from pathlib import Path
from typing import Any

import markupsafe

from maple.core import storage
from maple.results import compare, published
from maple.results.collect import Collected
from maple.results.tables import MISSING, PAPER_TASKS
from maple.upstream import languages

# Verdict -> sign beside the number; the colour says the same again.
SIGNS = {
    compare.SAME: "=",
    compare.CONSISTENT: "≈",
    compare.DIFFERS: "≠",
    compare.MISSING: "∅",
    compare.QUOTED: "”",
    compare.NOT_COMPARABLE: "–",
}


def verdicts(folder: Path) -> dict[str, Any]:
    return storage.read_json(folder / "compare.json")


def claims(folder: Path) -> list[dict]:
    return storage.read_json(folder / "claims.json")["claims"]


def verdict(verdicts: dict[str, Any], claims: list[dict]) -> dict[str, str]:
    """What a reader wants first: how many cells and how many claims say what."""
    said = [claim["ours"]["verdict"] for claim in claims]
    counted = ", ".join(f"{said.count(one)} {one}" for one in dict.fromkeys(said))
    return {"cells": compare.sentence(compare.from_json(verdicts)), "claims": counted}


def rows_of(path: Path) -> list[dict[str, str]]:
    return storage.read_csv(path)


# -- Tables 1 and 2 ----------------------------------------------------------------------------------------------------


def paper_tables(folder: Path, verdicts: dict[str, Any]) -> list[dict]:
    """Ours beside the paper's. `details` holds what a cell opens; a cell's `id` is its place among all details."""
    judged = {(cell["table"], cell["row"], cell["column"]): cell for cell in verdicts["cells"]}
    tables, first = [], 0
    for name in published.TABLES:
        tables.append(_paper_table(published.layout(name), folder, judged, first))
        first += len(tables[-1]["details"])
    return tables


def _paper_table(layout: published.TableLayout, folder: Path, judged: dict, first: int) -> dict:
    with open(folder / f"{layout.name}.csv", encoding="utf-8", newline="") as file:
        printed = list(csv.reader(file))[1:]
    behind: dict[str, dict[str, dict]] = {}
    for row in rows_of(folder / "details" / f"{layout.name}_cells.csv"):
        behind.setdefault(row["row"], {})[row["column"]] = row
    # Rows below the paper's own (other training sets, the experiment), in the order in which details list them.
    known = {row.key for row in layout.rows}
    baselines = {row.key for row in layout.rows if row.baseline}
    keys = [row.key for row in layout.rows] + [key for key in behind if key not in known]
    rows, details, model = [], [], ""
    for key, texts in zip(keys, printed, strict=False):
        model = texts[0] or model
        cells = []
        for column, ours in zip(layout.columns, texts[len(layout.labels) :], strict=False):
            verdict = judged.get((layout.name, key, column.key), {})
            cell = {"ours": ours, "published": verdict.get("published", ""), "verdict": verdict.get("verdict", "")}
            cell |= {
                "sign": _sign(cell["verdict"]),
                "kind": _kind(cell["verdict"]),
                "at_chance": verdict.get("at_chance", False),
                "quoted": key in baselines,
            }
            if ours:
                cell["id"] = first + len(details)
                details.append(_detail(layout, key, column, ours, verdict, behind.get(key, {}).get(column.key, {})))
            cells.append(cell)
        rows.append(
            {
                "labels": texts[: len(layout.labels)],
                "model": model,
                "rule": key in layout.rules,
                "cells": cells,
                "differs": any(cell["kind"] in ("differs", "missing") for cell in cells),
            }
        )
    return {
        "name": layout.name,
        "title": layout.heading,
        "caption": layout.caption,
        "header": [*layout.labels, *(column.header for column in layout.columns)],
        "labels": len(layout.labels),
        "rows": rows,
        "details": details,
        "notes": layout.notes,
    }


def _detail(
    layout: published.TableLayout, key: str, column: published.Column, ours: str, verdict: dict, behind: dict
) -> dict:
    """Only what is known, so that the page carries no empty fields."""
    cell = {"table": layout.name, "row": key, "column": column.header, "ours": ours}
    cell |= {k: verdict.get(k) for k in ("published", "verdict", "difference", "tolerance", "where", "note")}
    of_ours = ("value", "low", "high", "n", "chance", "rank", "bits", "seed_range", "choice_cost", "corrected")
    cell |= {k: behind.get(k) for k in (*of_ours, "corrected_low", "corrected_high")}
    return {k: v for k, v in cell.items() if v} | {"cells": behind.get("cells", "").split()}


def _kind(verdict: str) -> str:
    """The verdict without what stands in brackets behind it."""
    return verdict.split(" (")[0]


def _sign(verdict: str) -> str:
    return SIGNS.get(_kind(verdict), "")


# -- Figures -----------------------------------------------------------------------------------------------------------


def figures(folder: Path) -> list[dict]:
    """Drawings as they are, with words and numbers for those who read instead."""
    found = []
    for path in sorted(folder.glob("*.svg"), key=lambda path: path.stem):
        title, text = path.with_suffix(".txt").read_text(encoding="utf-8").strip().split("\n\n", 1)
        rows = rows_of(path.with_suffix(".csv"))
        numbers = {
            "header": list(rows[0]) if rows else [],
            "rows": [[_short(value) for value in row.values()] for row in rows],
        }
        found.append({"name": path.stem, "title": title, "text": text, "svg": _inline(path), "numbers": numbers})
    return found


def _inline(path: Path) -> markupsafe.Markup:
    """A drawing of ours as part of the page; it grows and shrinks with it, and long coordinates are cut."""
    svg = path.read_text(encoding="utf-8")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    # Inside tags only: a tick label is text and stays as it is.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg)
    return markupsafe.Markup(re.sub(r"\n\s*", "\n", svg))


def _short(value: str) -> str:
    return re.sub(r"^(-?\d+\.\d{4})\d+$", r"\1", value)


# -- Grid, languages, analyses ---------------------------------------------------------------------------------------


def grid(path: Path) -> dict:
    """One row per cell, base and the experiment; one column per task and the average."""
    found: dict[str, dict] = {}
    for row in rows_of(path):
        line = found.setdefault(
            row["name"],
            {key: row[key] for key in ("name", "kind", "model", "dataset", "rank", "bits", "seed")} | {"scores": {}},
        )
        line["scores"][row["column"]] = row
    columns = list(dict.fromkeys(column for line in found.values() for column in line["scores"]))
    return {
        "columns": columns,
        "rows": [line | {"scores": [_score(line["scores"].get(c)) for c in columns]} for line in found.values()],
    }


def _score(row: dict[str, str] | None) -> dict[str, Any]:
    if row is None or row["value"] in ("", MISSING):
        return {"text": MISSING, "sort": "", "range": "", "at_chance": False}
    low, high = (f"{float(row[end]):.3f}" for end in ("low", "high"))
    chance = row.get("chance")
    return {
        "text": f"{float(row['value']):.3f}",
        "sort": row["value"],
        "range": f"95 % interval {low} to {high}, n {row['n']}",
        "at_chance": bool(chance) and float(row["low"]) <= float(chance),
    }


def language_tables(folder: Path, found: Collected) -> list[dict]:
    """Per task one row per language, one column per base, chosen configuration and the experiment."""
    tables = []
    metrics = {score.task: score.metric for score in found.scores if score.primary}
    further = sorted({path.stem for path in folder.glob("*.csv")} - set(PAPER_TASKS))
    for task in (*PAPER_TASKS, *further):
        path = folder / f"{task}.csv"
        if path.is_file():
            tables.append(_language_table(task, metrics.get(task, ""), rows_of(path)))
    return tables


def _language_table(task: str, metric: str, rows: list[dict[str, str]]) -> dict:
    columns = list(dict.fromkeys(row["column"] for row in rows))
    configurations = {row["column"]: row["configuration"] for row in rows}
    lines: dict[str, dict] = {}
    for row in rows:
        language = languages.table()[row["language"]]
        line = lines.setdefault(row["language"], {"language": language, "group": row["group"], "scores": {}})
        line["scores"][row["column"]] = _score(row)
    # A column is named model and training set; models stand once above theirs.
    header = [{"name": column.split(" ", 1)[-1], "configuration": configurations[column]} for column in columns]
    models = [
        (model, len(list(group))) for model, group in itertools.groupby(column.split(" ")[0] for column in columns)
    ]
    ordered = [
        line | {"scores": [line["scores"].get(column, _score(None)) for column in columns]} for line in lines.values()
    ]
    chance = next((row["chance"] for row in rows if row["chance"]), None)
    return {
        "task": task,
        "metric": metric,
        "chance": chance and f"{float(chance):.3f}",
        "models": models,
        "header": header,
        "rows": ordered,
    }


def questions(folder: Path) -> list[dict]:
    """The verdicts on what the paper does not say, as the first table of their Markdown."""
    path = folder / "questions.md"
    text = path.read_text(encoding="utf-8").split("\n## ")[0].split("\n", 1)[1] if path.is_file() else ""
    return [{"name": "questions", "text": text}] if text else []


def analyses(folder: Path) -> list[dict]:
    """What the tables stage worked out beyond the paper, as its Markdown."""
    return (
        [{"name": path.stem, "text": path.read_text(encoding="utf-8")} for path in sorted(folder.glob("*.md"))]
        if folder.is_dir()
        else []
    )
