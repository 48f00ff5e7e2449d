"""Token sequences as a tree of shared prefixes, cut into rows for the model, so that no prefix is computed twice.

Prompts of one task and language begin alike: shots, then a passage or premise shared by some questions, then the
options of one question. `plan` decides what each of the three is worth:

    a group    has a prefix (the shots, say) that is computed once and whose keys and values all its rows use
    a row      is a small tree (a passage, its questions, their options) computed in one piece; each token sees the
               tokens on its own path only
    a copy     of a few shared tokens (a first word that happens to be the same) is cheaper than either

The plan depends on the sequences and numbers given, never on time or memory, so a run that goes on after a kill
computes the same batches again. No torch here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# What one more forward pass costs besides its tokens, in tokens.
PASS = 512


@dataclass(eq=False)
class Node:
    """A stretch of tokens that all sequences below share: `tokens[start:end]` of a sequence, counted from its
    beginning.

    `size` counts the tokens of the whole subtree; `marks` says at which depths something is read off: (depth, payload).
    """

    tokens: np.ndarray
    start: int
    end: int
    children: list["Node"] = field(default_factory=list)
    marks: list[tuple[int, Any]] = field(default_factory=list)
    size: int = 0

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(eq=False)
class Row:
    """A small tree of tokens, written down depth first. A question (q) with two options of two and one tokens:

        q ─┬─ a ── b        place    0  1  2  3
           └─ c             token    q  a  b  c
                            depth    0  1  2  1      its place in the text that it belongs to
                            until    4  3  3  4      the place behind the last token that sees it

    Token i sees token j where j <= i < until[j]: c sees q (until 4) and not a (until 3). `marks` says at which places
    something is read off: (place in the row, payload).
    """

    tokens: np.ndarray
    depths: np.ndarray
    until: np.ndarray
    marks: list[tuple[int, Any]]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(eq=False)
class Group:
    """Rows that continue the same prefix: that of `parent` and then `prefix` (None for the outermost group)."""

    parent: "Group | None"
    prefix: Row | None
    rows: list[Row] = field(default_factory=list)

    def batches(self, tokens: int, written: int = 0) -> Iterator[list[Row]]:
        """Rows of similar length, longest first, as many as fit into a number of tokens (at least one); each mark
        counts `written` tokens more."""
        batch: list[Row] = []
        used = 0
        for row in sorted(self.rows, key=len, reverse=True):
            size = len(row) + written * len(row.marks)
            if batch and used + size > tokens:
                yield batch
                batch, used = [], 0
            batch.append(row)
            used += size
        if batch:
            yield batch


def plan(
    sequences: Sequence[np.ndarray], marks: Sequence[Sequence[tuple[int, Any]]], balance: float, overhead: float
) -> list[Group]:
    """Groups in an order in which every parent comes before its children.

    `marks[i]` says at which depths of sequence i something is to be read there; each mark ends up in exactly one
    row or prefix. `balance` is the number of keys at which a token's attention costs as much as all else,
    `overhead` what one more group costs, in tokens.
    """
    root = _tree(sequences, marks)
    groups = [Group(None, None)]
    # Nodes to place, the tokens copied from above them, and the group they are in.
    todo: list[tuple[Node, list[Node], Group]] = [(root, [], groups[0])]
    while todo:
        node, above, group = todo.pop()
        head = sum(map(len, above)) + len(node)
        sizes = np.array([child.size for child in node.children], dtype=float)
        whole = head + sizes.sum()
        as_row = whole * (balance + whole)
        as_prefix = head * (balance + head) + overhead * balance + (sizes * (balance + head + sizes)).sum()
        as_copies = ((head + sizes) * (balance + head + sizes)).sum()
        if not node.children or as_row <= min(as_prefix, as_copies):
            group.rows.append(_row([*above, node]))
            continue
        if as_prefix < as_copies:
            group = Group(group, _row([*above, _without_children(node)]))
            groups.append(group)
            above = []
        else:
            above = [*above, node]
        todo += [(child, above, group) for child in reversed(node.children)]
    return groups


def _tree(sequences: Sequence[np.ndarray], marks: Sequence[Sequence[tuple[int, Any]]]) -> Node:
    """The radix tree: each run of tokens stands once, whatever sequences share it."""
    root = Node(np.empty(0, dtype=np.int64), 0, 0)
    path, before = [root], root.tokens
    for index in _order(sequences):
        tokens = sequences[index]
        shared = _common(before, tokens)
        while len(path) > 1 and path[-1].start >= shared:
            path.pop()
        top = path[-1]
        if top.end > shared:
            cut = shared - top.start
            lower = Node(top.tokens[cut:], shared, top.end, top.children, [m for m in top.marks if m[0] >= shared])
            top.marks = [mark for mark in top.marks if mark[0] < shared]
            top.tokens, top.end, top.children = top.tokens[:cut], shared, [lower]
        if len(tokens) > shared:
            node = Node(tokens[shared:], shared, len(tokens))
            top.children.append(node)
            path.append(node)
        for mark in marks[index]:
            next(node for node in reversed(path) if node.start <= mark[0]).marks.append(mark)
        before = tokens
    if len(root.children) == 1:
        # All share their first tokens, or there is only one.
        root = root.children[0]
    for node in reversed(list(_walk(root))):
        node.size = len(node) + sum(child.size for child in node.children)
    return root


def _order(sequences: Sequence[np.ndarray]) -> list[int]:
    """Places of the sequences, sorted by their tokens, a prefix before what it begins.

    Bytes of big-endian numbers sort as the numbers do; lists of Python's integers would take gigabytes.
    """
    return sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())


def _common(a: np.ndarray, b: np.ndarray) -> int:
    size = min(len(a), len(b))
    differ = a[:size] != b[:size]
    return int(differ.argmax()) if differ.any() else size


def _walk(root: Node) -> Iterator[Node]:
    """Depth first, a node before its children."""
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        todo += reversed(node.children)


def _without_children(node: Node) -> Node:
    alone = Node(node.tokens, node.start, node.end, [], node.marks, len(node))
    node.marks = []
    return alone


def _row(nodes: list[Node]) -> Row:
    """The last node's subtree, with the nodes above it in front. Marks are taken, so that a copy has none."""
    *above, top = nodes
    size = sum(map(len, above)) + top.size
    tokens, depths, until = (np.empty(size, dtype=np.int64) for _ in range(3))
    marks, place = [], 0
    for node in [*above, *_walk(top)]:
        end = place + len(node)
        tokens[place:end] = node.tokens
        depths[place:end] = np.arange(node.start, node.end)
        until[place:end] = size if node in above else place + node.size
        marks += [(place + depth - node.start, payload) for depth, payload in node.marks]
        node.marks = []
        place = end
    return Row(tokens, depths, until, marks)
