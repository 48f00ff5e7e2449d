"""A forward pass over rows of maple/trie.py: no padding in the layers, shared prefixes once, logits where they are read.

All rows of a batch stand end to end in one sequence for every layer but attention, which sees them as a padded block
beside the keys and values of their shared prefix. This works through transformers' own interface for attention
functions, so the layers, an adapter in them and quantised weights are what they always are; a model's sliding
window is respected because the window arrives with each call.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from maple.trie import Group, Row

NAME = "maple_packed"
# Logits at once, in numbers: 64 MB in fp32.
LOGITS = 1 << 24


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
        keys, values = ([torch.cat(pair, 2) for pair in zip(*two)] for two in ((before.keys, self.keys), (before.values, self.values)))
        return Prefix(before.length + self.length, keys, values)


def causal(model: Any) -> Any:
    """The transformers model inside a PEFT model (its adapter's layers included), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def balance(model: Any) -> float:
    """How many keys a token attends to when its attention costs as much as its matrix products (for trie.plan)."""
    return 6.0 * model.config.hidden_size


@contextlib.contextmanager
def attention(model: Any) -> Iterator[None]:
    """Inside, the model's layers call the `layout` that is passed to its forward pass for attention."""
    config = causal(model).config
    usual = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual


def _attend(module, query, key, value, attention_mask, scaling=None, sliding_window=None, layout=None, **_):
    return layout.attend(module.layer_idx, query, key, value, scaling, sliding_window).unsqueeze(0), None


AttentionInterface.register(NAME, _attend)


class Layout:
    """How the tokens of a batch of rows see one another and their prefix. `keep`: remember keys and values."""

    def __init__(self, rows: Sequence[Row], prefix: Prefix, device: torch.device, keep: bool = False):
        lengths = np.array([len(row) for row in rows])
        self.rows, self.longest, self.prefix = len(rows), int(lengths.max()), prefix
        self.depths = torch.from_numpy(np.concatenate([row.depths for row in rows])).to(device)
        self._ends = torch.from_numpy(np.concatenate([row.until for row in rows])).to(device)
        self.padded = bool((lengths != self.longest).any())
        if self.padded:
            # Padding points at the row's first token: finite numbers, which no mask lets through.
            places = np.arange(self.longest)[None] * np.ones((self.rows, 1), dtype=np.int64)
            real = places < lengths[:, None]
            starts = np.concatenate([[0], lengths[:-1].cumsum()])
            self.real = torch.from_numpy(np.flatnonzero(real)).to(device)
            self.spread = torch.from_numpy((starts[:, None] + np.where(real, places, 0)).ravel()).to(device)
            self._real_block = torch.from_numpy(real).to(device)
        self._masks: dict[tuple, torch.Tensor] = {}
        self.kept = Prefix(self.longest) if keep else None

    def block(self, tensor: torch.Tensor) -> torch.Tensor:
        """(1, heads, tokens, width) -> (rows, heads, longest, width)."""
        heads, width = tensor.shape[1], tensor.shape[3]
        if self.padded:
            tensor = tensor.index_select(2, self.spread)
        return tensor.view(heads, self.rows, self.longest, width).transpose(0, 1)

    def attend(self, layer: int, query, key, value, scaling: float, window: int | None) -> torch.Tensor:
        """(tokens, heads, width)"""
        query, key, value = self.block(query), self.block(key), self.block(value)
        if self.kept is not None:
            self.kept.keys.append(key)
            self.kept.values.append(value)
        if self.prefix.length:
            shape = (self.rows, -1, -1, -1)
            key = torch.cat([self.prefix.keys[layer].expand(shape), key], 2)
            value = torch.cat([self.prefix.values[layer].expand(shape), value], 2)
        out = weigh(query, key, value, self.mask(window, query.dtype), scaling)
        out = out.transpose(1, 2).flatten(0, 1)
        return out.index_select(0, self.real) if self.padded else out

    def mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """What is added to the scores: 0 or -inf, (rows, 1, longest, prefix + longest)."""
        if (window, dtype) not in self._masks:
            depths, until = self.depths, self._ends
            if self.padded:
                depths, until = depths[self.spread], until[self.spread]
            depths, until = depths.view(self.rows, -1), until.view(self.rows, -1)
            place = torch.arange(self.longest, device=depths.device)
            seen = (place[:, None] >= place) & (place[:, None] < until[:, None, :])
            if self.padded:
                # A padded place sees itself, since a softmax over nothing is not a number.
                seen = seen & self._real_block[:, None, :] | (place[:, None] == place)
            known = torch.arange(self.prefix.length, device=depths.device).expand(self.rows, -1)
            seen = F.pad(seen, (self.prefix.length, 0), value=True)
            if window is not None and self.prefix.length + self.longest > window:
                seen &= depths[:, :, None] - torch.cat([known, depths], 1)[:, None] < window
                if self.padded:
                    seen |= F.pad(place[:, None] == place, (self.prefix.length, 0))
            mask = torch.zeros(seen.shape, dtype=dtype, device=depths.device).masked_fill_(~seen, -torch.inf)
            self._masks[window, dtype] = mask[:, None]
        return self._masks[window, dtype]


def weigh(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float) -> torch.Tensor:
    """Softmax attention, (rows, heads, queries, width)."""
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=key.shape[1] != query.shape[1])


def hidden(model: Any, rows: Sequence[Row], prefix: Prefix, keep: bool = False) -> tuple[torch.Tensor, Layout]:
    """Last hidden states of all rows' tokens, end to end: (tokens, width); and the layout with what it kept."""
    layout = Layout(rows, prefix, causal(model).device, keep)
    return states(model, np.concatenate([row.tokens for row in rows]), layout.depths, layout), layout


def states(model: Any, tokens: np.ndarray, depths: torch.Tensor, layout: Any) -> torch.Tensor:
    """Last hidden states of tokens at depths, which see what `layout.attend` lets them see: (tokens, width)."""
    found = torch.from_numpy(tokens).to(depths.device)
    with attention(model):
        out = causal(model).model(input_ids=found[None], position_ids=depths[None], use_cache=False, layout=layout)
    return out.last_hidden_state[0]


def logits(model: Any, states: torch.Tensor) -> Iterator[torch.Tensor]:
    """Logits in fp32 of (n, width) states, some at a time: (some, vocabulary)."""
    head = causal(model).lm_head
    for part in states.split(max(1, LOGITS // causal(model).config.vocab_size)):
        yield head(part).float()


class Prefixes:
    """The prefixes of groups, computed when first asked for, dropped when no group after it continues them."""

    def __init__(self, model: Any):
        self._model = model
        self._known: dict[Group, tuple[Prefix, torch.Tensor | None]] = {}

    def of(self, group: Group) -> tuple[Prefix, torch.Tensor | None]:
        """Keys and values, and the last hidden states of the prefix's own tokens; nothing for the outermost group."""
        if group.prefix is None:
            return Prefix(), None
        if group not in self._known:
            before, _ = self.of(group.parent)
            own, layout = hidden(self._model, [group.prefix], before, keep=True)
            self._known[group] = layout.kept.after(before), own
        return self._known[group]

    def keep_only(self, group: Group) -> None:
        """Drop all but those that `group` continues; the plan lists a group's descendants right after it."""
        path = []
        while group is not None:
            path.append(group)
            group = group.parent
        self._known = {known: value for known, value in self._known.items() if known in path}
