"""AlpacaEval (Li et al. 2023): answers to 805 English instructions, judged against a reference model's.

The model's answers are generated here; the judge stage scores them. AlpacaEval 1 compares with
text_davinci_003 (alpaca_eval.json), AlpacaEval 2 with gpt4_1106_preview (alpaca_eval_gpt4_baseline.json); the
instructions are the same, so both take their ids from the first file. A model is asked in the template that it was
finetuned with: prompt set `english` for prepare.template alpaca, `bactrian` for bactrian.
"""

from pathlib import Path

from maple.tasks import rows
from maple.tasks.base import Example, Task

FILES = {"text_davinci_003": "alpaca_eval.json", "gpt4_1106_preview": "alpaca_eval_gpt4_baseline.json"}
_SCHEMA = {"instruction": str, "output": str, "generator": str, "dataset": str}


class AlpacaEval(Task):
    name = source = "alpaca_eval"
    size, tokens = 805, 80
    splits = ("eval",)
    rule = "judge"
    answer_part = "text"
    # Only the end-of-text token ends an answer: instructions ask for lists and several paragraphs.
    stop = ()

    def read(self, folder: Path, language: str, name: str, split: str, repair: bool) -> list[Example]:
        found = rows.read([folder / FILES["text_davinci_003"]], _SCHEMA)
        return [
            Example(str(number), language, {"instruction": row["instruction"], "output": row["output"]}, row["output"])
            for _, number, row in found
        ]


def references(folder: Path, generator: str) -> dict[str, str]:
    """The reference model's answer to each instruction; an error where the file is another model's."""
    found = {}
    for path, number, row in rows.read([folder / FILES[generator]], _SCHEMA):
        if row["generator"] != generator:
            raise rows.bad_row(path, number, "generator", row["generator"], f"judge.reference is {generator}")
        if found.get(row["instruction"], row["output"]) != row["output"]:
            why = "it stands in an earlier row with another output, and which of the two is the reference is not known"
            raise rows.bad_row(path, number, "instruction", row["instruction"], why)
        found[row["instruction"]] = row["output"]
    return found
