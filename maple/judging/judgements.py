"""Judgements on disk: the store that no judgement is paid for twice from, and the record of one model's."""

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.core import storage
from maple.core.errors import MapleError
from maple.metrics.win_rate import win_rate

STAND_IN = "stand-in"


@dataclass(frozen=True)
class Pair:
    """What a judge sees: an instruction, the reference model's answer and ours."""

    id: str
    instruction: str
    reference: str
    output: str


def key_of(pair: Pair, annotator: str, endpoint: str | None, seed: int) -> str:
    """Of what moves a judgement, but for the package's version: a complete store has to do without the package.

    The seed decides in which order the judge sees the answers.
    """
    return storage.fingerprint([annotator, endpoint, seed, pair.instruction, pair.reference, pair.output], digits=32)


class JudgementStore:
    """Judgements by what the judge saw, one JSON line each, appended as they come; a torn last line is dropped."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self.known: dict[str, float] = {}
        if self.path.exists():
            content = self.path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                os.truncate(self.path, len(whole))
            # Split before it is decoded, so that bytes that are no UTF-8 are named by their line too.
            for number, line in enumerate(whole.split(b"\n")[:-1], 1):
                try:
                    row = json.loads(line.decode("utf-8"))
                    # `true` would count as a win.
                    if isinstance(row["preference"], bool) or not 0 <= row["preference"] <= 1:
                        raise ValueError(f"a preference of {row['preference']}")
                    self.known[row["key"]] = float(row["preference"])
                except (ValueError, KeyError, TypeError) as error:
                    raise MapleError(
                        f"{self.path}, line {number}: not a judgement",
                        why=repr(error),
                        do="delete that line; the judge repeats it",
                    ) from error

    def add(self, key: str, preference: float) -> None:
        with self._lock, open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "preference": preference}) + "\n")
            self.known[key] = preference


def result(
    name: str, annotator: str, endpoint: str | None, reference: str, seed: int, found: dict[str, float | None]
) -> dict[str, Any]:
    """The content of judgements/<name>.json; what the judge could not decide is missing from n and rate."""
    preferences = {key: value for key, value in found.items() if value is not None}
    return {
        "schema": "maple.judgements/1",
        "name": name,
        "annotator": annotator,
        "endpoint": endpoint,
        "reference": reference,
        "seed": seed,
        "stand_in": annotator == STAND_IN,
        **win_rate(list(preferences.values()))._asdict(),
        "missing": [key for key, value in found.items() if value is None],
        "preferences": preferences,
    }
