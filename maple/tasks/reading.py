"""What XQuAD and MLQA share: a question about a passage, answered by a span of the passage."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maple.tasks import rows
from maple.tasks.base import Example, Task


def check_answers(value: Any) -> str | None:
    """Why SQuAD's {"text": [...], "answer_start": [...]} is malformed, or None."""
    if not isinstance(value, dict) or not {"text", "answer_start"} <= set(value):
        return "must hold text and answer_start"
    texts, starts = value["text"], value["answer_start"]
    if not texts or len(texts) != len(starts):
        return "must hold at least one text, each with its answer_start"
    if not all(isinstance(text, str) and text for text in texts) or not all(type(start) is int for start in starts):
        return "texts must be non-empty text, answer_start whole numbers"
    return None


SCHEMA = {"id": str, "context": str, "question": str, "answers": check_answers}


class ReadingTask(Task):
    """Free-text answers; the gold answers are spans of the passage, whose offsets are checked."""

    long_field = "context"

    def from_rows(self, language: str, found: Iterable[tuple[Path, int, dict]]) -> list[Example]:
        examples = []
        for path, number, row in found:
            texts = row["answers"]["text"]
            for text, start in zip(texts, row["answers"]["answer_start"]):
                if row["context"][start : start + len(text)] != text:
                    raise rows.bad_row(
                        path, number, "answers", text, f"the passage does not have it at character {start}"
                    )
            fields = {"context": row["context"], "question": row["question"], "answer": texts[0]}
            examples.append(Example(row["id"], language, fields, texts))
        return examples
