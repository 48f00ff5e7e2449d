"""Overlap of training text with evaluation items: n words in a row that both have, or a whole question or passage.

Both texts are lower-cased and lose their punctuation (maple/preparation/normalise.py). In languages written without
spaces each character counts as a word. Texts are compared within a language. The items of a language are hashed once
into sorted arrays on disk, which all processes map.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maple.core.storage import read_json, write_json
from maple.preparation import normalise, scripts

# Fields that are a question or a passage; of these a whole text that equals a training text counts.
WHOLE = ("premise", "hypothesis", "context", "passage", "question", "text", "instruction")
# A shorter text is no sign of anything ("What is his name?"): characters without punctuation and spaces.
SHORTEST = 24
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Item:
    task: str
    id: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Index:
    """Hashes in ascending order and, beside each, the item's number; `items` are (task, id) pairs."""

    ngrams: np.ndarray
    ngram_items: np.ndarray
    wholes: np.ndarray
    whole_items: np.ndarray
    items: list[tuple[str, str]]


def build(items: list[Item], language: str, n: int, folder: Path) -> None:
    """Write the index of one language's evaluation items."""
    unspaced = scripts.is_unspaced(language)
    ngrams, owners, wholes, whole_owners = [], [], [], []
    for number, item in enumerate(items):
        hashed, _ = ngram_hashes([normalise.words(text, unspaced) for text in item.fields.values()], n)
        hashed = np.unique(hashed)
        ngrams.append(hashed)
        owners.append(np.full(len(hashed), number, dtype=np.int32))
        for name in WHOLE:
            text = normalise.reduced(item.fields.get(name, ""))
            if len(text) >= SHORTEST:
                wholes.append(normalise.hash64(text))
                whole_owners.append(number)
    folder.mkdir(parents=True, exist_ok=True)
    for name, hashes, numbers in (
        (
            "ngrams",
            np.concatenate(ngrams) if ngrams else np.zeros(0, np.uint64),
            np.concatenate(owners) if owners else [],
        ),
        ("wholes", np.array(wholes, dtype=np.uint64), whole_owners),
    ):
        order = np.argsort(hashes, kind="stable")
        np.save(folder / f"{language}.{name}.npy", hashes[order])
        np.save(folder / f"{language}.{name}.items.npy", np.asarray(numbers, dtype=np.int32)[order])
    write_json(folder / f"{language}.json", [[item.task, item.id] for item in items])


def load(folder: Path, language: str) -> Index | None:
    """The index of a language, or None where no task evaluates it."""
    if not (folder / f"{language}.json").exists():
        return None
    arrays = [
        np.load(folder / f"{language}.{name}.npy", mmap_mode="r")
        for name in ("ngrams", "ngrams.items", "wholes", "wholes.items")
    ]
    return Index(*arrays, [tuple(pair) for pair in read_json(folder / f"{language}.json")])


def ngram_hashes(texts: list[list[str]], n: int) -> tuple[np.ndarray, np.ndarray]:
    """(hash, index of the text) of every n words in a row; a text shorter than n words has none."""
    lengths = [len(words) for words in texts]
    total = sum(lengths)
    if total < n:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    flat = np.fromiter(
        (zlib.crc32(word.encode("utf-8", "surrogatepass")) for words in texts for word in words), np.uint64, total
    )
    owner = np.repeat(np.arange(len(texts)), lengths)
    hashed = np.zeros(total - n + 1, dtype=np.uint64)
    for place in range(n):
        hashed = hashed * _PRIME + flat[place : place + len(hashed)]
    inside = owner[: len(hashed)] == owner[n - 1 :]
    return hashed[inside], owner[: len(hashed)][inside]


def find(index: Index, texts: list[tuple[str, ...]], language: str, n: int) -> list[tuple[int, str, str, str]]:
    """(number of the training text, task, item's id, kind) for each pair that overlaps; a text has several fields."""
    unspaced = scripts.is_unspaced(language)
    hashes, owners = ngram_hashes([normalise.words("\n".join(fields), unspaced) for fields in texts], n)
    hits = _pairs(index.ngrams, index.ngram_items, hashes, owners, f"{n} words")
    wholes = [
        (normalise.hash64(text), i)
        for i, fields in enumerate(texts)
        for text in map(normalise.reduced, fields)
        if len(text) >= SHORTEST
    ]
    if wholes:
        values, numbers = zip(*wholes)
        hits |= _pairs(
            index.wholes, index.whole_items, np.array(values, dtype=np.uint64), np.array(numbers), "whole text"
        )
    return [(text, *index.items[item], kind) for text, item, kind in sorted(hits)]


def _pairs(
    known: np.ndarray, items: np.ndarray, hashes: np.ndarray, owners: np.ndarray, kind: str
) -> set[tuple[int, int, str]]:
    first = np.searchsorted(known, hashes, side="left")
    last = np.searchsorted(known, hashes, side="right")
    return {
        (int(owners[i]), int(item), kind) for i in np.flatnonzero(last > first) for item in items[first[i] : last[i]]
    }
