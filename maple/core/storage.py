"""Writing results so that presence means completeness: to a temporary name first, renamed last.

A record is a JSON file that a stage writes last. `record.json` holds only what the inputs determine, so it
is the same bytes on every CPU run; time, memory and machine go to a bill (maple/config/bills.py).
"""

import contextlib
import csv
import gzip
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from maple.core.errors import MapleError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that appears whole or not at all: yields `<name>.part`, flushes it to disk and renames it when the body
    succeeds. A full disk, for one, leaves neither a half file nor the part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise MapleError(
            f"could not write {path}",
            why=str(error),
            do="free some space or fix the permissions, then run the command again",
        ) from error


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_csv(path: Path, rows: Iterable[dict[str, Any]], columns: list[str]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Readable JSON, keys in the order given, NaN refused (a failure is never a number)."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MapleError(
            f"{path} is missing", why="the stage that writes it has not finished", do="run `dvc repro`"
        ) from error
    except ValueError as error:
        raise MapleError(f"{path} is not valid JSON", why=str(error), do="delete it and run `dvc repro`") from error


def read_record(path: Path, schema: str) -> dict[str, Any]:
    """A record of a schema; MapleError where it is another one, or a file that only looks like one."""
    found = read_json(path)
    if not isinstance(found, dict) or found.get("schema") != schema:
        held = found.get("schema") if isinstance(found, dict) else type(found).__name__
        raise MapleError(
            f"{path} is no record of {schema}",
            why=f"it holds {held!r}",
            do=f"delete {Path(path).parent} and run `dvc repro`",
        )
    return found


def write_jsonl_gz(path: Path, rows: Iterable[dict]) -> None:
    """Gzipped JSON lines with no timestamp inside, so equal rows give equal bytes."""
    lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_bytes(path, gzip.compress(lines.encode("utf-8"), mtime=0))


def read_jsonl_gz(path: Path) -> Iterator[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A folder that appears whole or not at all: yields `<name>.part`, renames it when the body succeeds."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if path.exists():
        shutil.rmtree(path)
    part.rename(path)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any, digits: int = 12) -> str:
    """A short hash of anything JSON can hold, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:digits]
