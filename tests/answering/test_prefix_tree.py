"""The plan: every token where its sequence has it, nothing lost, every mark once, however the tree is cut."""

import random

import numpy as np
import pytest

from maple.answering import prefix_tree


def random_sequences(rng: random.Random) -> list[np.ndarray]:
    """Up to 40 sequences that share prefixes on several levels; some are prefixes of others, or twice there."""
    found = [[rng.randrange(4) for _ in range(rng.choice([0, 1, 5, 300]))]]
    for _ in range(rng.randrange(1, 40)):
        base = rng.choice(found)
        found.append(
            base[: rng.randrange(len(base) + 1)] + [rng.randrange(4) for _ in range(rng.choice([0, 1, 7, 60]))]
        )
    return [np.array(tokens, dtype=np.int64) for tokens in found]


def test_sequences_sort_as_lists_of_numbers_do():
    rng = random.Random(1)
    for _ in range(50):
        found = [[rng.choice([0, 1, 255, 256, 65535, 65536, 300_000]) for _ in range(rng.randrange(4))]]
        found += [
            rng.choice(found)[: rng.randrange(4)] + [rng.randrange(1 << 18)] * rng.randrange(3) for _ in range(30)
        ]
        sequences = [np.array(tokens, dtype=np.int64) for tokens in [*found, []]]
        assert prefix_tree._order(sequences) == sorted(range(len(sequences)), key=lambda i: sequences[i].tolist())


def path(group, row, place) -> list[tuple[int, int]]:
    """(depth, token) that a place of a row sees: the prefixes before it, then its own path."""
    above = group.parent if row is group.prefix else group
    seen = [(row.depths[j], row.tokens[j]) for j in range(place + 1) if place < row.until[j]]
    while above is not None and above.prefix is not None:
        seen = list(zip(above.prefix.depths, above.prefix.tokens)) + seen
        above = above.parent
    return seen


@pytest.mark.parametrize("balance", [0.1, 10, 400, 1e9])
@pytest.mark.parametrize("seed", range(12))
def test_each_mark_sees_exactly_its_own_sequence(seed, balance):
    rng = random.Random(seed)
    overhead = rng.choice([0, 20, 512])
    sequences = random_sequences(rng)
    marks = [[(d, (i, d)) for d in sorted(rng.sample(range(len(s)), min(len(s), 3)))] for i, s in enumerate(sequences)]
    found = []
    for group in prefix_tree.plan(sequences, marks, balance, overhead):
        for row in [*group.rows, *([group.prefix] if group.prefix else [])]:
            for place, (index, depth) in row.marks:
                seen = path(group, row, place)
                assert [d for d, _ in seen] == list(range(depth + 1))
                assert [t for _, t in seen] == sequences[index][: depth + 1].tolist()
                found.append((index, depth))
    assert sorted(found) == sorted(payload for of_one in marks for _, payload in of_one)


def test_what_all_share_is_a_prefix_what_some_share_a_row():
    shots, passages = np.arange(1000), [np.arange(200) + 2000 * k for k in (1, 2, 3, 4, 5, 6)]
    sequences = [np.concatenate([shots, passage, [question]]) for passage in passages for question in range(5)]
    outer, group = prefix_tree.plan(sequences, [[]] * len(sequences), balance=3000, overhead=512)
    assert not outer.rows and len(group.prefix) == 1000
    assert [len(row) for row in group.rows] == [205] * 6


def test_one_sequence_is_one_row_and_a_batch_holds_at_least_one():
    (group,) = prefix_tree.plan([np.arange(50)], [[(49, "end")]], balance=384, overhead=512)
    assert [row.marks for row in group.rows] == [[(49, "end")]]
    assert [len(batch) for batch in group.batches(10)] == [1]


def test_batches_go_from_long_to_short_within_their_tokens():
    lengths = [30, 10, 50, 20, 40]
    rows = [prefix_tree.Row(np.zeros(n), np.zeros(n), np.zeros(n), []) for n in lengths]
    assert [[len(row) for row in batch] for batch in prefix_tree.Group(None, None, rows).batches(70)] == [
        [50],
        [40, 30],
        [20, 10],
    ]
