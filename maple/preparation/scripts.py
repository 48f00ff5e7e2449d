"""Which writing system a text is in, letter by letter, and whether that is its language's.

>>> letters("Привет, world")["Cyrl"], letters("Привет, world")["Latn"]
(6, 5)
"""

import unicodedata
from functools import cache

import numpy as np
from fontTools.unicodedata import script

from maple.upstream import languages

# ISO 15924 codes that are told apart; a letter of any other script counts as `other`.
_TOLD = (
    *("Latn", "Cyrl", "Grek", "Arab", "Hebr", "Deva", "Beng", "Guru", "Gujr", "Taml", "Telu", "Knda", "Mlym", "Sinh"),
    *("Thai", "Mymr", "Khmr", "Ethi", "Geor", "Hang", "Kana", "Hani"),
)
CODES = (*_TOLD, "other")
# Scripts that are written with the letters of several.
_PARTS = {"Hans": ("Hani",), "Hant": ("Hani",), "Jpan": ("Kana", "Hani"), "Hang": ("Hang", "Hani")}
_NO_LETTER = len(CODES)
# Languages written without spaces between words, of which a letter is taken as a word where words are counted.
UNSPACED = ("Hans", "Hant", "Jpan", "Thai", "Mymr", "Khmr")


@cache
def _table() -> np.ndarray:
    """Code point -> index into CODES, or _NO_LETTER."""
    table = np.full(0x110000, _NO_LETTER, dtype=np.uint8)
    for point in range(0x110000):
        if unicodedata.category(chr(point))[0] == "L":
            code = script(chr(point))
            # Japanese writes both syllabaries, and its long-vowel mark belongs to either.
            code = "Kana" if code == "Hira" or chr(point) == "ー" else code
            # Letters that several scripts share (an Arabic tatweel, say) tell nothing.
            if code not in ("Zyyy", "Zinh"):
                table[point] = CODES.index(code if code in CODES else "other")
    return table


def letters(text: str) -> dict[str, int]:
    """Number of letters per script."""
    return dict(zip(CODES, counts(text).tolist()))


def counts(text: str) -> np.ndarray:
    """Number of letters per script, in the order of CODES."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return np.bincount(_table()[points], minlength=_NO_LETTER + 1)[:_NO_LETTER]


@cache
def expected(language: str) -> tuple[int, ...]:
    """Indices into CODES of the scripts that a language is written in."""
    indices: list[int] = []
    for written in languages.table()[language].script.split("/"):
        indices += [CODES.index(part if part in CODES else "other") for part in _PARTS.get(written, (written,))]
    return tuple(sorted(set(indices)))


def is_foreign(found: np.ndarray, language: str) -> bool:
    """Whether most letters are of another script than the language's; a text without letters is not."""
    total = int(found.sum())
    return total > 0 and 2 * int(found[list(expected(language))].sum()) < total


def is_unspaced(language: str) -> bool:
    return languages.table()[language].script.split("/")[0] in UNSPACED
