"""Attention while answers are written: what prompts share is stored once, and finished answers leave the batch.

Numbers of keys are rounded up to a multiple of ALIGNED, with keys of zeros that a bias of -inf hides: where rows do not
begin at a multiple of 16 bytes, a GPU's products are several times slower.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from maple.answering.prefix_tree import Row
from maple.answering.tree_attention import Prefix

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
Layers = Iterator[KeysAndValues]


@dataclass
class Part:
    """Some rows, in each of which the same number of prompts ends, and those prompts, row after row.

    Two questions about passage A and two about passage B make one part: rows [A, B], prompts [A1, A2, B1, B2].
    In every array the key heads come first.
    """

    rows: np.ndarray  # numbers of the rows
    prompts: np.ndarray  # places of their prompts among all that are being answered
    kept: list[KeysAndValues]  # per layer (key heads, rows, longest, width): of the rows' tokens
    own: list[KeysAndValues]  # per layer (key heads, prompts, places, width): of what was written
    # (prompts, 1, prefix + longest + places): 0, or -inf for keys that a prompt does not see.
    bias: torch.Tensor


class Decoding:
    """One token per prompt and step. A token sees the prefix of its group and its path in its row, both stored once
    for all prompts that share them, and what was written after its own prompt.

    `kept` holds keys and values of `rows`, in their order, in one or more parts, and is emptied; `leaves` names for
    each prompt its row and the place in it that the prompt ends at (-1: it ends in the prefix), sorted by row.
    """

    # Places for written tokens, added this many at a time: a multiple of ALIGNED.
    BLOCK = 64
    ALIGNED = 8

    def __init__(
        self,
        rows: Sequence[Row],
        prefix: Prefix,
        kept: Sequence[Prefix],
        leaves: Sequence[tuple[int, int]],
        device: torch.device,
    ):
        self.written, self._places, self._device = 0, self.BLOCK, device
        # Of the prefix, per layer (key heads, tokens, width).
        self._prefix = [tuple(self._padded(x[0]) for x in layer) for layer in zip(prefix.keys, prefix.values)]
        self._before, self._prefix_length = self._round(prefix.length), prefix.length
        longest = self._round(max(part.length for part in kept))
        self._depths, until = (np.zeros((len(rows), longest), np.int64) for _ in range(2))
        for number, row in enumerate(rows):
            self._depths[number, : len(row)], until[number, : len(row)] = row.depths, row.until
        self._rows, places = (np.array(column) for column in zip(*leaves))
        here = np.arange(longest)
        # (prompts, longest): the tokens of its row that are on a prompt's path.
        self._seen = (places[:, None] >= here) & (places[:, None] < until[self._rows])
        self._arrange(np.arange(len(rows)), _taken(kept, longest), np.arange(len(leaves)), iter(()))

    def at(self, depths: Sequence[int]) -> torch.Tensor:
        """Begin a step, which reads one token per prompt at these depths."""
        self.written += 1
        if self.written > self._places:
            self._places += self.BLOCK
            for part in self._parts:
                part.bias = F.pad(part.bias, (0, self.BLOCK), value=-torch.inf)
        for part in self._parts:
            part.bias[..., self.written - 1 - self._places] = 0
        self._at = np.array(depths)
        self._far: dict[tuple[int, int], torch.Tensor] = {}
        return torch.from_numpy(self._at).to(self._device)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these prompts only; rows that none of them needs are dropped."""
        self._rows, self._seen = self._rows[places], self._seen[places]
        numbers, written = np.concatenate([part.rows for part in self._parts]), np.argsort(self._order)[places]
        kept, own = (_joined(layers) for layers in zip(*((part.kept, part.own) for part in self._parts)))
        self._arrange(numbers, kept, written, own)

    def _arrange(self, numbers: np.ndarray, kept: Layers, written: np.ndarray, own: Layers) -> None:
        """Parts by the number of prompts per row: each is one product, and nothing in it is padding.

        `kept` are those of the rows with these numbers; `own` those of what was written, at place `written` for each
        prompt. One layer after another, so that no more than one is there twice.
        """
        place_of = {number: place for place, number in enumerate(numbers.tolist())}
        counts = np.bincount(self._rows)
        self._parts, of_rows, of_prompts = [], [], []
        for count in np.unique(counts[counts > 0]):
            rows, prompts = np.flatnonzero(counts == count), np.flatnonzero(counts[self._rows] == count)
            seen = np.zeros((len(prompts), self._before + self._seen.shape[1] + self._places), bool)
            seen[:, : self._prefix_length] = True
            seen[:, self._before : -self._places] = self._seen[prompts]
            seen[:, seen.shape[1] - self._places :][:, : self.written] = True
            hidden = torch.from_numpy(~seen).to(self._device)
            bias = torch.zeros(hidden.shape, device=self._device).masked_fill_(hidden, -torch.inf)[:, None]
            self._parts.append(Part(rows, prompts, [], [], bias))
            of_rows.append(torch.tensor([place_of[number] for number in rows.tolist()], device=self._device))
            of_prompts.append(torch.from_numpy(written[prompts]).to(self._device))
        for keys, values in kept:
            for part, index in zip(self._parts, of_rows):
                part.kept.append((keys.index_select(1, index), values.index_select(1, index)))
        for keys, values in own:
            for part, index in zip(self._parts, of_prompts):
                part.own.append((keys.index_select(1, index), values.index_select(1, index)))
        self._order = np.concatenate([part.prompts for part in self._parts])
        self._there, self._back = (
            torch.from_numpy(index).to(self._device) for index in (self._order, np.argsort(self._order))
        )

    def attend(self, layer: int, query, key, value, scaling: float, window: int | None) -> torch.Tensor:
        """(prompts, heads, width), from (1, heads, prompts, width)."""
        heads, count, width = query.shape[1:]
        shared = key.shape[1]
        # Heads that share a key head stand together: (key heads, prompts, their heads, width).
        query = (query[0] * scaling).view(shared, heads // shared, count, width).transpose(1, 2)
        found = [self._attend(part, layer, *one, window) for part, *one in self._by_part(query, key[0], value[0])]
        return torch.cat(found, 1)[:, self._back].transpose(0, 1).reshape(count, heads, width)

    def _by_part(self, *tensors: torch.Tensor) -> Iterator[tuple[Part, ...]]:
        """Each part with its prompts' share of tensors (key heads, prompts, ...)."""
        return zip(
            self._parts,
            *(tensor[:, self._there].split([len(part.prompts) for part in self._parts], 1) for tensor in tensors),
        )

    def _attend(self, part: Part, layer: int, query, key, value, window: int | None) -> torch.Tensor:
        """(key heads, prompts, heads of each, width)."""
        shared, count, heads, width = query.shape
        number = len(part.rows)
        keys, values = part.kept[layer]
        own_keys, own_values = self._write(part, layer, key, value)
        block = query.reshape(shared, number, -1, width)
        of_row = (block @ keys.transpose(2, 3)).view(shared, count, heads, -1)
        scores = [of_row, query @ own_keys.transpose(2, 3)]
        if self._before:
            of_prefix = query.reshape(shared, -1, width) @ self._prefix[layer][0].transpose(1, 2)
            scores.insert(0, of_prefix.view(shared, count, heads, -1))
        sizes = [score.shape[-1] for score in scores]
        weights = torch.cat(scores, -1) + part.bias[..., : sum(sizes)]
        if window is not None and self._at.max() >= window:
            weights += self._too_far(part, window)[..., : sum(sizes)]
        *of_prefix, of_row, of_own = weights.softmax(-1).to(value.dtype).split(sizes, -1)
        out = of_own @ own_values
        out += (of_row.reshape(shared, number, -1, sizes[-2]) @ values).view(out.shape)
        if of_prefix:
            out += (of_prefix[0].reshape(shared, -1, sizes[0]) @ self._prefix[layer][1]).view(out.shape)
        return out

    def _write(self, part: Part, layer: int, key: torch.Tensor, value: torch.Tensor) -> KeysAndValues:
        """The part's keys and values of written tokens, with those of this step."""
        if layer == len(part.own):
            # Zeros, not whatever memory held: 0 times not-a-number would pass every mask.
            part.own.append(tuple(new.new_zeros(*new.shape[:2], self._places, new.shape[2]) for new in (key, value)))
        elif self._places > part.own[layer][0].shape[2]:
            part.own[layer] = tuple(F.pad(known, (0, 0, 0, self.BLOCK)) for known in part.own[layer])
        for known, new in zip(part.own[layer], (key, value)):
            known[:, :, self.written - 1] = new
        keys, values = part.own[layer]
        return keys[:, :, : self._round(self.written)], values[:, :, : self._round(self.written)]

    def _too_far(self, part: Part, window: int) -> torch.Tensor:
        """0, or -inf for what lies `window` tokens or more behind: (prompts, 1, all keys)."""
        key = (id(part), window)
        if key not in self._far:
            at, rows = self._at[part.prompts], self._rows[part.prompts]
            prefix = np.broadcast_to(np.arange(self._before), (len(at), self._before))
            own = at[:, None] + np.arange(self._places) - (self.written - 1)
            depths = np.concatenate([prefix, self._depths[rows], own], 1)
            far = torch.from_numpy(at[:, None] - depths >= window).to(self._device)
            self._far[key] = torch.zeros(far.shape, device=self._device).masked_fill_(far, -torch.inf)[:, None]
        return self._far[key]

    def _round(self, count: int) -> int:
        return -(-count // self.ALIGNED) * self.ALIGNED

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (0, 0, 0, self._round(x.shape[1]) - x.shape[1]))


def _taken(kept: Sequence[Prefix], longest: int) -> Layers:
    """Layer by layer out of `kept`: keys and values of all rows, padded to the longest, key heads first."""
    while kept[0].keys:
        layer = [(part.keys.pop(0), part.values.pop(0)) for part in kept]
        padded = (
            [F.pad(tensor, (0, 0, 0, longest - tensor.shape[2])) for tensor in tensors] for tensors in zip(*layer)
        )
        yield tuple(torch.cat(tensors).transpose(0, 1) for tensors in padded)


def _joined(parts: Sequence[list[KeysAndValues]]) -> Layers:
    """Layer by layer out of `parts`, which are emptied: keys and values of all of them."""
    while parts[0]:
        yield tuple(torch.cat(tensors, 1) for tensors in zip(*(part.pop(0) for part in parts)))
