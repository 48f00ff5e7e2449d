"""What the models were trained and scored on: statistics of the training sets, sources with their pins and licences."""

from pathlib import Path
from typing import Any

from maple import languages, record, sources as pinned
from maple.collected import Collected
from maple.params import Params


def training_sets(params: Params) -> list[dict[str, Any]]:
    """One entry per prepared training set: its statistics as blocks to show, and its example rows as Markdown."""
    found = []
    for name in params.datasets:
        folder = params.artifacts / "prepared" / name
        if (folder / "statistics.json").is_file():
            examples = folder / "examples.md"
            text = examples.read_text(encoding="utf-8") if examples.is_file() else ""
            found.append({"name": name, "blocks": blocks(record.read_json(folder / "statistics.json")), "examples": text})
    return found


def blocks(statistics: dict[str, Any]) -> list[dict[str, Any]]:
    """A nested dict as things a page can show: `facts` (key and value) and `tables` (dicts of alike dicts).

    >>> blocks({"rows": 2, "languages": {"en": {"rows": 1}, "th": {"rows": 1}}})[0]["facts"]
    [('rows', '2')]
    """
    facts, tables = [], []
    for key, value in statistics.items():
        title = key.replace("_", " ")
        if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
            tables.append(_table(title, value))
        elif isinstance(value, dict):
            facts += [(f"{title}: {inner.replace('_', ' ')}", _text(number)) for inner, number in value.items()]
        else:
            facts.append((title, _text(value)))
    return ([{"title": "", "facts": facts}] if facts else []) + tables


def _table(title: str, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    known = languages.table()
    lines = [
        {"name": f"{known[name].name} ({name})" if name in known else name, "cells": [_text(row.get(column)) for column in columns]}
        for name, row in rows.items()
    ]
    return {"title": title, "header": [column.replace("_", " ") for column in columns], "rows": lines}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)


def sources(params: Params, found: Collected) -> list[dict[str, Any]]:
    """The pinned models and data sets that this profile uses, with the commit that was really read."""
    path = params.artifacts / "sources" / "record.json"
    resolved = record.read_json(path) if Path(path).is_file() else {}
    rows = []
    for kind, entries in (("models", pinned.models()), ("datasets", pinned.datasets())):
        for key, source in entries.items():
            here = resolved.get(kind, {}).get(key)
            if here is None and resolved:
                continue
            commit = (here or {}).get("commit") or source.revision
            rows.append({"label": source.label, "kind": kind[:-1], "commit": commit} | source.card() | {"gated": source.gated})
    return rows
