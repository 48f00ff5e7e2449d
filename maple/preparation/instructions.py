"""Instruction rows of the training sources, whatever their schema: one dataclass, each row with its seed's id.

An id names a seed instruction: Bactrian-X has the same one in all its languages. Sources without an id column get
one per row, `alpaca-12` or, where each language has seeds of its own, `multialpaca-ar-12` (counted from 0).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.config.catalogue import Source
from maple.core.errors import MapleError
from maple.upstream import readers


@dataclass(frozen=True, slots=True)
class Instruction:
    """`input` and `output` may be empty; `row` counts from 0 within the language; `origin` says who wrote the text."""

    id: str
    language: str
    instruction: str
    input: str
    output: str
    source: str
    origin: str
    row: int


def read(source: Source, folder: Path, languages: Iterable[str]) -> Iterator[Instruction]:
    """Rows language by language in upstream's order; `folder` is sources/datasets/<key>.

    A malformed row raises MapleError with file, row and field.
    """
    if not source.columns:
        raise MapleError(
            f"{source.key} has no instruction rows",
            why="sources.yaml names no `columns` for it",
            do="name a training source",
        )
    wanted = sorted({name for name in source.columns.values() if name})
    for code in languages:
        number = 0
        for _, _, pattern in source.parts([code], ["train"]):
            for path in _present(Path(folder), pattern):
                for row in readers.rows(path, columns=wanted):
                    yield _instruction(source, code, path, number, row)
                    number += 1


def _present(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise MapleError(
            f"{folder / pattern} is missing",
            why="the source is not downloaded for this language",
            do="run the download stage",
        )
    return paths


def _instruction(source: Source, code: str, path: Path, number: int, row: dict[str, Any]) -> Instruction:
    columns = source.columns

    def text(field: str, optional: bool) -> str:
        name = columns[field]
        value = row.get(name)
        # Upstream files write "no input" as null, as "" or by leaving the key out; an empty answer as "" or null.
        if value is None and (optional or name in row):
            return ""
        if not isinstance(value, str):
            shown = "missing" if name not in row else f"{value!r:.60}"
            raise MapleError(
                f"{path}, row {number}: field '{name}' is {shown}", why="it must be text", do=readers.AGAIN
            )
        return value

    if columns.get("id"):
        identity = text("id", optional=False)
        if not identity:
            raise MapleError(
                f"{path}, row {number}: field '{columns['id']}' is empty",
                why="translations are joined by it",
                do=readers.AGAIN,
            )
    else:
        identity = f"{source.key}-{code}-{number}" if source.by_language else f"{source.key}-{number}"
    return Instruction(
        id=identity,
        language=code,
        instruction=text("instruction", optional=False),
        input=text("input", optional=True),
        output=text("output", optional=False),
        source=source.key,
        origin=source.origin_in(code),
        row=number,
    )
