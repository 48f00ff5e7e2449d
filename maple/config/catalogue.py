"""What sources.yaml describes: each model and data set with its pin, files, licence and known checksums.

>>> models()["mistral-7b"].hub_id
'mistralai/Mistral-7B-v0.1'
>>> datasets()["xcopa"].paths(["th"], ["test"])
['th/test-*.parquet']
"""

import dataclasses
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictBool, StrictStr

from maple.config import reading
from maple.config.reading import Text, block
from maple.core.errors import MapleError, nearest
from maple.upstream import languages

PATH = Path(__file__).parents[2] / "sources.yaml"
# The revision of a source that is no repository: its files' own hashes say what it was.
LOCAL = "local"
# A source's name is that of its folder.
NAME = r"[a-z0-9][a-z0-9_-]*"
AS_BLOCKS = "each source is a block of keys"
RESTORE = "see the other sources there, or restore it: git checkout sources.yaml"


Sha256 = Annotated[StrictStr, Field(pattern="^[0-9a-f]{64}$", description="64 hexadecimal digits")]


@block
class StandIn:
    """The tiny model that takes a base's place in the smoke profile: its folder here, and what its files must be."""

    folder: Text
    sha256: Annotated[dict[Text, Sha256], Field(min_length=1)]


@block
class Source:
    """One entry; sources.yaml explains the fields. A local source has `path` in place of `hub_id` and `revision`."""

    kind: str
    key: str
    label: Text
    licence: Text
    gated: StrictBool
    origin: Text
    files: Annotated[dict[Text, Text], Field(min_length=1)]
    hub_id: Text = ""
    revision: Text = LOCAL
    path: Text | None = None
    rows: dict[str, int | dict[str, int]] = Field(default_factory=dict)
    sha256: dict[str, Sha256] = Field(default_factory=dict)
    bytes: dict[str, int] = Field(default_factory=dict)
    commit_starts: str | None = None
    original: str | None = None
    origin_of_original: str | None = None
    columns: dict[str, str | None] | None = None
    languages: list[str] | None = None
    shape: dict[str, int] | None = None
    alternative: dict[str, str] | None = None
    stand_in: StandIn | None = None
    notes: str = ""

    @property
    def is_local(self) -> bool:
        """Whether its files lie in a folder of this machine instead of on the Hub."""
        return self.path is not None

    def folder(self, root: Path) -> Path:
        """Where the download stage puts it below artifacts/<profile>/sources."""
        return Path(root) / self.kind / self.key

    @property
    def page(self) -> str:
        """The repository's page, where a gated source's licence is accepted; of a local source its folder."""
        if self.is_local:
            return self.path
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
        return any("{" in pattern for pattern in self.files.values())

    def parts(self, codes: Iterable[str], splits: Iterable[str]) -> list[tuple[str, str, str]]:
        """(split, upstream's language name, path pattern) for each file or group of shards; a model's parts are all
        of it.
        """
        found = []
        for split in self.files if self.kind == "models" else splits:
            if split not in self.files:
                raise MapleError(
                    f"{self.key} has no split '{split}'",
                    why="sources.yaml names no file for it",
                    do=nearest(split, self.files),
                )
            pattern = self.files[split]
            for code, name in self._names(codes) if self.by_language else [("", "")]:
                found.append((split, name, pattern.format(code=code, name=name)))
        return found

    def paths(self, codes: Iterable[str] = (), splits: Iterable[str] = ()) -> list[str]:
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
    found: dict[str, dict[str, Source]] = {"models": {}, "datasets": {}}
    for kind, entries in reading.read(path).items():
        if kind not in ("models", "datasets"):
            raise MapleError(
                f"{path}: unknown block '{kind}'",
                why="a source is a model or a data set",
                do=nearest(kind, ("models", "datasets")),
            )
        found[kind] = {}
        if not isinstance(entries, dict):
            raise MapleError(f"{path}: '{kind}' holds no entries", why=AS_BLOCKS, do=RESTORE)
        for key, entry in entries.items():
            where = f"{path}: {kind}.{key}"
            if not isinstance(entry, dict):
                raise MapleError(f"{where} is {entry!r}"[:200], why=AS_BLOCKS, do=RESTORE)
            if not re.fullmatch(NAME, str(key)):
                why = "a source's name is a folder's, of small letters, digits, hyphens and underscores"
                raise MapleError(f"{path}: '{kind}' has the entry '{key}'", why=why, do="name it so")
            source = reading.build(Source, {"kind": kind, "key": key} | entry, where)
            if source.is_local == bool(source.hub_id) or source.is_local != (source.revision == LOCAL):
                raise MapleError(
                    f"{where} says twice or not at all where it is",
                    why="a source is on the Hub (hub_id and revision) or in a folder (path)",
                    do="keep one of the two",
                )
            for split, pattern in source.files.items():
                try:
                    pattern.format(code="en", name="en")
                except (KeyError, IndexError, ValueError) as error:
                    why = "braces in it may only hold code or name"
                    raise MapleError(f"{where}: 'files.{split}' is '{pattern}'", why=why, do="correct it") from error
            found[kind][key] = dataclasses.replace(source, hub_id=source.path) if source.is_local else source
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
