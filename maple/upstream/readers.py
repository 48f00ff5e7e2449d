"""Rows of the upstream file formats, one at a time, so that a large file never stands in memory as a whole.

Formats by name: .parquet, .jsonl (one object a line), .json (one array), .json.gz (a gzipped array). A file that
breaks off or does not parse is named with the row at which it does.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from maple.core.errors import MapleError

AGAIN = "delete the file and run the download stage again"
_CHUNK = 1 << 20
_PARQUET_ROWS = 4096
_SPACE = re.compile(r"[ \t\r\n]*")


def rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Each row as a dict; `columns` spares reading the others of a parquet file (missing ones are left out)."""
    path = Path(path)
    if not path.exists():
        raise MapleError(f"{path} is missing", why="the source is not downloaded for this language and split", do="run the download stage")
    found = _parquet(path, columns) if path.suffix == ".parquet" else _lines(path) if path.suffix == ".jsonl" else _array(path)
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
        raise MapleError(f"{path} is not a readable parquet file", why=f"after row {number}: {error}", do=AGAIN) from error


def _lines(path: Path) -> Iterator[Any]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise MapleError(f"{path}, row {number}: not valid JSON", why=str(error), do=AGAIN) from error


def _array(path: Path) -> Iterator[Any]:
    """The items of one JSON array. The decoder takes an item at a time from a sliding piece of text."""
    decode = json.JSONDecoder().raw_decode
    number = 0
    try:
        with _text(path) as file:
            piece, at = file.read(_CHUNK).lstrip("\ufeff \t\r\n"), 1
            if not piece.startswith("["):
                raise MapleError(f"{path} is not a JSON array", why=f"it begins with {piece[:20]!r}", do=AGAIN)
            while True:
                at = _SPACE.match(piece, at).end()
                # Refill before the piece runs out; an item that is cut by its end is decoded again with more text.
                if len(piece) - at < _CHUNK // 4:
                    piece, at = piece[at:] + file.read(_CHUNK), 0
                    at = _SPACE.match(piece, at).end()
                if piece[at : at + 1] == "]":
                    return
                if number and piece[at : at + 1] == ",":
                    at = _SPACE.match(piece, at + 1).end()
                elif number:
                    raise ValueError("a comma or the array's end is missing")
                while True:
                    try:
                        item, at = decode(piece, at)
                        break
                    except ValueError:
                        more = file.read(_CHUNK)
                        if not more:
                            raise
                        piece, at = piece[at:] + more, 0
                yield item
                number += 1
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MapleError(f"{path}, row {number}: the file is damaged or cut short", why=str(error), do=AGAIN) from error


def _text(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
