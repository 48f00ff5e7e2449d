"""What the models were trained and scored on: pages of training sets, sources with commits and licences."""

from typing import Any

from maple.config import catalogue as pinned
from maple.config.params import Params
from maple.core import storage


def training_sets(params: Params) -> list[dict[str, str]]:
    """Name and Markdown page of every prepared training set."""
    paths = {name: params.artifacts / "prepared" / name / "examples.md" for name in params.datasets}
    return [{"name": name, "text": path.read_text(encoding="utf-8")} for name, path in paths.items() if path.is_file()]


def sources(params: Params) -> list[dict[str, Any]]:
    """The models and data sets that were fetched, with the commit that was read; all pinned ones where none was."""
    path = params.artifacts / "sources" / "record.json"
    fetched = storage.read_json(path) if path.is_file() else None
    rows = []
    for kind, entries in (("models", pinned.models()), ("datasets", pinned.datasets())):
        for key, source in entries.items():
            if fetched is None or key in fetched[kind]:
                commit = fetched[kind][key]["commit"] if fetched else source.revision
                rows.append(
                    {"label": source.label, "kind": kind.rstrip("s"), "commit": commit, "gated": source.gated}
                    | source.card()
                )
    return rows
