"""Belebele (Bandarkar et al. 2023): four-way multiple choice about a FLORES passage, 900 parallel questions.

Files are named by FLORES code, exactly as in languages.csv: never by prefix, since hin_Latn and others are
romanised variants. Chinese has two files (Hans and Hant); both are read, and the language's score is over both.
There is only a test split, so there is nothing to take shots from.
"""

from pathlib import Path

from maple.tasks import rows
from maple.tasks.base import ChoiceTask, Example

_ANSWERS = tuple(f"mc_answer{i}" for i in (1, 2, 3, 4))
_SCHEMA = {
    "link": str,
    "question_number": int,
    "flores_passage": str,
    "question": str,
    **dict.fromkeys(_ANSWERS, str),
    # Text, and counted from one.
    "correct_answer_num": rows.one_of("1", "2", "3", "4"),
}


class Belebele(ChoiceTask):
    name = source = "belebele"
    size, tokens = 900, 260  # about half of a passage: 488 for 900 questions
    splits = ("test",)

    def read(self, folder: Path, language: str, name: str, split: str, repair: bool) -> list[Example]:
        examples = []
        for _, _, row in rows.read([folder / "data" / f"{name}.jsonl"], _SCHEMA):
            fields = {"passage": row["flores_passage"], "question": row["question"].strip()}
            fields |= {f"option{i}": row[key] for i, key in enumerate(_ANSWERS, 1)}
            # Together they identify a question in all languages.
            identity = f"{row['link']} {row['question_number']}"
            examples.append(Example(identity, language, fields, int(row["correct_answer_num"]) - 1))
        return examples
