"""Small exercises over the word lists of a language, the same seeds in every language.

An exercise is drawn as indices into the lexicon, so that its translations are parallel by construction:

>>> seed = draw(random.Random(0), "last")
>>> solve("en", seed)[0]
'Which word comes last in this list?'
"""

import random
import zlib
from dataclasses import dataclass

from maple.smoke import texts

KINDS = ("first", "last", "animal", "opposite", "capital")


@dataclass(frozen=True)
class Seed:
    """An exercise without words: indices into the lexicon."""

    kind: str
    items: tuple[int, ...]

    @property
    def is_for_evaluation(self) -> bool:
        """One in four, met nowhere else."""
        return zlib.crc32(f"{self.kind} {self.items}".encode()) % 4 == 0


def draw(rng: random.Random, kind: str, evaluation: bool = False) -> Seed:
    while (seed := _draw(rng, kind)).is_for_evaluation != evaluation:
        pass
    return seed


def _draw(rng: random.Random, kind: str) -> Seed:
    if kind in ("opposite", "capital"):
        return Seed(kind, tuple(rng.sample(range(6), rng.randrange(1, 4))))
    # Words 0 to 5 are animals; this exercise has one of them at any place, the others as many as fall.
    words = rng.sample(range(6, 18), 3) if kind == "animal" else rng.sample(range(18), rng.randrange(3, 6))
    if kind == "animal":
        words.insert(rng.randrange(4), rng.randrange(6))
    return Seed(kind, tuple(words))


def solve(language: str, seed: Seed) -> tuple[str, str, str]:
    """Instruction, list and answer of a seed in a language."""
    lexicon = texts.load(language)
    if seed.kind in ("opposite", "capital"):
        pairs = list(lexicon["opposites" if seed.kind == "opposite" else "capitals"].items())
        shown, answer = [pairs[index][0] for index in seed.items], [pairs[index][1] for index in seed.items]
    else:
        words = lexicon["animals"] + lexicon["colours"] + lexicon["foods"]
        shown = [words[index] for index in seed.items]
        place = {"first": 0, "last": -1}.get(seed.kind)
        answer = (
            shown[place : place + 1 or None]
            if place is not None
            else [words[index] for index in seed.items if index < 6]
        )
    return lexicon["exercises"][seed.kind], lexicon["comma"].join(shown), lexicon["comma"].join(answer)
