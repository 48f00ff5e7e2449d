"""Writing results so that presence means completeness: to a temporary name first, renamed last.

A record is a JSON file that a stage writes last. `record.json` holds only what the inputs determine, so it
is the same bytes on every CPU run; time, memory and machine go to a bill (maple/config/bills.py).
"""

import contextlib
import csv
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import tempfile
import zlib
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
        raise _missing(path) from error
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
    """The rows that `write_jsonl_gz` wrote, one at a time; MapleError at the row where the file is damaged or cut."""
    number = 0
    try:
        with gzip.open(path, "rb") as file:
            for line in file:
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, dict):
                    raise ValueError(f"a {type(row).__name__} where a row should be")
                yield row
                number += 1
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise _damaged(f"{path}, row {number}", error) from error


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows that `write_csv` wrote, by column; MapleError where the file is damaged or cut."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        rows = list(csv.reader(io.StringIO(text), strict=True))
        if not rows or not text.endswith("\n"):
            raise ValueError("its last line has no end" if rows else "it is empty")
        for number, row in enumerate(rows):
            if len(row) != len(rows[0]):
                raise ValueError(f"row {number} has {len(row)} of {len(rows[0])} columns")
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (ValueError, csv.Error) as error:
        raise _damaged(path, error) from error
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def _missing(path: Path) -> MapleError:
    return MapleError(f"{path} is missing", why="the stage that writes it has not finished", do="run `dvc repro`")


def _damaged(where: Any, error: Exception) -> MapleError:
    return MapleError(f"{where}: the file is damaged or cut short", why=str(error), do="delete it and run `dvc repro`")


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A folder that appears whole or not at all: yields `<name>.part`, renames it when the body succeeds."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        _remove(part)
        part.mkdir(parents=True)
    except OSError as error:
        raise MapleError(
            f"could not write {part}",
            why=str(error),
            do="free some space or fix the permissions, then run the command again",
        ) from error
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _remove(path)
    part.rename(path)


def _remove(path: Path) -> None:
    """A folder, or a file or link that stands in its place; nothing to do where there is neither."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A folder below `parent` for as long as the body runs.

    A process that is killed leaves its own behind; the next one removes those that no living process holds.
    """
    parent = Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("tmp*"):
        with contextlib.suppress(OSError):
            held = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)
    folder, held = _held(parent)
    while not folder.exists():
        # Another process took it for abandoned before it was locked.
        os.close(held)
        folder, held = _held(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _held(parent: Path) -> tuple[Path, int]:
    folder = Path(tempfile.mkdtemp(dir=parent))
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    # Where a file system has no locks (some network disks do not), nobody can take the folder for abandoned either.
    with contextlib.suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_EX)
    return folder, held


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any, digits: int = 12) -> str:
    """A short hash of anything JSON can hold, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:digits]
