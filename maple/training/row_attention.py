"""Causal attention over packed rows, at the cost of each row alone: sum of length^2, not (sum of lengths)^2.

A pack is rows laid end to end, with no padding. Five tokens of two rows, `a b c` and `d e`:

    pack        a  b  c  d  e
    position    0  1  2  0  1      each row counts from 0
    sees        a  a  a  d  d      and no token of another row
                   b  b     e
                      c

For attention alone, the rows are copied into padded blocks of rows of similar length. A causal row never looks at what
follows it, so the padding at a row's end needs no mask, and no mask of T x T tokens exists.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from maple.training.limits import QUERIES

# Row lengths are rounded up to this: few distinct block shapes, for which the CPU's matrix library keeps its kernels.
ROUND = 64


@dataclass(frozen=True)
class RowLayout:
    """Where the T tokens of a pack stand in its P >= T padded places; every tensor on the model's device."""

    blocks: list[tuple[int, int]]  # (rows, places per row), filling the P places in this order
    index: torch.Tensor  # int64 [P]: token at each place (a padded place names some token of its row)
    inverse: torch.Tensor  # int64 [T]: place of each token
    padding: torch.Tensor  # int64 [P - T]: places without a token

    @classmethod
    def of(cls, lengths: np.ndarray, device: torch.device) -> "RowLayout":
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        rounded = -(-lengths // ROUND) * ROUND
        blocks, index = [], []
        for places in sorted(set(rounded.tolist())):
            rows = np.flatnonzero(rounded == places)
            blocks.append((len(rows), places))
            offsets = np.minimum(np.arange(places)[None], lengths[rows, None] - 1)
            index.append((starts[rows, None] + offsets).ravel())
        index = np.concatenate(index)
        # A token's own place is the first that names it.
        inverse = np.unique(index, return_index=True)[1]
        padding = np.setdiff1d(np.arange(len(index)), inverse)
        return cls(blocks, *(torch.from_numpy(part).to(device) for part in (index, inverse, padding)))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: RowLayout, window: int | None) -> torch.Tensor:
    """q [T, heads, d], k and v [T, kv heads, d] -> [T, heads, d]; each token sees its row up to itself.

    With a sliding window a token sees itself and the window - 1 tokens before it. Scores are scaled by d^-1/2.
    """
    kernel = _on_cpu if q.device.type == "cpu" else _on_gpu
    sizes = [rows * places for rows, places in layout.blocks]
    outputs = []
    for (rows, places), *block in zip(layout.blocks, *(_Pad.apply(x, layout).split(sizes) for x in (q, k, v))):
        block = [x.view(rows, places, x.shape[1], x.shape[2]) for x in block]
        outputs.append(kernel(*block, _mask(places, window, q)).reshape(rows * places, q.shape[1], q.shape[2]))
    return _Unpad.apply(torch.cat(outputs), layout)


def _mask(places: int, window: int | None, like: torch.Tensor) -> torch.Tensor | None:
    """None where plain causality is all; else bool [places, places], true where a token may look."""
    if window is None or places <= window:
        return None
    allowed = torch.ones(places, places, dtype=torch.bool, device=like.device)
    return allowed.tril_().triu_(1 - window)


def _on_gpu(q, k, v, mask) -> torch.Tensor:
    """Torch's fused kernels; [rows, places, heads, d] in and out."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2)


def _on_cpu(q, k, v, mask) -> torch.Tensor:
    """Plain products and softmax, several times faster in bfloat16 than torch's fused CPU kernel."""
    rows, places, heads, d = q.shape
    shared = k.shape[2]
    group = heads // shared
    k, v = (x.transpose(1, 2).reshape(rows * shared, places, d) for x in (k, v))
    if mask is None:
        mask = torch.ones(places, places, dtype=torch.bool).tril_()
    bias = torch.zeros(places, places, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
    outputs = []
    for start in range(0, places, QUERIES):
        stop = min(start + QUERIES, places)
        # The query heads that share a key head are stacked, so keys are never repeated.
        part = q[:, start:stop].view(rows, stop - start, shared, group, d).permute(0, 2, 3, 1, 4)
        part = part.reshape(rows * shared, group * (stop - start), d)
        out = _Softmax.apply(part, k[:, :stop], v[:, :stop], bias[start:stop, :stop].repeat(group, 1))
        outputs.append(out.view(rows, shared, group, stop - start, d).permute(0, 3, 1, 2, 4))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


class _Softmax(torch.autograd.Function):
    """softmax(q k' / sqrt(d) + bias) v for q [n, Q, d], k and v [n, K, d], bias [Q, K]; keeps the probabilities."""

    @staticmethod
    def forward(ctx, q, k, v, bias):
        scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5)
        p = torch.softmax(scores, -1)
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v, p = ctx.saved_tensors
        ds = torch._softmax_backward_data(g @ v.transpose(1, 2), p, -1, p.dtype)
        ds *= q.shape[-1] ** -0.5
        return ds @ k, ds.transpose(1, 2) @ q, p.transpose(1, 2) @ g, None


class _Pad(torch.autograd.Function):
    """Tokens to padded places."""

    @staticmethod
    def forward(ctx, x, layout):
        ctx.layout = layout
        return x.index_select(0, layout.index)

    @staticmethod
    def backward(ctx, g):
        return g.index_select(0, ctx.layout.inverse), None


class _Unpad(torch.autograd.Function):
    """Padded places back to tokens; no gradient reaches the padding."""

    @staticmethod
    def forward(ctx, x, layout):
        ctx.layout = layout
        return x.index_select(0, layout.inverse)

    @staticmethod
    def backward(ctx, g):
        return g.index_select(0, ctx.layout.index).index_fill_(0, ctx.layout.padding, 0), None


def for_transformers(
    module, query, key, value, attention_mask, layout: RowLayout, sliding_window: int | None = None, **_
):
    """`attend` as transformers calls it, making no mask of its own: [1, heads, T, d] in, [1, T, heads, d] out."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return attend(q, k, v, layout, sliding_window)[None], None


NAME = "packed_rows"
AttentionInterface.register(NAME, for_transformers)
