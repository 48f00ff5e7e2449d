"""What sources.yaml describes: each model and data set with its pin, files, licence and known checksums.

>>> models()["mistral-7b"].hub_id
'mistralai/Mistral-7B-v0.1'
>>> datasets()["xcopa"].files(["th"], ["test"])
['th/test-*.parquet']
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from maple.upstream import languages
from maple.core.errors import MapleError, nearest

PATH = Path(__file__).parents[2] / "sources.yaml"


@dataclass(frozen=True)
class Source:
    """One entry; sources.yaml explains the fields."""

    kind: str
    key: str
    label: str
    hub_id: str
    revision: str
    licence: str
    gated: bool
    origin: str
    patterns: dict[str, str]
    rows: dict[str, int | dict[str, int]] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    commit_starts: str | None = None
    original: str | None = None
    origin_of_original: str | None = None
    columns: dict[str, str | None] | None = None
    languages: list[str] | None = None
    shape: dict[str, int] | None = None
    alternative: dict[str, str] | None = None
    notes: str = ""

    def folder(self, root: Path) -> Path:
        """Where the download stage puts it below artifacts/<profile>/sources."""
        return Path(root) / self.kind / self.key

    @property
    def page(self) -> str:
        """The repository's page, where a gated source's licence is accepted."""
        return "https://huggingface.co/" + ("datasets/" if self.kind == "datasets" else "") + self.hub_id

    def card(self) -> dict[str, str]:
        """What a model card or a table of licences says about it."""
        return {name: getattr(self, name) for name in ("hub_id", "revision", "licence", "origin", "page")}

    def origin_in(self, code: str) -> str:
        """Who wrote the text in a language."""
        return self.origin_of_original if self.origin_of_original and code == self.original else self.origin

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the languages that it has."""
        return tuple(self.languages or languages.of_task(self.key))

    @property
    def by_language(self) -> bool:
        return any("{" in pattern for pattern in self.patterns.values())

    def parts(self, codes: Iterable[str], splits: Iterable[str]) -> list[tuple[str, str, str]]:
        """(split, upstream's language name, path pattern) for each file or group of shards; a model's parts are all of it."""
        found = []
        for split in self.patterns if self.kind == "models" else splits:
            if split not in self.patterns:
                raise MapleError(
                    f"{self.key} has no split '{split}'", why="sources.yaml names no file for it", do=nearest(split, self.patterns)
                )
            pattern = self.patterns[split]
            for code, name in self._names(codes) if self.by_language else [("", "")]:
                found.append((split, name, pattern.format(code=code, name=name)))
        return found

    def files(self, codes: Iterable[str] = (), splits: Iterable[str] = ()) -> list[str]:
        """Upstream paths needed for the languages and splits; * where upstream numbers its shards."""
        return [pattern for _, _, pattern in self.parts(codes, splits)]

    def expected_rows(self, split: str, name: str) -> int | None:
        """Rows of a split in the language that upstream calls `name`; None where it is not known."""
        rows = self.rows.get(split)
        return rows.get(name) if isinstance(rows, dict) else rows

    def _names(self, codes: Iterable[str]) -> list[tuple[str, str]]:
        """(our code, upstream's name) pairs; two for a language with two variants."""
        pairs = []
        for code in codes:
            if code not in self.codes:
                why = "neither maple/upstream/languages.csv nor sources.yaml names a file for it"
                raise MapleError(f"{self.key} has no language '{code}'", why=why, do=nearest(code, self.codes))
            pairs += [(code, name) for name in languages.table()[code].upstream.get(self.key, (code,))]
        return pairs


def load(path: Path | None = None) -> dict[str, dict[str, Source]]:
    """kind -> key -> source; raises MapleError that names the entry and the wrong or missing field."""
    path = path or PATH
    known = {f.name for f in dataclasses.fields(Source)} - {"kind", "key", "patterns"} | {"files"}
    required = {"label", "hub_id", "revision", "licence", "gated", "origin", "files"}
    found: dict[str, dict[str, Source]] = {}
    for kind, entries in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        if kind not in ("models", "datasets"):
            raise MapleError(f"{path}: unknown block '{kind}'", why="a source is a model or a data set", do=nearest(kind, ("models", "datasets")))
        found[kind] = {}
        for key, entry in entries.items():
            for name in entry:
                if name not in known:
                    raise MapleError(f"{path}: {kind}.{key} has an unknown field '{name}'", why="no code reads it", do=nearest(name, known))
            for name in sorted(required - set(entry)):
                raise MapleError(f"{path}: {kind}.{key} has no '{name}'", why="every source states it", do="add it; the file's head explains it")
            fields: dict[str, Any] = {name: value for name, value in entry.items() if name != "files"}
            found[kind][key] = Source(kind=kind, key=key, patterns=entry["files"], **fields)
    return found


@cache
def _all(path: Path) -> dict[str, dict[str, Source]]:
    return load(path)


def models() -> dict[str, Source]:
    return _all(PATH)["models"]


def datasets() -> dict[str, Source]:
    return _all(PATH)["datasets"]


def training() -> dict[str, Source]:
    """The data sets of instruction rows, which a training set can be built from."""
    return {key: source for key, source in datasets().items() if source.columns}
