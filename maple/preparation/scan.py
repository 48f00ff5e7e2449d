"""The first pass of preparation: each row reduced to a few hashes and flags, so that choosing rows needs no text.

A row takes 41 bytes: the 1.5 million rows of the full Bactrian-X-22 stand in 60 MB.
"""

import dataclasses
import unicodedata
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maple.config.catalogue import Source
from maple.preparation import instructions, normalise, scripts
from maple.preparation.instructions import Instruction

EMPTY_INSTRUCTION, EMPTY_OUTPUT, OTHER_SCRIPT = 1, 2, 4


@dataclass(frozen=True)
class Scan:
    """One language of a source, an element per row in the file's order.

    `key` is a hash of seed and id: sorting by it shuffles the seed instructions, in the same way in each language.
    `exact` and `near` are hashes of the whole row as it is and reduced (maple/preparation/normalise.py), `prompt` of
    the reduced instruction and input, `text` of the reduced instruction alone.
    """

    language: str
    key: np.ndarray
    exact: np.ndarray
    near: np.ndarray
    prompt: np.ndarray
    text: np.ndarray
    flags: np.ndarray

    def __len__(self) -> int:
        return len(self.key)


def clean(row: Instruction, form: str) -> Instruction:
    """The row without outer white space and in one Unicode form (`none` leaves it)."""

    def text(value: str) -> str:
        value = value.strip()
        if value.isascii():
            return value
        # Half of a surrogate pair, which JSON can hold and UTF-8 cannot, becomes "?".
        value = value.encode("utf-8", "replace").decode("utf-8")
        return value if form == "none" else unicodedata.normalize(form, value)

    return dataclasses.replace(row, instruction=text(row.instruction), input=text(row.input), output=text(row.output))


def scan(source: Source, folder: Path, language: str, form: str, seed: int) -> Scan:
    columns = [array("Q") for _ in range(5)]
    flags = bytearray()
    for row in instructions.read(source, folder, [language]):
        row = clean(row, form)
        text, given, answer = (
            normalise.reduced(row.instruction),
            normalise.reduced(row.input),
            normalise.reduced(row.output),
        )
        values = (
            f"{seed}/{row.id}",
            f"{row.instruction}\0{row.input}\0{row.output}",
            f"{text}\0{given}\0{answer}",
            f"{text}\0{given}",
            text,
        )
        for column, value in zip(columns, values):
            column.append(normalise.hash64(value))
        foreign = scripts.is_foreign(scripts.counts(row.instruction), language)
        flags.append(
            EMPTY_INSTRUCTION * (not row.instruction) | EMPTY_OUTPUT * (not row.output) | OTHER_SCRIPT * foreign
        )
    return Scan(
        language,
        *(np.frombuffer(column, dtype=np.uint64) for column in columns),
        np.frombuffer(bytes(flags), dtype=np.uint8),
    )
