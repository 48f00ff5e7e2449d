"""Rows of upstream's files, checked against the fields that a task reads.

A schema is {field: kind} with kind str, int, or a function that returns the reason why a value is wrong (or
None). Fields that a task does not read are left alone, since upstream adds columns now and then.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from maple.core.errors import MapleError
from maple.upstream import readers
from maple.upstream.readers import AGAIN

Schema = dict[str, type | Callable[[Any], str | None]]


def read(paths: list[Path], schema: Schema) -> Iterator[tuple[Path, int, dict]]:
    """(file, row number from 0, row) over the files of a split."""
    for path in paths:
        for number, row in enumerate(readers.rows(path)):
            for field, kind in schema.items():
                if field not in row:
                    why = f"the row has {', '.join(row)}"
                    raise MapleError(f"{path}, row {number}: field '{field}' is missing", why=why, do=AGAIN)
                why = _wrong_kind(row[field], kind) if isinstance(kind, type) else kind(row[field])
                if why:
                    raise bad_row(path, number, field, row[field], why)
            yield path, number, row


def shards(folder: Path, split: str) -> list[Path]:
    """`<split>-00000-of-0000N.parquet`, all N of them."""
    paths = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    if not paths:
        # The reader reports it as missing.
        return [folder / f"{split}-00000-of-00001.parquet"]
    total = int(re.search(r"-of-(\d+)", paths[0].name)[1])
    if len(paths) != total:
        raise MapleError(
            f"{folder}: {len(paths)} of {total} files of {split}", why="the download is not complete", do=AGAIN
        )
    return paths


def one_of(*values: Any) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        # 1 == True in Python, but a label that is a bool is not one of 0, 1.
        wrong = isinstance(value, bool) or value not in values
        return f"must be one of {', '.join(map(repr, values))}" if wrong else None

    return check


def bad_row(path: Path, number: int, field: str, value: Any, why: str) -> MapleError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return MapleError(f"{path}, row {number}: field '{field}' is {shown}", why=why, do=AGAIN)


def _wrong_kind(value: Any, kind: type) -> str | None:
    if type(value) is not kind:
        return f"must be {'text' if kind is str else 'a whole number'}"
    return "must not be empty" if kind is str and not value.strip() else None
