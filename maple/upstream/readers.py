"""Rows of the upstream file formats, one at a time, so that a large file never stands in memory as a whole.

Formats by name: .parquet, .jsonl (one object a line), .json (one array), .json.gz (a gzipped array). A file that
breaks off or does not parse is named with the row at which it does.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maple.core.errors import MapleError, is_out_of_memory

AGAIN = "delete the file and run the download stage again"
_PARQUET_ROWS = 4096
_CHUNK = 1 << 14


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
                text = line.decode("utf-8-sig")
                yield _writable(json.loads(text), text)
            except (ValueError, RecursionError) as error:
                raise MapleError(f"{path}, row {number}: not valid JSON", why=str(error), do=AGAIN) from error


def _array(path: Path) -> Iterator[Any]:
    """The items of one JSON array, read as a stream: json's own decoder on one item at a time."""
    decoder, number, after = json.JSONDecoder(), 0, "["
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            text = file.read(_CHUNK).lstrip()
            if not text.startswith("["):
                raise MapleError(f"{path} is not a JSON array", why=f"it begins with {text[:20]!r}", do=AGAIN)
            text = text[1:]
            while True:
                text = text.lstrip()
                if text.startswith("]") and after != ",":
                    if (text[1:] + file.read()).strip():
                        raise ValueError("text follows the end of the array")
                    return
                if text.startswith(",") and after == "item":
                    text, after = text[1:], ","
                elif text and after == "item":
                    raise ValueError(f"a comma is missing before {text[:20]!r}")
                else:
                    try:
                        item, end = decoder.raw_decode(text)
                    except json.JSONDecodeError:
                        # Cut by the end of what was read, or damaged: the rest of the file tells.
                        if not (more := file.read(max(_CHUNK, len(text)))):
                            raise
                        text += more
                        continue
                    yield _writable(item, text[:end])
                    number, text, after = number + 1, text[end:], "item"
    except (ValueError, RecursionError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MapleError(f"{path}, row {number}: the file is damaged or cut short", why=str(error), do=AGAIN) from error


def _writable(value: Any, text: str) -> Any:
    """The value of a JSON text. Half of a surrogate pair, which JSON can write and UTF-8 cannot, becomes U+FFFD."""
    if "\\ud" not in text.lower():
        return value
    plain = json.dumps(value, ensure_ascii=False)
    return json.loads(plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
