"""XCOPA (Ponti et al. 2020): which of two alternatives is the more plausible cause or effect of a premise.

Upstream's `question` field (cause or effect) is wrong in five languages: compared with the six that agree with
one another on every row, 52 of 100 validation and 250 of 500 test rows differ in Thai, 52 and 51 in Turkish, 6
and 37 in Swahili, 5 and 4 in Indonesian and Italian. Everybody scores the field as it is, so that is the default;
`repair` takes it, by `idx`, from a file of an agreeing language.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maple.core.errors import MapleError
from maple.tasks import rows
from maple.tasks.base import ChoiceTask, Example

AGREEING = ("et", "ht", "qu", "ta", "vi", "zh")
_SCHEMA = {
    "premise": str,
    "choice1": str,
    "choice2": str,
    "question": rows.one_of("cause", "effect"),
    "label": rows.one_of(0, 1),
    "idx": int,
}


class Xcopa(ChoiceTask):
    name = source = "xcopa"
    size, tokens = 500, 90
    splits = ("validation", "test")
    shots_from = {"test": ("xcopa", "validation")}

    def check(self, options: Any) -> None:
        super().check(options)
        if options.repair and self.more_for_repair(options.languages):
            raise _no_agreeing()

    def more_for_repair(self, codes: Iterable[str]) -> list[str]:
        return [] if set(codes) & set(AGREEING) else [AGREEING[0]]

    def read(self, folder: Path, language: str, name: str, split: str, repair: bool) -> list[Example]:
        questions = _agreed_questions(folder, split) if repair and name not in AGREEING else {}
        examples = []
        for path, number, row in rows.read(rows.shards(folder / name, split), _SCHEMA):
            question = questions.get(row["idx"], row["question"])
            if questions and row["idx"] not in questions:
                raise rows.bad_row(path, number, "idx", row["idx"], "the agreeing language has no such row")
            fields = {key: row[key] for key in ("premise", "choice1", "choice2")} | {"question": question}
            examples.append(
                Example(str(row["idx"]), language, fields, row["label"], repaired=question != row["question"])
            )
        return examples

    def derive(self, example: Example, words: dict[str, str]) -> dict[str, str]:
        fields = example.fields
        return fields | {
            "connector": words[fields["question"]],
            # As lm-evaluation-harness has it: the premise without its last character, whatever that is. Thai and
            # nearly all Tamil premises have no full stop and so lose a letter.
            "premise_cut": fields["premise"].strip()[:-1],
            "premise_stem": re.sub(r"[.!?。！？।]+$", "", fields["premise"].strip()),
            "choice1_lower": fields["choice1"][:1].lower() + fields["choice1"][1:],
            "choice2_lower": fields["choice2"][:1].lower() + fields["choice2"][1:],
        }


def _agreed_questions(folder: Path, split: str) -> dict[int, str]:
    for name in AGREEING:
        if list((folder / name).glob(f"{split}-*.parquet")):
            found = rows.read(rows.shards(folder / name, split), _SCHEMA)
            return {row["idx"]: row["question"] for _, _, row in found}
    raise _no_agreeing()


def _no_agreeing() -> MapleError:
    return MapleError(
        "XCOPA's `question` cannot be repaired",
        why=f"the right values come from one of {', '.join(AGREEING)}, and none is asked for",
        do="add one of them to evaluation.tasks.xcopa.languages, or set repair to false",
    )
