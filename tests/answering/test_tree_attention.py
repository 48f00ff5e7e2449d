"""Attention over rows of a tree, against a softmax written out for one token after another."""

import math

import numpy as np
import pytest
import torch

from maple.answering import tree_attention
from maple.answering.prefix_tree import Row
from maple.answering.tree_attention import Prefix, TreeLayout

HEADS, SHARED, WIDTH = 4, 2, 8


def row(trunk: int, *branches: int, start: int) -> Row:
    """A trunk and branches after it, none of which sees another; the text before the row has `start` tokens."""
    size = trunk + sum(branches)
    depths, until = [start + np.arange(trunk)], [np.full(trunk, size)]
    end = trunk
    for branch in branches:
        end += branch
        depths.append(start + trunk + np.arange(branch))
        until.append(np.full(branch, end))
    return Row(np.zeros(size, np.int64), np.concatenate(depths), np.concatenate(until), [])


def tensors(rows, before):
    generator = torch.Generator().manual_seed(0)
    count = sum(map(len, rows))
    draw = lambda heads, tokens: torch.randn(1, heads, tokens, WIDTH, generator=generator)  # noqa: E731
    prefix = Prefix(before, [draw(SHARED, before)], [draw(SHARED, before)]) if before else Prefix()
    return prefix, draw(HEADS, count), draw(SHARED, count), draw(SHARED, count)


def written_out(rows, prefix, query, key, value, window):
    """(tokens, heads, width): every token's own softmax over what it sees."""
    found, start = [], 0
    for one in rows:
        for here in range(len(one)):
            seen = [
                j
                for j in range(here + 1)
                if here < one.until[j] and (window is None or one.depths[here] - one.depths[j] < window)
            ]
            far = [j for j in range(prefix.length) if window is None or one.depths[here] - j < window]
            heads = []
            for head in range(HEADS):
                shared = head * SHARED // HEADS
                own = [start + j for j in seen]
                keys, values = key[0, shared, own], value[0, shared, own]
                if prefix.length:
                    keys = torch.cat([prefix.keys[0][0, shared, far], keys])
                    values = torch.cat([prefix.values[0][0, shared, far], values])
                heads.append((keys @ query[0, head, start + here] / math.sqrt(WIDTH)).softmax(0) @ values)
            found.append(torch.stack(heads))
        start += len(one)
    return torch.stack(found)


@pytest.mark.parametrize("window", [None, 12])
@pytest.mark.parametrize("before", [0, 3, 60])
@pytest.mark.parametrize("worth", [10, 10**9])
def test_each_token_sees_its_own_path_and_the_prefix_whatever_stands_beside_it(monkeypatch, before, window, worth):
    monkeypatch.setattr(tree_attention, "WORTH", worth)
    monkeypatch.setattr(tree_attention, "QUERIES", 16)
    rows = [row(20, 9, 11, start=before), row(15, 5, start=before), row(6, 2, 2, start=before), row(3, start=before)]
    prefix, query, key, value = tensors(rows, before)
    wanted = written_out(rows, prefix, query, key, value, window)
    layout = TreeLayout(rows, prefix, torch.device("cpu"))
    found = layout.attend(0, query, key, value, WIDTH**-0.5, window)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    places = torch.tensor([0, 39, 25, 41, 59, 62, 72])
    found = layout.attend_at(0, query[:, :, places], key, value, WIDTH**-0.5, window, places)
    torch.testing.assert_close(found, wanted[places], rtol=1e-4, atol=1e-5)


def test_in_bfloat16_joining_the_two_softmaxes_costs_no_more_than_rounding():
    rows = [row(20, 9, 11, start=60), row(15, 5, start=60)]
    prefix, *own = tensors(rows, 60)
    wanted = written_out(rows, prefix, *own, None)
    half = Prefix(60, [prefix.keys[0].bfloat16()], [prefix.values[0].bfloat16()])
    found = TreeLayout(rows, half, torch.device("cpu")).attend(
        0, *(tensor.bfloat16() for tensor in own), WIDTH**-0.5, None
    )
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.02, atol=0.02)


def test_rows_of_different_lengths_are_kept_apart_and_in_order():
    rows = [row(length, start=0) for length in (900, 300, 290, 100, 100)]
    prefix, query, key, value = tensors(rows, 0)
    layout = TreeLayout(rows, prefix, torch.device("cpu"), keep=True)
    layout.attend(0, query, key, value, 1.0, None)
    assert [kept.length for kept in layout.kept] == [900, 300, 100]
    assert [tuple(kept.keys[0].shape) for kept in layout.kept] == [(1, 2, 900, 8), (2, 2, 300, 8), (2, 2, 100, 8)]
    torch.testing.assert_close(layout.kept[2].values[0][1], value[0, :, -100:])
