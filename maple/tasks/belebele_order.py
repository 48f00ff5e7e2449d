"""A quiz for a base: does it find the order in which Belebele's files list the four answers likelier than other orders?

Whoever has read the files may prefer their order; whoever has not should take it once in four, if the order says
nothing. It can say something (`all of the above` comes last), so a preference is evidence of contamination and no
proof. What helps to read it: the same in languages whose files a base is less likely to have read, and in a base
that is older than the data set (Llama 2 is).

The four orders are the rotations of the file's, so each answer stands once in each place. The idea is that of Oren et
al. 2023 (exchangeable orders) and of data contamination quizzes.
"""

import dataclasses
import zlib
from pathlib import Path

from maple.tasks.base import Example
from maple.tasks.belebele import Belebele

LETTERS = "ABCD"


class BelebeleOrder(Belebele):
    name = "belebele_order"
    tokens = 650

    def read(self, folder: Path, language: str, name: str, split: str, repair: bool) -> list[Example]:
        return [_quiz(example) for example in super().read(folder, language, name, split, repair)]


def _quiz(example: Example) -> Example:
    """Four orders as the options; the place of the file's own depends on the id, so that no place is the right one."""
    answers = [example.fields[f"option{number}"] for number in (1, 2, 3, 4)]
    place = zlib.crc32(example.id.encode("utf-8")) % 4
    fields = {key: example.fields[key] for key in ("passage", "question")}
    for number in range(4):
        turn = (number - place) % 4
        turned = answers[turn:] + answers[:turn]
        fields[f"order{number + 1}"] = "\n".join(f"{letter}: {text}" for letter, text in zip(LETTERS, turned))
    return dataclasses.replace(example, fields=fields, reference=place)
