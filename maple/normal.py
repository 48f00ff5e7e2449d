"""Text reduced to what is compared: duplicates, overlap, hashes that are equal on every machine."""

import hashlib
import re
import unicodedata
from functools import cache


@cache
def _ignored() -> re.Pattern:
    """Runs of punctuation, symbols, separators and control characters. Marks stay: in Indic scripts they are vowels."""
    ranges: list[list[int]] = []
    for point in range(0x20000):
        if unicodedata.category(chr(point))[0] in "PSZC":
            if ranges and ranges[-1][1] == point - 1:
                ranges[-1][1] = point
            else:
                ranges.append([point, point])
    return re.compile("[" + "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in ranges) + "]+")


def reduced(text: str) -> str:
    """Case, punctuation, spaces and compatibility forms removed.

    >>> reduced("Name  3 colours!") == reduced("name ３ colours")
    True
    """
    return _ignored().sub("", unicodedata.normalize("NFKC", text).casefold())


def words(text: str, unspaced: bool) -> list[str]:
    """Lower-case words without punctuation; every character of a language without spaces.

    >>> words("To be, or not.", unspaced=False)
    ['to', 'be', 'or', 'not']
    """
    if unspaced:
        return list(reduced(text))
    return _ignored().sub(" ", unicodedata.normalize("NFKC", text).casefold()).split()


def hash64(text: str) -> int:
    """A 64-bit hash, the same in every process and on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
