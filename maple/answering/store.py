"""Answers of a model, kept as they come, so that a killed evaluation goes on where it stopped.

One file per task and language: a line with the settings that determine the answers, then one line per example, which ends
with the hash of what comes before it.
`<name>.jsonl.part` grows, flushed to disk after every batch; when the last answer is in, it becomes `<name>.jsonl`.
A file made under other settings (another adapter, prompt, split, library version, ...) is discarded, never mixed in.
"""

import json
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from maple.core import storage
from maple.core.errors import MapleError

SCHEMA = "maple.predictions/1"


class AnswerStore:
    """`rows` holds the answers so far by example id; `sealed` says that they are all there, those `wanted` at least.

    store = AnswerStore(folder / "xnli-ar.jsonl", {"task": "xnli", "split": "test"})
    store.append([{"id": "0", "output": "True"}])
    store.seal()
    """

    def __init__(self, path: Path, settings: dict[str, Any], wanted: Collection[str] = ()):
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.rows: dict[str, dict[str, Any]] = {}
        self.header = {"schema": SCHEMA, "fingerprint": storage.fingerprint(settings, 32), "settings": settings}
        self.sealed = self._read(self.path)
        if self.sealed and not set(wanted) <= self.rows.keys():
            logging.info("%s lacks %d answers: asked again", self.path, len(set(wanted) - self.rows.keys()))
            os.replace(self.path, self.part)
            self.sealed = False
        if not self.sealed:
            self._read(self.part)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add answers; when this returns, they survive a killed process and a power cut."""
        rows = list(rows)
        new = [self.header] if not self.part.exists() else []
        checked = [row | {"check": storage.fingerprint(row)} for row in rows]
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in new + checked)
        try:
            self.part.parent.mkdir(parents=True, exist_ok=True)
            with open(self.part, "a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MapleError(
                f"could not write {self.part}", why=str(error), do="free some space, then run the command again"
            ) from error
        self.rows |= {row["id"]: row for row in rows}

    def seal(self) -> None:
        os.replace(self.part, self.path)
        self.sealed = True

    def _read(self, path: Path) -> bool:
        """Take over the rows of a file of the same settings; cut off a last line that a kill left unfinished."""
        if not path.exists():
            return False
        good, rows = 0, []
        with open(path, "rb") as file:
            for line in file:
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    row = None
                if row is None:
                    break
                good += len(line)
                rows.append(row)
        if not rows or rows[0] != self.header:
            logging.info("%s was made under other settings: discarded", path)
            path.unlink()
            return False
        if good < path.stat().st_size:
            os.truncate(path, good)
        for row in rows[1:]:
            # What a disk or a hand has changed since is no answer of the model: it is asked for again.
            if row.pop("check", None) == storage.fingerprint(row):
                self.rows[row["id"]] = row
            else:
                logging.info("%s: an answer has changed since it was stored: dropped", path)
        return True
