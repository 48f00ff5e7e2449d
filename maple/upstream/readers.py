"""Rows of the upstream file formats, one at a time, so that a large file never stands in memory as a whole.

Formats by name: .parquet, .jsonl (one object a line), .json (one array), .json.gz (a gzipped array). A file that
breaks off or does not parse is named with the row at which it does.
"""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from maple.core.errors import MapleError, is_out_of_memory

AGAIN = "delete the file and run the download stage again"
_PARQUET_ROWS = 4096


def rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Each row as a dict; `columns` spares reading the others of a parquet file (missing ones are left out)."""
    path = Path(path)
    if not path.exists():
        raise MapleError(
            f"{path} is missing",
            why="the source is not downloaded for this language and split",
            do="run the download stage",
        )
    found = (
        _parquet(path, columns)
        if path.suffix == ".parquet"
        else _lines(path)
        if path.suffix == ".jsonl"
        else _array(path)
    )
    for number, row in enumerate(found):
        if not isinstance(row, dict):
            raise MapleError(f"{path}, row {number}: not an object", why=f"it is a {type(row).__name__}", do=AGAIN)
        yield row


def count(path: Path) -> int:
    """Rows in the file; JSON is read to its end, so a truncated file is found here."""
    if Path(path).suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.read_metadata(path).num_rows
        except (pyarrow.ArrowException, OSError) as error:
            if is_out_of_memory(error):
                raise
            raise MapleError(f"{path} is not a readable parquet file", why=str(error), do=AGAIN) from error
    return sum(1 for _ in rows(path))


def _parquet(path: Path, columns: list[str] | None) -> Iterator[dict]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            wanted = None if columns is None else [name for name in file.schema_arrow.names if name in columns]
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                yield from batch.to_pylist()
                number += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        if is_out_of_memory(error):
            raise
        raise MapleError(
            f"{path} is not a readable parquet file", why=f"after row {number}: {error}", do=AGAIN
        ) from error


def _lines(path: Path) -> Iterator[Any]:
    # Bytes, so that a line that is no UTF-8 is named like one that is no JSON.
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise MapleError(f"{path}, row {number}: not valid JSON", why=str(error), do=AGAIN) from error


def _array(path: Path) -> Iterator[Any]:
    """The items of one JSON array, read as a stream."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(1024)
            mark = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
            # ijson gives no items for an object, which would pass for an empty array.
            if not head[mark:].lstrip().startswith(b"["):
                raise MapleError(f"{path} is not a JSON array", why=f"it begins with {head[mark:20]!r}", do=AGAIN)
            file.seek(mark)
            for item in ijson.items(file, "item", use_float=True):
                yield item
                number += 1
    except (ijson.JSONError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise MapleError(f"{path}, row {number}: the file is damaged or cut short", why=str(error), do=AGAIN) from error
