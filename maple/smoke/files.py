"""The file formats of the upstream repositories; equal rows give equal bytes."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from maple.core import storage


def parquet(path: Path, rows: list[dict], schema: pa.Schema) -> None:
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
    storage.write_bytes(path, buffer.getvalue())


def jsonl(path: Path, rows: list[dict]) -> None:
    storage.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def json_array(path: Path, rows: list[dict]) -> None:
    storage.write_text(path, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def json_array_gz(path: Path, rows: list[dict]) -> None:
    storage.write_bytes(path, gzip.compress(json.dumps(rows, ensure_ascii=False).encode(), mtime=0))
