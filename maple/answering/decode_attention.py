"""Attention while answers are written: what prompts share is stored once, and finished answers leave the batch.

Numbers of keys are rounded up to a multiple of ALIGNED, with keys of zeros that a bias of -inf hides: where rows do not
begin at a multiple of 16 bytes, a GPU's products are several times slower.

A step reads and writes tensors that stay where they are, and what changes from step to step (the place of the written
token, the depths) is in tensors too: so a GPU can replay it (maple/answering/writing.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from maple.answering import decoder_layer
from maple.answering.prefix_tree import Row
from maple.answering.tree_attention import Prefix

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
Layers = Iterator[KeysAndValues]


# On a GPU a row may count some of its prompts twice, to be computed with rows that have more: until so many are too many,
# which costs less than the kernels of one more part.
TWICE = 0.25


@dataclass
class Part:
    """Some rows, in each of which the same number of prompts ends, and those prompts, row after row.

    Two questions about passage A and two about passage B make one part: rows [A, B], prompts [A1, A2, B1, B2].
    In every array the key heads come first.
    """

    rows: np.ndarray  # numbers of the rows
    # Places of their prompts among all that are being answered; the first of a row again where it has fewer.
    prompts: np.ndarray
    kept: list[KeysAndValues]  # per layer (key heads, rows, longest, width): of the rows' tokens
    own: list[KeysAndValues]  # per layer (key heads, prompts, places, width): of what was written
    # (prompts, 1, prefix + longest + places): 0, or -inf for keys that a prompt does not see.
    bias: torch.Tensor


class Decoding:
    """One token per prompt and step. A token sees the prefix of its group and its path in its row, both stored once
    for all prompts that share them, and what was written after its own prompt.

    `kept` holds keys and values of `rows`, in their order, in one or more parts, and is emptied; `leaves` names for
    each prompt its row and the place in it that the prompt ends at (-1: it ends in the prefix), sorted by row; `depths`
    are those of the first tokens to be read. `steady`: as many written keys are looked at in one step as in the next.
    """

    # Places for written tokens, added this many at a time: a multiple of STEADY.
    BLOCK = 64
    ALIGNED = 8
    # Of written keys, so many are looked at or a multiple of it, where steps should be alike.
    STEADY = 32

    def __init__(
        self,
        rows: Sequence[Row],
        prefix: Prefix,
        kept: Sequence[Prefix],
        leaves: Sequence[tuple[int, int]],
        depths: Sequence[int],
        device: torch.device,
        steady: bool = False,
    ):
        self._written, self._places, self._device = 0, self.BLOCK, device
        self._step = self.STEADY if steady else self.ALIGNED
        self._twice = TWICE if decoder_layer.is_lean(device) else 0.0
        # Of the prefix, per layer (key heads, tokens, width).
        self._prefix = [tuple(self._padded(x[0]) for x in layer) for layer in zip(prefix.keys, prefix.values)]
        self._before, self._prefix_length = _up(prefix.length, self.ALIGNED), prefix.length
        longest = _up(max(part.length for part in kept), self.ALIGNED)
        self._depths, until = (np.zeros((len(rows), longest), np.int64) for _ in range(2))
        for number, row in enumerate(rows):
            self._depths[number, : len(row)], until[number, : len(row)] = row.depths, row.until
        self._rows, places = (np.array(column) for column in zip(*leaves))
        # Of the tokens that the next step reads, here and on the device; the place of its keys among the written ones.
        self._at = np.array(depths)
        self.depths = torch.from_numpy(self._at).to(device, copy=True)
        self._place = torch.zeros(1, dtype=torch.long, device=device)
        self._window: int | None = None
        here = np.arange(longest)
        # (prompts, longest): the tokens of its row that are on a prompt's path.
        self._seen = (places[:, None] >= here) & (places[:, None] < until[self._rows])
        self._arrange(np.arange(len(rows)), _taken(kept, longest), np.arange(len(leaves)), iter(()))

    def begin(self) -> bool:
        """Before each step, on the host: whether this step does what the last one did, with the same tensors."""
        self._written += 1
        self._read, self._at = self._at, self._at + 1
        self._far: dict[tuple[int, int], torch.Tensor] = {}
        alike, self._is_new = not self._is_new, False
        if self._written > self._places:
            self._places += self.BLOCK
            for part in self._parts:
                part.bias = F.pad(part.bias, (0, self.BLOCK), value=-torch.inf)
            alike = False
        looked_at = _up(self._written, self._step)
        alike &= looked_at == self._looked_at and (self._window is None or int(self._read.max()) < self._window)
        self._looked_at = looked_at
        return alike

    def see(self) -> None:
        """First in a step: its keys are seen by their own prompt from now on."""
        for part in self._parts:
            part.bias.index_fill_(-1, self._place + (part.bias.shape[-1] - self._places), 0)

    def advance(self) -> None:
        """Last in a step."""
        self.depths += 1
        self._place += 1

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these prompts only; rows that none of them needs are dropped."""
        self._rows, self._seen, self._at = self._rows[places], self._seen[places], self._at[places]
        self.depths = torch.from_numpy(self._at).to(self._device, copy=True)
        numbers, written = np.concatenate([part.rows for part in self._parts]), self._slots[places]
        kept, own = (_joined(layers) for layers in zip(*((part.kept, part.own) for part in self._parts)))
        self._arrange(numbers, kept, written, own)

    def _arrange(self, numbers: np.ndarray, kept: Layers, written: np.ndarray, own: Layers) -> None:
        """Parts by the number of prompts per row: each is one product, and nothing in it is padding.

        `kept` are those of the rows with these numbers; `own` those of what was written, at place `written` for each
        prompt. One layer after another, so that no more than one is there twice.
        """
        place_of = {number: place for place, number in enumerate(numbers.tolist())}
        counts = np.bincount(self._rows)
        first = counts.cumsum() - counts
        self._parts, of_rows, of_prompts = [], [], []
        for low, high in _together(counts[counts > 0], self._twice):
            rows = np.flatnonzero((counts >= low) & (counts <= high))
            slots = np.arange(high)
            prompts = (first[rows, None] + np.where(slots < counts[rows, None], slots, 0)).ravel()
            seen = np.zeros((len(prompts), self._before + self._seen.shape[1] + self._places), bool)
            seen[:, : self._prefix_length] = True
            seen[:, self._before : -self._places] = self._seen[prompts]
            seen[:, seen.shape[1] - self._places :][:, : self._written] = True
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
        order = np.concatenate([part.prompts for part in self._parts])
        # Where each prompt stands in the parts, one after the other: for the first time, if it is there twice.
        self._slots = np.unique(order, return_index=True)[1]
        self._sizes = [len(part.prompts) for part in self._parts]
        self._there = self._back = None
        if not np.array_equal(order, np.arange(len(self._rows))):
            self._there, self._back = (torch.from_numpy(index).to(self._device) for index in (order, self._slots))
        self._is_new, self._looked_at = True, 0

    def attend(self, layer: int, query, key, value, scaling: float, window: int | None) -> torch.Tensor:
        """(prompts, heads, width), from (1, heads, prompts, width)."""
        heads, count, width = query.shape[1:]
        shared = key.shape[1]
        if window is not None:
            self._window = window
        # Heads that share a key head stand together: (key heads, prompts, their heads, width).
        query = query[0].view(shared, heads // shared, count, width).transpose(1, 2)
        if self._there is None:
            query = torch.mul(query, scaling, out=torch.empty(query.shape, dtype=query.dtype, device=query.device))
            key, value = key[0], value[0]
        else:
            query = query.index_select(1, self._there).mul_(scaling)
            key, value = key[0].index_select(1, self._there), value[0].index_select(1, self._there)
        parts = zip(self._parts, *(tensor.split(self._sizes, 1) for tensor in (query, key, value)))
        found = [self._attend(part, layer, *one, window) for part, *one in parts]
        out = found[0] if len(found) == 1 else torch.cat(found, 1)
        if self._back is not None:
            out = out.index_select(1, self._back)
        return out.transpose(0, 1).reshape(count, heads, width)

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
        if window is not None and self._read.max() >= window:
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
            known.index_copy_(2, self._place, new.unsqueeze(2))
        keys, values = part.own[layer]
        return keys[:, :, : self._looked_at], values[:, :, : self._looked_at]

    def _too_far(self, part: Part, window: int) -> torch.Tensor:
        """0, or -inf for what lies `window` tokens or more behind: (prompts, 1, all keys)."""
        key = (id(part), window)
        if key not in self._far:
            at, rows = self._read[part.prompts], self._rows[part.prompts]
            prefix = np.broadcast_to(np.arange(self._before), (len(at), self._before))
            own = at[:, None] + np.arange(self._places) - (self._written - 1)
            depths = np.concatenate([prefix, self._depths[rows], own], 1)
            far = torch.from_numpy(at[:, None] - depths >= window).to(self._device)
            self._far[key] = torch.zeros(far.shape, device=self._device).masked_fill_(far, -torch.inf)[:, None]
        return self._far[key]

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (0, 0, 0, _up(x.shape[1], self.ALIGNED) - x.shape[1]))


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def _together(counts: np.ndarray, twice: float) -> list[tuple[int, int]]:
    """(least, most) prompts per row of each part, given every row's number of them; at most `twice` of a part's
    prompts, as a share, are there again.

    >>> _together(np.array([5, 4, 5, 1]), 0.25), _together(np.array([5, 4, 5, 1]), 0.0)
    ([(4, 5), (1, 1)], [(5, 5), (4, 4), (1, 1)])
    """
    found: list[tuple[int, int]] = []
    real = slots = 0
    for count, rows in sorted(zip(*np.unique(counts, return_counts=True)), reverse=True):
        count, rows = int(count), int(rows)
        if found and slots + rows * found[-1][1] <= (1 + twice) * (real + rows * count):
            found[-1] = (count, found[-1][1])
        else:
            found.append((count, count))
            real = slots = 0
        real, slots = real + rows * count, slots + rows * found[-1][1]
    return found


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
