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
from transformers.models.llama.modeling_llama import rotate_half

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
        # (tokens): depth in the text, and the place in its row from which on a token is not seen.
        self.depths, self._ends = (torch.from_numpy(np.concatenate(v)).to(device) for v in zip(*((row.depths, row.until) for row in rows)))
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

    def keys_and_values(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of the prefix and of the rows: (rows, key heads, prefix + longest, width)."""
        key, value = self.block(key), self.block(value)
        if self.kept is not None:
            self.kept.keys.append(key)
            self.kept.values.append(value)
        if self.prefix.length:
            shape = (self.rows, -1, -1, -1)
            key = torch.cat([self.prefix.keys[layer].expand(shape), key], 2)
            value = torch.cat([self.prefix.values[layer].expand(shape), value], 2)
        return key, value

    def attend(self, layer: int, query, key, value, scaling: float, window: int | None) -> torch.Tensor:
        """(tokens, heads, width)"""
        key, value = self.keys_and_values(layer, key, value)
        out = weigh_in_order(self.block(query), key, value, self.mask(window, query.dtype), scaling)
        out = out.transpose(1, 2).flatten(0, 1)
        return out.index_select(0, self.real) if self.padded else out

    def attend_at(self, layer: int, query, key, value, scaling: float, window: int | None, places: torch.Tensor) -> torch.Tensor:
        """As `attend`, for the queries (1, heads, places, width) of some places among the tokens only."""
        rows, inside = self._where[places, 0], self._where[places, 1]
        counts = torch.bincount(rows, minlength=self.rows)
        # Queries stand by row, in a block as wide as the row with most of them.
        slot = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        most = int(counts.max())
        block = query.new_zeros(self.rows, most, query.shape[1], query.shape[3])
        block[rows, slot] = query[0].transpose(0, 1)
        mask = self.mask(window, query.dtype).new_zeros(self.rows, most, self.prefix.length + self.longest)
        mask[rows, slot] = self.mask(window, query.dtype)[rows, 0, inside]
        key, value = self.keys_and_values(layer, key, value)
        return weigh(block.transpose(1, 2), key, value, mask[:, None], scaling).transpose(1, 2)[rows, slot]

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


# Queries at once on a CPU, where what they do not see of the keys after them is not computed.
BLOCK = 128


def weigh(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float) -> torch.Tensor:
    """Softmax attention, (rows, heads, queries, width)."""
    grouped = key.shape[1] != query.shape[1]
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=grouped)


def weigh_in_order(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float) -> torch.Tensor:
    """The same where the last keys are the queries' own, and none sees those after its own."""
    queries, before = query.shape[2], key.shape[2] - query.shape[2]
    if query.device.type != "cpu" or queries <= BLOCK + BLOCK // 2:
        return weigh(query, key, value, mask, scaling)
    parts = []
    for start in range(0, queries, BLOCK):
        here, seen = slice(start, start + BLOCK), slice(before + start + BLOCK)
        parts.append(weigh(query[:, :, here], key[:, :, seen], value[:, :, seen], mask[:, :, here, seen], scaling))
    return torch.cat(parts, 2)


def hidden(model: Any, rows: Sequence[Row], prefix: Prefix, keep: bool = False, read: bool = True) -> tuple[torch.Tensor, Layout]:
    """Last hidden states at the rows' marks, in their order: (marks, width), none unless `read`; and the layout with
    what it kept."""
    device = causal(model).device
    layout = Layout(rows, prefix, device, keep)
    starts = np.cumsum([0] + [len(row) for row in rows])
    places = [int(start) + place for start, row in zip(starts, rows) for place, _ in row.marks if read]
    tokens = np.concatenate([row.tokens for row in rows])
    return states(model, tokens, layout.depths, layout, torch.tensor(places, dtype=torch.long, device=device)), layout


def states(model: Any, tokens: np.ndarray, depths: torch.Tensor, layout: Any, places: torch.Tensor | None = None) -> torch.Tensor:
    """Last hidden states (width) of tokens at depths, which see what `layout.attend` lets them see; of all tokens, or
    at some places only."""
    inner, found = causal(model).model, torch.from_numpy(tokens).to(depths.device)
    with attention(model):
        if places is None or type(inner.layers[-1]).__name__ not in _KNOWN_LAYERS:
            out = inner(input_ids=found[None], position_ids=depths[None], use_cache=False, layout=layout).last_hidden_state[0]
            return out if places is None else out[places]
        out = inner.embed_tokens(found[None])
        rotary = inner.rotary_emb(out, position_ids=depths[None])
        for layer in inner.layers[:-1]:
            out = layer(out, attention_mask=None, position_ids=depths[None], position_embeddings=rotary, use_cache=False, layout=layout)
        return inner.norm(_at(inner.layers[-1], out, rotary, layout, places))[0]


# Decoder layers of transformers that `_at` knows the inside of.
_KNOWN_LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer")


def _at(layer: Any, states: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor], layout: Layout, places: torch.Tensor) -> torch.Tensor:
    """The layer's output (1, places, width) at some places: every token's keys and values, and nothing else of it."""
    block, (cos, sin) = layer.self_attn, rotary
    normed = layer.input_layernorm(states)

    def heads(projection: Any, of: torch.Tensor) -> torch.Tensor:
        return projection(of).view(1, of.shape[1], -1, block.head_dim).transpose(1, 2)

    def turned(of: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        return of * cos.unsqueeze(1) + rotate_half(of) * sin.unsqueeze(1)

    key, value = turned(heads(block.k_proj, normed), cos, sin), heads(block.v_proj, normed)
    if not len(places):
        layout.keys_and_values(block.layer_idx, key, value)
        return states[:, :0]
    query = turned(heads(block.q_proj, normed[:, places]), cos[:, places], sin[:, places])
    window = getattr(block.config, "sliding_window", None)
    out = layout.attend_at(block.layer_idx, query, key, value, block.scaling, window, places)
    out = states[:, places] + block.o_proj(out.reshape(1, len(places), -1))
    return out + layer.mlp(layer.post_attention_layernorm(out))


def logits(model: Any, states: torch.Tensor) -> Iterator[torch.Tensor]:
    """Logits in fp32 of (n, width) states, some at a time: (some, vocabulary)."""
    head = causal(model).lm_head
    for part in states.split(max(1, LOGITS // causal(model).config.vocab_size)):
        yield head(part).float()


class Prefixes:
    """The prefixes of groups, computed when first asked for, dropped when no group after it continues them."""

    def __init__(self, model: Any, read: bool = True):
        self._model, self._read = model, read
        self._known: dict[Group, tuple[Prefix, torch.Tensor | None]] = {}

    def of(self, group: Group) -> tuple[Prefix, torch.Tensor | None]:
        """Keys and values, and the last hidden states at the prefix's own marks; nothing for the outermost group."""
        if group.prefix is None:
            return Prefix(), None
        if group not in self._known:
            before, _ = self.of(group.parent)
            own, layout = hidden(self._model, [group.prefix], before, keep=True, read=self._read)
            self._known[group] = layout.kept.after(before), own
        return self._known[group]

    def keep_only(self, group: Group) -> None:
        """Drop all but those that `group` continues; the plan lists a group's descendants right after it."""
        path = []
        while group is not None:
            path.append(group)
            group = group.parent
        self._known = {known: value for known, value in self._known.items() if known in path}
