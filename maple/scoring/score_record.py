"""The score folder of one model: a record checked as it is written, and every example.

    scores/<name>/record.json                              what the inputs determine, the same bytes at every run
    scores/<name>/bill.json                                time, memory, machine
    scores/<name>/examples/<task>-<language>.jsonl.gz      one line per example
"""

import math
from typing import Any

from maple.core import storage
from maple.core.errors import MapleError
from maple.answering.questions import Sheet

SCHEMA = "maple.scores/1"
# Which libraries can move a score.
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers")

_NUMBER = (int, float)
_TEXT, _MAYBE_TEXT, _MAYBE_INT = (str,), (str, type(None)), (int, type(None))
_RECORD = {
    "schema": _TEXT,
    "profile": _TEXT,
    "kind": _TEXT,
    "name": _TEXT,
    "model": _TEXT,
    "bits": (int,),
    "dataset": _MAYBE_TEXT,
    "rank": _MAYBE_INT,
    "seed": _MAYBE_INT,
    "evaluated_bits": (int,),
    "scores": (list,),
    "counts": (dict,),
    "heldout_loss": (dict, type(None)),
    "sources": (dict,),
    "versions": (dict,),
}
_SCORE = {
    "task": _TEXT,
    "language": _TEXT,
    "metric": _TEXT,
    "primary": (bool,),
    "value": _NUMBER,
    "n": (int,),
    "low": _NUMBER,
    "high": _NUMBER,
    "chance": (*_NUMBER, type(None)),
    "signature": _TEXT,
}


def signature(asked: Sheet, metric: str, bits: str, revision: str, versions: dict[str, str]) -> str:
    """All that a score depends on besides the model's weights, readable, with a fingerprint that also covers every
    character shown to the model.

        task:xnli|lang:ar|prompt:english/xnli@1f2e3d4c|shots:0|scoring:loglikelihood/none|metric:accuracy|split:test|...
    """
    options = asked.options
    scoring = options.normalisation if options.scoring == "loglikelihood" else f"{options.max_new_tokens} tokens"
    parts = [
        f"task:{asked.task.name}",
        f"lang:{asked.language}",
        f"prompt:{asked.form.name}@{asked.form.fingerprint[:8]}",
        f"shots:{options.shots}" + (f"/{options.shot_language}" if options.shots else ""),
        f"scoring:{options.scoring}/{scoring}",
        f"metric:{metric}" + ("/repaired" if options.repair else ""),
        f"split:{options.split}",
        f"source:{asked.task.source}@{revision[:7]}",
        f"base:{bits}",
        *(f"{name}:{versions[name]}" for name in LIBRARIES),
    ]
    text = "|".join(parts)
    return f"{text}#{storage.fingerprint([text, asked.texts()])}"


def check(found: dict[str, Any]) -> dict[str, Any]:
    """`found` if it is a score record, else MapleError that names the wrong key."""
    _check_keys(found, _RECORD, "record")
    if found["schema"] != SCHEMA:
        raise _wrong("schema", found["schema"], f"it must be {SCHEMA}")
    if found["kind"] not in ("cell", "base", "experiment"):
        raise _wrong("kind", found["kind"], "it must be cell, base or experiment")
    seen = set()
    for place, row in enumerate(found["scores"]):
        where = f"scores[{place}]"
        _check_keys(row, _SCORE, where)
        for key in ("value", "low", "high"):
            if not (math.isfinite(row[key]) and 0 <= row[key] <= 1):
                raise _wrong(f"{where}.{key}", row[key], "a score lies between 0 and 1")
        if row["n"] < 1:
            raise _wrong(f"{where}.n", row["n"], "a score is over at least one example")
        key = (row["task"], row["language"], row["metric"])
        if key in seen:
            raise _wrong(where, " ".join(key), "it stands there twice")
        seen.add(key)
    return found


def _check_keys(found: dict, schema: dict[str, tuple], where: str) -> None:
    for key in found.keys() | schema.keys():
        if key not in schema or key not in found:
            raise _wrong(f"{where}.{key}", "missing" if key in schema else "present", "the schema has exactly the keys of maple/scoring/score_record.py")
        # bool is an int in Python, but true is not a number of examples.
        if not isinstance(found[key], schema[key]) or (isinstance(found[key], bool) and bool not in schema[key]):
            raise _wrong(f"{where}.{key}", repr(found[key]), "it is of another type")


def _wrong(key: str, value: Any, why: str) -> MapleError:
    return MapleError(f"score record: {key} is {value}", why=why, do="nothing was written; please report this defect")
