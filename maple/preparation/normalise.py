"""Text reduced to what is compared: duplicates, overlap, hashes that are equal on every machine."""

import hashlib
import unicodedata
from functools import cache

import numpy as np


@cache
def _ignored() -> np.ndarray:
    """Code point -> whether it is punctuation, symbol, separator or control. Marks are not: in Indic scripts they are
    vowels.
    """
    table = np.zeros(0x110000, dtype=bool)
    for point in range(0x20000):
        table[point] = unicodedata.category(chr(point))[0] in "PSZC"
    return table


def _points(text: str) -> np.ndarray:
    """Code points of the text, lower-cased and in compatibility form."""
    text = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def reduced(text: str) -> str:
    """Case, punctuation, spaces and compatibility forms removed.

    >>> reduced("Name  3 colours!") == reduced("name ３ colours")
    True
    """
    points = _points(text)
    return points[~_ignored()[points]].tobytes().decode("utf-32-le", "surrogatepass")


def words(text: str, unspaced: bool) -> list[str]:
    """Lower-case words without punctuation; every character of a language without spaces.

    >>> words("To be, or not.", unspaced=False)
    ['to', 'be', 'or', 'not']
    """
    if unspaced:
        return list(reduced(text))
    points = _points(text)
    return np.where(_ignored()[points], np.uint32(32), points).tobytes().decode("utf-32-le", "surrogatepass").split()


def hash64(text: str) -> int:
    """A 64-bit hash, the same in every process and on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
