"""Tokens of texts in pieces: the same as of whole texts, for tokenisers of both kinds and scripts of all."""

import random

import pytest
import toy

from maple.answering import encoding

TOKENISERS = {
    "bytes": toy.tokeniser(),
    "no first token": toy.tokeniser(bos=False),
    "metaspace": toy.tokeniser("metaspace"),
    "metaspace before every text": toy.tokeniser("prepend"),
}
SHOTS = "The river runs through the valley. Question: what runs? Answer: the river\n\n" * 3


def texts(rng: random.Random) -> list[str]:
    """A prompt and the prompt with answers; now and then strange ones."""
    prompt = " ".join(rng.choice(toy.TEXTS) for _ in range(rng.randrange(1, 4))) + rng.choice(
        ["", "\n", "  ", " Answer:", "\n\nAnswer"]
    )
    return [
        prompt.rstrip(),
        *(prompt + answer for answer in (" the river", " True", "河流", "s", "</s>", " e\u0301t\u00e9 the")),
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", TOKENISERS)
def test_groups_of_texts_have_the_tokens_of_each_text(name, seed):
    tokeniser, rng = TOKENISERS[name], random.Random(seed)
    shots = rng.choice(["", SHOTS, "<s>" + SHOTS])
    groups = [[shots + text for text in texts(rng)] for _ in range(8)] + [[]]
    expected = [[encoding.encode(tokeniser, text) for text in group] for group in groups]
    assert encoding.encode_groups(tokeniser, groups) == expected


@pytest.mark.parametrize("name", TOKENISERS)
def test_shared_beginnings_are_tokenised_once(name, monkeypatch):
    tokeniser, seen = TOKENISERS[name], []
    batch = encoding._batch
    monkeypatch.setattr(encoding, "_batch", lambda t, texts, special: seen.extend(texts) or batch(t, texts, special))
    groups = [
        [f"{SHOTS}The valley number {i} is green. Is it?{answer}" for answer in ("", " Yes", " No")] for i in range(50)
    ]
    assert encoding.encode_groups(tokeniser, groups)[7][1] == encoding.encode(tokeniser, groups[7][1])
    assert sum(map(len, seen)) < sum(len(text) for group in groups for text in group) / 5


def test_a_tokeniser_whose_pieces_differ_gets_whole_texts(monkeypatch):
    """Here tokens go across words, so that no cut is right."""
    tokeniser = toy.tokeniser("across words")
    groups = [[f"{SHOTS}{i}{answer}" for answer in ("", " True", " False")] for i in range(4)]
    expected = [[encoding.encode(tokeniser, text) for text in group] for group in groups]
    assert encoding._in_pieces(tokeniser, groups) is None
    assert encoding.encode_groups(tokeniser, groups) == expected
