"""Rows of upstream's files, checked against the fields that a task reads.

A schema is {field: kind} with kind str, int, or a function that returns the reason why a value is wrong (or
None). Fields that a task does not read are left alone, since upstream adds columns now and then.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from maple.errors import MapleError

Schema = dict[str, type | Callable[[Any], str | None]]
AGAIN = "delete the file and run the download stage again"


def parquet(paths: list[Path], schema: Schema) -> Iterator[tuple[Path, int, dict]]:
    """(file, row number from 0, row) over the shards of a split."""
    import pyarrow
    import pyarrow.parquet

    for path in paths:
        try:
            table = pyarrow.parquet.read_table(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise MapleError(f"{path} is not a readable parquet file", why=str(error), do=AGAIN) from error
        for name in schema:
            if name not in table.column_names:
                raise MapleError(
                    f"{path}: no column '{name}'",
                    why=f"it has {', '.join(table.column_names)}",
                    do="take the revision pinned in sources.yaml",
                )
        for number, row in enumerate(table.to_pylist()):
            yield path, number, _checked(path, number, row, schema)


def jsonl(path: Path, schema: Schema) -> Iterator[tuple[Path, int, dict]]:
    """(file, row number from 0, row) of a JSON lines file."""
    with open(_present(path), encoding="utf-8") as file:
        for number, line in enumerate(file):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise MapleError(f"{path}, row {number}: not valid JSON", why=str(error), do=AGAIN) from error
            yield path, number, _checked(path, number, row, schema)


def json_array(path: Path, schema: Schema) -> Iterator[tuple[Path, int, dict]]:
    """(file, row number from 0, row) of a file that holds one JSON array."""
    try:
        rows = json.loads(_present(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise MapleError(f"{path} is not valid JSON", why=str(error), do=AGAIN) from error
    if not isinstance(rows, list):
        raise MapleError(f"{path} is not a JSON array", why=f"it holds a {type(rows).__name__}", do=AGAIN)
    for number, row in enumerate(rows):
        yield path, number, _checked(path, number, row, schema)


def shards(folder: Path, split: str) -> list[Path]:
    """`<split>-00000-of-0000N.parquet`, all N of them."""
    paths = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    if not paths:
        raise _missing(folder / f"{split}-00000-of-00001.parquet")
    total = int(re.search(r"-of-(\d+)", paths[0].name)[1])
    if len(paths) != total:
        raise MapleError(f"{folder}: {len(paths)} of {total} files of {split}", why="the download is not complete", do=AGAIN)
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


def _checked(path: Path, number: int, row: Any, schema: Schema) -> dict:
    if not isinstance(row, dict):
        raise MapleError(f"{path}, row {number}: not an object", why=f"it is a {type(row).__name__}", do=AGAIN)
    for field, kind in schema.items():
        if field not in row:
            raise MapleError(f"{path}, row {number}: field '{field}' is missing", why=f"it has {', '.join(row)}", do=AGAIN)
        value = row[field]
        if isinstance(kind, type):
            why = None if type(value) is kind else f"must be {kind.__name__}"
            if kind is str and not why and not value.strip():
                why = "must not be empty"
        else:
            why = kind(value)
        if why:
            raise bad_row(path, number, field, value, why)
    return row


def _present(path: Path) -> Path:
    if not path.exists():
        raise _missing(path)
    return path


def _missing(path: Path) -> MapleError:
    return MapleError(f"{path} is missing", why="the source is not downloaded for this language and split", do="run the download stage")
