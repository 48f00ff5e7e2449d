"""Tokenised rows, which rows an optimiser step takes, and how they are packed into forward passes."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from maple.core.errors import MapleError


class Rows:
    """A tokenised training set, memory-mapped: row i is its token ids and the index of its first answer token."""

    def __init__(self, path: Path):
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
        except (OSError, pa.ArrowInvalid) as error:
            raise MapleError(
                f"cannot read {path}", why=str(error), do="run `dvc repro` for its prepare stage"
            ) from error
        tokens = table["input_ids"].combine_chunks()
        # Not `to_numpy`, which imports pandas.
        self._tokens, self._offsets, self._answers = map(
            np.from_dlpack, (tokens.values, tokens.offsets, table["answer_start"].combine_chunks())
        )
        self._ids, self._languages = table["id"], table["language"]
        self.lengths = np.diff(self._offsets)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._tokens[self._offsets[index] : self._offsets[index + 1]], int(self._answers[index])

    def name(self, index: int) -> str:
        """`<language>/<id>`: the translations of a seed instruction share its id."""
        return f"{self._languages[index].as_py()}/{self._ids[index].as_py()}"

    def answer_tokens(self, indices: list[int]) -> int:
        """Tokens that carry loss. The first token of a row never does: nothing precedes it."""
        return int(sum(self.lengths[i] - max(self._answers[i], 1) for i in indices))


def steps(rows: int, batch_rows: int, epochs: float, max_steps: int | None, seed: int) -> list[list[int]]:
    """Row indices of every optimiser step: each epoch a new shuffle, the last step of an epoch possibly short.

    >>> [len(step) for step in steps(rows=10, batch_rows=4, epochs=1, max_steps=None, seed=0)]
    [4, 4, 2]
    """
    wanted = round(rows * epochs)
    order: list[int] = []
    result: list[list[int]] = []
    epoch = 0
    while len(order) < wanted:
        shuffled = list(range(rows))
        random.Random(f"{seed}/{epoch}").shuffle(shuffled)
        shuffled = shuffled[: wanted - len(order)]
        order += shuffled
        result += [shuffled[i : i + batch_rows] for i in range(0, len(shuffled), batch_rows)]
        epoch += 1
    return result[:max_steps]


def pack(lengths: dict[int, int], limit: int) -> list[list[int]]:
    """Row indices grouped so that no group exceeds `limit` tokens (a longer row is a group of its own).

    First-fit decreasing: the longest row first, each into the first group with room. Order is deterministic.

    >>> pack({0: 5, 1: 3, 2: 4}, limit=8)
    [[0, 1], [2]]
    """
    groups: list[list[int]] = []
    room: list[int] = []
    for index in sorted(lengths, key=lambda i: (-lengths[i], i)):
        for group, left in enumerate(room):
            if lengths[index] <= left:
                groups[group].append(index)
                room[group] -= lengths[index]
                break
        else:
            groups.append([index])
            room.append(limit - lengths[index])
    return groups


@dataclass(frozen=True)
class Packed:
    """One forward pass: rows end to end in one sequence of T tokens; positions restart at each row."""

    input_ids: np.ndarray  # int64 [T]
    position_ids: np.ndarray  # int64 [T]
    predicts: np.ndarray  # int64 [A]: positions whose next token is an answer token
    labels: np.ndarray  # int64 [A]: those next tokens
    lengths: np.ndarray  # int64 [rows]: tokens of each row


def join(rows: Rows, indices: list[int]) -> Packed:
    ids, positions, predicts, labels = [], [], [], []
    start = 0
    for index in indices:
        tokens, answer = rows[index]
        first = max(answer, 1)
        ids.append(tokens)
        positions.append(np.arange(len(tokens)))
        predicts.append(np.arange(start + first - 1, start + len(tokens) - 1))
        labels.append(tokens[first:])
        start += len(tokens)
    joined = (np.concatenate(parts).astype(np.int64) for parts in (ids, positions, predicts, labels))
    return Packed(*joined, lengths=np.array([len(part) for part in ids]))
