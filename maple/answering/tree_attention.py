"""Attention over rows of maple/answering/prefix_tree.py: each token sees its own path in its row, and the prefix that
all rows continue.

Rows of similar length stand in a padded block together. On a CPU the prefix's keys and values are met by all tokens
at once; elsewhere, and under a sliding window that cuts the prefix, each row gets a copy of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from maple.answering.prefix_tree import Row

# Rows of unlike length are cut into more blocks, each with less padding. One more block pays when it saves at least
# this many pairs of a query and a key. The GPU's number is an assumption: what a card computes while the block is
# launched.
WORTH, WORTH_ON_GPU = 50_000, 2_000_000
# On a CPU, queries are taken this many at a time. The keys that come after all of them are then left out.
QUERIES = 128


@dataclass
class Prefix:
    """Keys and values (1, key heads, tokens, head width) by layer of what precedes a row; empty at first."""

    length: int = 0
    keys: list[torch.Tensor] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)

    def after(self, before: "Prefix") -> "Prefix":
        """Both as one, where this was computed after `before`."""
        if not before.length:
            return self
        keys, values = (
            [torch.cat(pair, 2) for pair in zip(*two)]
            for two in ((before.keys, self.keys), (before.values, self.values))
        )
        return Prefix(before.length + self.length, keys, values)


class TreeLayout:
    """How the tokens of a batch of rows, end to end and the longest row first, see one another and their prefix.

    `keep`: remember the rows' keys and values, one Prefix per block.
    """

    def __init__(self, rows: Sequence[Row], prefix: Prefix, device: torch.device, keep: bool = False):
        worth = WORTH if device.type == "cpu" else WORTH_ON_GPU
        ends = [*_cuts([len(row) for row in rows], prefix.length, worth), len(rows)]
        self._blocks = [Block(rows[start:end], prefix, device, keep) for start, end in zip([0, *ends], ends)]
        self._sizes = [block.size for block in self._blocks]
        self.depths = torch.cat([block.depths for block in self._blocks])

    @property
    def kept(self) -> list[Prefix]:
        return [block.kept for block in self._blocks]

    def attend(self, layer: int, query, key, value, scaling: float, window: int | None) -> torch.Tensor:
        """(tokens, heads, width), from (1, heads, tokens, width)."""
        parts = zip(self._blocks, *(tensor.split(self._sizes, 2) for tensor in (query, key, value)))
        return _joined(
            [block.attend(layer, q, *block.keys_and_values(k, v), scaling, window) for block, q, k, v in parts], 0
        )

    def attend_at(
        self, layer: int, query, key, value, scaling: float, window: int | None, places: torch.Tensor
    ) -> torch.Tensor:
        """As `attend`, for the queries (1, heads, places, width) of some places among the tokens, block after block."""
        found, start = [], 0
        for block, k, v in zip(self._blocks, *(tensor.split(self._sizes, 2) for tensor in (key, value))):
            k, v = block.keys_and_values(k, v)
            inside = (places >= start) & (places < start + block.size)
            if inside.any():
                found.append(block.attend_at(layer, query[:, :, inside], k, v, scaling, window, places[inside] - start))
            start += block.size
        return _joined(found, 0)

    def keys_and_values(self, key: torch.Tensor, value: torch.Tensor) -> None:
        """Remember them where no query follows."""
        for block, k, v in zip(self._blocks, *(tensor.split(self._sizes, 2) for tensor in (key, value))):
            block.keys_and_values(k, v)


def _joined(parts: Sequence[torch.Tensor], dimension: int) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dimension)


def _cuts(lengths: Sequence[int], before: int, worth: int) -> list[int]:
    """Where to begin a new block of rows, given their lengths, the longest first.

    >>> _cuts([900, 300, 290, 100, 100], before=0, worth=50_000), _cuts([30, 20, 10], before=0, worth=50_000)
    ([1, 3], [])
    """
    pairs = [length * (before + length) for length in lengths]
    saved = [(len(pairs) - place) * (pairs[0] - of_place) for place, of_place in enumerate(pairs)]
    most = max(saved)
    if most < worth:
        return []
    cut = saved.index(most)
    return [*_cuts(lengths[:cut], before, worth), cut, *(cut + later for later in _cuts(lengths[cut:], before, worth))]


class Block:
    """Rows of similar length, padded to the longest of them."""

    def __init__(self, rows: Sequence[Row], prefix: Prefix, device: torch.device, keep: bool):
        lengths = np.array([len(row) for row in rows])
        self.rows, self.longest, self.size, self.prefix = len(rows), int(lengths.max()), int(lengths.sum()), prefix
        # (tokens): depth in the text, and the place in its row from which on a token is not seen.
        self.depths, self._ends = (
            torch.from_numpy(np.concatenate(v)).to(device) for v in zip(*((row.depths, row.until) for row in rows))
        )
        inside = np.concatenate([np.arange(length) for length in lengths])
        numbers = np.repeat(np.arange(self.rows), lengths)
        # (tokens, 2): row, place in it.
        self._where = torch.from_numpy(np.stack([numbers, inside], 1)).to(device)
        self.padded = bool((lengths != self.longest).any())
        if self.padded:
            # Padding is the row's first token again: finite numbers, which no mask lets through.
            spread = np.repeat(lengths.cumsum() - lengths, self.longest).reshape(self.rows, -1)
            spread[numbers, inside] += inside
            self.spread = torch.from_numpy(spread.ravel()).to(device)
            self.real = torch.from_numpy(numbers * self.longest + inside).to(device)
        self._masks: dict[tuple, torch.Tensor] = {}
        self.kept = Prefix(self.longest) if keep else None

    def block(self, tensor: torch.Tensor) -> torch.Tensor:
        """(1, heads, tokens, width) -> (rows, heads, longest, width)."""
        heads, width = tensor.shape[1], tensor.shape[3]
        if self.padded:
            tensor = tensor.index_select(2, self.spread)
        return tensor.view(heads, self.rows, self.longest, width).transpose(0, 1)

    def tokens(self, block: torch.Tensor) -> torch.Tensor:
        """(rows, heads, longest, width) -> (tokens, heads, width)."""
        out = block.transpose(1, 2).flatten(0, 1)
        return out.index_select(0, self.real) if self.padded else out

    def keys_and_values(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of the rows, remembered if so wished: (rows, key heads, longest, width)."""
        key, value = self.block(key), self.block(value)
        if self.kept is not None:
            self.kept.keys.append(key)
            self.kept.values.append(value)
        return key, value

    def attend(self, layer: int, query, key, value, scaling: float, window: int | None) -> torch.Tensor:
        """(tokens, heads, width); keys and values are those of `keys_and_values`."""
        mask, parts = self.mask(window, query.dtype), in_order(self.longest, query.device)
        asking = Queries(query, self.block(query), mask, parts, self.tokens)
        return self._weigh(layer, asking, key, value, scaling, window)

    def attend_at(
        self, layer: int, query, key, value, scaling: float, window: int | None, places: torch.Tensor
    ) -> torch.Tensor:
        """As `attend`, for the queries of some places among the tokens only."""
        rows, inside = self._where[places, 0], self._where[places, 1]
        counts = torch.bincount(rows, minlength=self.rows)
        # Queries stand by row, in a block as wide as the row with most of them.
        slot = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        most = int(counts.max())
        block = query.new_zeros(self.rows, most, query.shape[1], query.shape[3])
        block[rows, slot] = query[0].transpose(0, 1)
        mask = self.mask(window, query.dtype).new_zeros(self.rows, most, self.prefix.length + self.longest)
        mask[rows, slot] = self.mask(window, query.dtype)[rows, 0, inside]
        back = lambda out: out.transpose(1, 2)[rows, slot]  # noqa: E731
        whole = [(slice(most), slice(self.longest))]
        asking = Queries(query, block.transpose(1, 2), mask[:, None], whole, back)
        return self._weigh(layer, asking, key, value, scaling, window)

    def _weigh(self, layer: int, asking: "Queries", key, value, scaling: float, window: int | None) -> torch.Tensor:
        """Attention to the prefix and to the rows' own keys and values (rows, key heads, longest, width)."""
        query, block, mask, parts, back = asking.flat, asking.block, asking.mask, asking.parts, asking.back
        before = self.prefix.length
        if not before or query.device.type != "cpu" or (window is not None and before + self.longest > window):
            if before:
                repeated = (self.rows, -1, -1, -1)
                key = torch.cat([self.prefix.keys[layer].expand(repeated), key], 2)
                value = torch.cat([self.prefix.values[layer].expand(repeated), value], 2)
            found = []
            for here, seen in parts:
                seen = slice(before + seen.stop)
                found.append(
                    weigh(block[:, :, here], key[:, :, seen], value[:, :, seen], mask[:, :, here, seen], scaling)
                )
            return back(_joined(found, 2))
        of_prefix, prefix_sums = weigh_summed(query, self.prefix.keys[layer], self.prefix.values[layer], None, scaling)
        own_mask = mask[..., before:]
        own, own_sums = zip(
            *(
                weigh_summed(block[:, :, here], key[:, :, seen], value[:, :, seen], own_mask[:, :, here, seen], scaling)
                for here, seen in parts
            )
        )
        share = torch.sigmoid(prefix_sums[0].t()[..., None] - back(_joined(own_sums, 2)[..., None]))
        return back(_joined(own, 2)).float().lerp(of_prefix[0].transpose(0, 1).float(), share).to(query.dtype)

    def mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """What is added to the scores: 0 or -inf, (rows, 1, longest, prefix + longest)."""
        if (window, dtype) not in self._masks:
            depths, until = self._by_row(self.depths), self._by_row(self._ends)
            place = torch.arange(self.longest, device=depths.device)
            seen = (place[:, None] >= place) & (place[:, None] < until[:, None, :])
            near = F.pad(seen, (self.prefix.length, 0), value=True)
            if window is not None and self.prefix.length + self.longest > window:
                known = torch.arange(self.prefix.length, device=depths.device).expand(self.rows, -1)
                near &= depths[:, :, None] - torch.cat([known, depths], 1)[:, None] < window
            if self.padded:
                # A padded place sees itself, since a softmax over nothing is not a number; nobody else sees it.
                near[:, place, self.prefix.length + place] = True
            mask = torch.zeros(near.shape, dtype=dtype, device=depths.device).masked_fill_(~near, -torch.inf)
            self._masks[window, dtype] = mask[:, None]
        return self._masks[window, dtype]

    def _by_row(self, values: torch.Tensor) -> torch.Tensor:
        """(tokens) -> (rows, longest); padding has -1, which ends before every place and so is seen by none."""
        if not self.padded:
            return values.view(self.rows, self.longest)
        return values.new_full((self.rows * self.longest,), -1).index_copy_(0, self.real, values).view(self.rows, -1)


@dataclass(frozen=True)
class Queries:
    """The same queries twice: end to end and by row."""

    # (1, heads, n, width)
    flat: torch.Tensor
    # (rows, heads, most of a row, width)
    block: torch.Tensor
    # Added to the scores of the block: (rows, 1, most of a row, prefix + longest).
    mask: torch.Tensor
    # Which queries of the block see which of the rows' own keys.
    parts: list[tuple[slice, slice]]
    # From the block's shape to (n, heads, width).
    back: Callable[[torch.Tensor], torch.Tensor]


def in_order(length: int, device: torch.device) -> list[tuple[slice, slice]]:
    """(queries, the keys up to the last of them) for rows of some length in which no token sees those after it."""
    block = QUERIES if device.type == "cpu" and length > QUERIES + QUERIES // 2 else length
    return [(slice(start, start + block), slice(min(start + block, length))) for start in range(0, length, block)]


def weigh(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Softmax attention, (rows, heads, queries, width)."""
    grouped = key.shape[1] != query.shape[1]
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=grouped)


def weigh_summed(query, key, value, mask: torch.Tensor | None, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The same on a CPU, and the logarithms (rows, heads, queries) of the sums that the softmax divided by.

    Two such results over different keys are one over all of them, each weighed by its sum. torch has no public
    function that returns the sums.
    """
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, attn_mask=mask, scale=scaling)
