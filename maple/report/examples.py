"""A few answers of every model in every task and language, so that a score can be looked at.

The same items for all cells: prompt, options and reference are written once, per cell only what it answered.
"""

import itertools
import json
from pathlib import Path
from typing import Any

from maple.config.params import Params
from maple.core import storage

# Answers in the whole page; what is left over after one per cell, task and language goes to further ones.
BUDGET, MOST = 16000, 4
# Characters kept of the start and the end of a prompt (instruction, then question), and of an answer.
HEAD, TAIL, ANSWER = 240, 420, 240


def compact(folders: dict[str, tuple[Path, Path]], groups: list[tuple[str, str]]) -> dict[str, Any]:
    """`folders` has each model's answers and scores by name. `items`: [task, language, id, prompt, options,
    reference]; `answers` by name: one per item, 0 where it has none.

    An answer is [text, score, what was read from it] for generated text, the last 0 if it is the text itself, and
    [place of the chosen option, score, log-likelihoods] for options.
    """
    count = max(1, min(MOST, BUDGET // max(1, len(folders) * len(groups))))
    items: list[list] = []
    places: dict[tuple[str, str, str], int] = {}
    answers: dict[str, dict[int, list]] = {name: {} for name in folders}
    for task, language in groups:
        for name, (asked, scored) in folders.items():
            paths = [folder / f"{task}-{language}.jsonl.gz" for folder in (asked, scored)]
            if not all(path.is_file() for path in paths):
                continue
            pairs = zip(*map(storage.read_jsonl_gz, paths), strict=False)
            for row in itertools.islice((answer | score for answer, score in pairs), count):
                key = (task, language, str(row["id"]))
                if key not in places:
                    places[key] = len(items)
                    options = [option["text"] for option in row["options"]] if "output" not in row else 0
                    items.append(
                        [
                            *key,
                            shortened(row["prompt"], HEAD, TAIL),
                            options,
                            shortened(text_of(row["reference"], options), ANSWER, TAIL),
                        ]
                    )
                answers[name][places[key]] = _answer(row)
    return {
        "items": items,
        "answers": {name: [found.get(i, 0) for i in range(len(items))] for name, found in answers.items() if found},
    }


def side_by_side(params: Params, path: Path) -> list[dict[str, Any]]:
    """What finetuning changed, as maple/results/errors.py chose it: per model, training set and task the answers of the
    base and of the finetuned model under one another's question. Empty where the table or the answers are not here.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for chosen in storage.read_csv(path) if path.is_file() else []:
        key = tuple(chosen[name] for name in ("model", "dataset", "configuration", "task", "language"))
        groups.setdefault(key, []).append(chosen)
    found = []
    for key, rows in groups.items():
        sheet = f"{key[3]}-{key[4]}.jsonl.gz"
        base, tuned = (_read(params, rows[0][which], sheet) for which in ("base", "finetuned"))
        if base and tuned:
            here = [row for row in rows if row["id"] in base and row["id"] in tuned]
            lines = [_line(row["outcome"], base[row["id"]], tuned[row["id"]]) for row in here]
            found.append({"name": " ".join(key[:3]), "task": key[3], "language": key[4], "rows": lines})
    return found


def _read(params: Params, name: str, sheet: str) -> dict[str, dict[str, Any]]:
    """Example's id -> its answer and score."""
    paths = [params.folder(kind, name) / sheet for kind in ("answers", "scores")]
    if not all(path.is_file() for path in paths):
        return {}
    return {
        str(answer["id"]): answer | score for answer, score in zip(*map(storage.read_jsonl_gz, paths), strict=False)
    }


def _line(outcome: str, base: dict[str, Any], tuned: dict[str, Any]) -> dict[str, Any]:
    options = [option["text"] for option in base["options"]] if "output" not in base else 0

    def said(row: dict[str, Any]) -> dict[str, str]:
        text = row["output"] if "output" in row else text_of(row["prediction"], options)
        return {"text": shortened(text, ANSWER, 0), "score": f"{next(iter(row['scores'].values())):.2f}"}

    return {
        "outcome": outcome,
        "id": base["id"],
        "prompt": shortened(base["prompt"], 0, TAIL),
        "reference": shortened(text_of(base["reference"], options), ANSWER, TAIL),
        "base": said(base),
        "finetuned": said(tuned),
    }


def _answer(row: dict[str, Any]) -> list:
    scores = row.get("scores") or {}
    score = round(next(iter(scores.values())), 3) if scores else None
    if "output" not in row:
        logprobs = [round(option["logprob"], 1) for option in row["options"]]
        return [row["prediction"], score, logprobs]
    output, prediction = row["output"], text_of(row["prediction"])
    return [
        shortened(output, ANSWER, 0),
        score,
        0 if prediction.strip() == output.strip() else shortened(prediction, ANSWER, 0),
    ]


def text_of(value: Any, options: list[str] | int = 0) -> str:
    """A reference or prediction as text: the option it points to, or the accepted answers one after the other."""
    if value is None:
        return ""
    if isinstance(value, int) and options and 0 <= value < len(options):
        return options[value]
    if isinstance(value, list):
        return " | ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def shortened(text: str, head: int, tail: int) -> str:
    """The start and the end of a text that is longer than both.

    >>> shortened("abcdefghijklmno", 3, 2)
    'abc […] no'
    """
    if len(text) <= head + tail + 5:
        return text
    return f"{text[:head]} […] {text[-tail:] if tail else ''}".rstrip()
