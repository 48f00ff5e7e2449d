"""The grid's coordinates. A base is a base model at a bit width; a cell is an adapter trained on one.

>>> Cell.parse("mistral-7b-4bit.bactrian-x-22.r64.s42")
Cell(base=Base(model='mistral-7b', bits=4), dataset='bactrian-x-22', rank=64, seed=42)
"""

import itertools
import re
from dataclasses import dataclass

from maple.core.errors import MapleError

BITS = (4, 8, 16)


@dataclass(frozen=True, order=True)
class Base:
    model: str
    bits: int

    @property
    def name(self) -> str:
        return f"{self.model}-{self.bits}bit"

    @classmethod
    def parse(cls, name: str) -> "Base":
        match = re.fullmatch(r"([a-z0-9][a-z0-9.-]*)-(\d+)bit", str(name))
        if not match or int(match[2]) not in BITS:
            raise MapleError(
                f"'{name}' names no base",
                why="a base is a model and a bit width of 4, 8 or 16",
                do="write it like mistral-7b-4bit",
            )
        return cls(match[1], int(match[2]))


@dataclass(frozen=True, order=True)
class Cell:
    base: Base
    dataset: str
    rank: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.base.name}.{self.dataset}.r{self.rank}.s{self.seed}"

    @classmethod
    def parse(cls, name: str) -> "Cell":
        match = re.fullmatch(r"([a-z0-9-]+)\.([a-z0-9-]+)\.r([1-9]\d*)\.s(\d+)", name)
        if not match:
            raise MapleError(
                f"'{name}' names no cell",
                why="a cell is base, training set, rank (at least 1) and seed",
                do="write it like mistral-7b-4bit.alpaca.r8.s42",
            )
        return cls(Base.parse(match[1]), match[2], int(match[3]), int(match[4]))


def grid(bases: list[str], datasets: list[str], ranks: list[int], seeds: list[int]) -> list[Cell]:
    """Every combination, in the order in which the lists are written."""
    return [Cell(Base.parse(b), d, r, s) for b, d, r, s in itertools.product(bases, datasets, ranks, seeds)]
