"""Attention while answers are written: what prompts share is stored once, and finished answers leave the batch."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from maple.packed import Prefix
from maple.trie import Row


class Decoding:
    """One token per prompt and step. A token sees the prefix of its group and its path in its row, both stored once
    for all prompts that share them, and what was written after its own prompt.

    `kept` holds keys and values of `rows`, in their order, in one or more parts; `leaves` names for each prompt
    its row and the place in it that the prompt ends at (-1: it ends in the prefix), sorted by row.
    """

    # Places for written tokens, added this many at a time.
    BLOCK = 64

    def __init__(self, rows: Sequence[Row], prefix: Prefix, kept: Sequence[Prefix], leaves: Sequence[tuple[int, int]], device: torch.device):
        self.prefix, self.written, self._device = prefix, 0, device
        longest = max(part.length for part in kept)
        # Per layer (rows, key heads, longest, width).
        self.keys, self.values = (
            [
                torch.cat([F.pad(layer, (0, 0, 0, longest - layer.shape[2])) for layer in layers])
                for layers in zip(*(getattr(part, name) for part in kept))
            ]
            for name in ("keys", "values")
        )
        # Per layer keys and values of written tokens, (prompts, key heads, places, width).
        self._own: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._depths, until = (np.zeros((len(rows), longest), np.int64) for _ in range(2))
        for number, row in enumerate(rows):
            self._depths[number, : len(row)], until[number, : len(row)] = row.depths, row.until
        self._rows, places = (np.array(column) for column in zip(*leaves))
        here = np.arange(longest)
        # (prompts, longest): the tokens of its row that are on a prompt's path.
        self._seen = (places[:, None] >= here) & (places[:, None] < until[self._rows])
        self._arrange()

    def at(self, depths: Sequence[int]) -> torch.Tensor:
        """Begin a step, which reads one token per prompt at these depths."""
        self.written += 1
        self._at = np.array(depths)
        self._far: dict[int, torch.Tensor] = {}
        return torch.from_numpy(self._at).to(self._device)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these prompts only; rows that none of them needs are dropped."""
        self._seen = self._seen[places]
        kept, self._rows = np.unique(self._rows[places], return_inverse=True)
        index = torch.tensor(places, device=self._device)
        self._own = [(keys[index], values[index]) for keys, values in self._own]
        if len(kept) < len(self._depths):
            numbers = torch.from_numpy(kept).to(self._device)
            self.keys, self.values = ([layer[numbers] for layer in layers] for layers in (self.keys, self.values))
            self._depths = self._depths[kept]
        self._arrange()

    def _arrange(self) -> None:
        """Where each prompt stands in the block (rows, most prompts of a row), and the way back."""
        counts = np.bincount(self._rows, minlength=len(self._depths))
        inside = np.arange(len(self._rows)) - np.repeat(counts.cumsum() - counts, counts)
        back = self._rows * counts.max() + inside
        slots = np.zeros(len(counts) * counts.max(), np.int64)
        slots[back] = np.arange(len(back))
        self._slots, self._back = (torch.from_numpy(places).to(self._device) for places in (slots, back))
        # As many prompts in each row: both are the identity.
        self._even = counts.min() == counts.max()
        hidden = torch.from_numpy(~self._seen).to(self._device)
        self._hidden = torch.zeros(hidden.shape, device=self._device).masked_fill_(hidden, -torch.inf)[:, None, None]

    def attend(self, layer: int, query, key, value, scaling: float, window: int | None) -> torch.Tensor:
        """(prompts, heads, width), from (1, heads, prompts, width)."""
        heads, count, width = query.shape[1:]
        shared = key.shape[1]
        own_keys, own_values = self._write(layer, key[0].transpose(0, 1), value[0].transpose(0, 1))
        # Heads that share a key head stand together: (prompts, key heads, their heads, width).
        query = query[0].transpose(0, 1).reshape(count, shared, heads // shared, width) * scaling
        of_row = self._by_row(query, self.keys[layer].transpose(2, 3))
        scores = [of_row + self._hidden.to(of_row.dtype), query @ own_keys.transpose(2, 3)]
        if self.prefix.length:
            scores.insert(0, self._by_prefix(query, self.prefix.keys[layer][0].transpose(1, 2)))
        sizes = [part.shape[-1] for part in scores]
        weights = torch.cat(scores, -1).float()
        if window is not None and self._at.max() >= window:
            weights += self._too_far(window)
        *of_prefix, of_row, of_own = weights.softmax(-1).to(value.dtype).split(sizes, -1)
        out = self._by_row(of_row, self.values[layer]) + of_own @ own_values
        if of_prefix:
            out += self._by_prefix(of_prefix[0], self.prefix.values[layer][0])
        return out.reshape(count, heads, width)

    def _write(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if layer == len(self._own):
            # Zeros, not whatever memory held: 0 times not-a-number would pass every mask.
            self._own.append(tuple(part.new_zeros(*part.shape[:2], self.BLOCK, part.shape[2]) for part in (key, value)))
        elif self.written > self._own[layer][0].shape[2]:
            self._own[layer] = tuple(F.pad(part, (0, 0, 0, self.BLOCK)) for part in self._own[layer])
        for part, new in zip(self._own[layer], (key, value)):
            part[:, :, self.written - 1] = new
        keys, values = self._own[layer]
        return keys[:, :, : self.written], values[:, :, : self.written]

    def _by_row(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(prompts, key heads, heads, a) times its row's (rows, key heads, a, b)."""
        (_, shared, heads, a), number = left.shape, len(right)
        block = left if self._even else left[self._slots]
        block = block.view(number, -1, shared, heads, a).transpose(1, 2).reshape(number, shared, -1, a) @ right
        block = block.view(number, shared, -1, heads, block.shape[-1]).transpose(1, 2).flatten(0, 1)
        return block if self._even else block[self._back]

    @staticmethod
    def _by_prefix(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(prompts, key heads, heads, a) times the same (key heads, a, b) for all."""
        count, shared, heads, a = left.shape
        found = left.permute(1, 0, 2, 3).reshape(shared, -1, a) @ right
        return found.view(shared, count, heads, -1).transpose(0, 1)

    def _too_far(self, window: int) -> torch.Tensor:
        """0, or -inf for what lies `window` tokens or more behind: (prompts, 1, 1, all keys)."""
        if window not in self._far:
            count = len(self._at)
            prefix = np.broadcast_to(np.arange(self.prefix.length), (count, self.prefix.length))
            own = self._at[:, None] - np.arange(self.written)[::-1]
            depths = np.concatenate([prefix, self._depths[self._rows], own], 1)
            far = torch.from_numpy(self._at[:, None] - depths >= window).to(self._device)
            self._far[window] = torch.zeros(far.shape, device=self._device).masked_fill_(far, -torch.inf)[:, None, None]
        return self._far[window]
