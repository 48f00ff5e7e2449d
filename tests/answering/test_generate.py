"""Greedy texts: to the letter those of transformers' generate, one prompt at a time."""

import pytest
import reference
import torch
import toy

from maple.answering import encoding, forward, generate, loglikelihood, prefix_tree
from maple.answering.decode_attention import Decoding
from maple.core.errors import MapleError

TOKENISER = toy.tokeniser()
PASSAGES = ["The river runs through the valley, and the valley is green. ", "河流穿过山谷。", "แม่น้ำไหลผ่านหุบเขา "]
SHOTS = "Passage: the valley. Q: what? A: a valley\n\n" * 3
# Questions that share a passage, a prompt that is the beginning of others, twice the same, one token, none but <s>.
PROMPTS = [f"{SHOTS}{passage}Q: {i}? A:" for passage in PASSAGES for i in range(4)] + [
    SHOTS,
    SHOTS + PASSAGES[0],
    SHOTS,
    "a",
    "",
]
MODELS = {
    "llama": toy.model(),
    "mistral": toy.model("mistral"),
    "mistral with a window": toy.model("mistral", window=30),
}


def ours(model, prompts, limit, stop=(), batch_tokens=4096, **options):
    found = {}
    for batch in generate.generate_batches(model, TOKENISER, prompts, limit, stop, batch_tokens, **options):
        assert not found.keys() & batch.keys()
        found |= batch
    return [found[i] for i in sorted(found)]


@pytest.mark.parametrize("stop", [(), ("\n",), ("e", "river")])
@pytest.mark.parametrize("model", MODELS)
def test_texts_are_those_of_plain_greedy_generation(model, stop):
    expected = reference.written(MODELS[model], TOKENISER, PROMPTS, 20, stop)
    assert ours(MODELS[model], PROMPTS, 20, stop) == expected
    assert len(set(expected)) > 3


@pytest.mark.parametrize("balance", [0.01, 30, 1e9])
def test_texts_depend_neither_on_sharing_nor_on_batches(balance, monkeypatch):
    monkeypatch.setattr(forward, "balance", lambda model: balance)
    monkeypatch.setattr(prefix_tree, "PASS", 0 if balance == 30 else 10**6)
    model = MODELS["mistral with a window"]
    expected = reference.written(model, TOKENISER, PROMPTS, 12, ())
    for batch_tokens in (1, 40, 10**6):
        assert ours(model, PROMPTS, 12, batch_tokens=batch_tokens) == expected
    order = sorted(range(len(PROMPTS)), key=lambda i: PROMPTS[i][::-1])
    assert ours(model, [PROMPTS[i] for i in order], 12) == [expected[i] for i in order]


def test_prompts_of_one_token_only_are_answered():
    model = MODELS["llama"]
    assert ours(model, ["", ""], 8) == reference.written(model, TOKENISER, ["", ""], 8, ())


def test_answers_written_at_once_are_bounded_by_the_memory_of_their_keys_and_values(monkeypatch):
    model = MODELS["llama"]
    expected = reference.written(model, TOKENISER, PROMPTS, 8, ())
    per_token = generate.KEPT // generate._answered(model, 10**12)
    config = model.config
    assert per_token == 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    monkeypatch.setattr(generate, "KEPT", 50 * per_token)
    assert generate._answered(model, 4096) == 50 and ours(model, PROMPTS, 8) == expected


@pytest.mark.parametrize("drop", [0.0, 0.75, 1.0])
def test_dropping_finished_answers_changes_none(drop, monkeypatch):
    """With many end tokens answers end at very different lengths; written tokens outgrow their first block."""
    monkeypatch.setattr(generate, "DROP", drop)
    monkeypatch.setattr(Decoding, "BLOCK", 4)
    model = toy.model("mistral", window=30)
    model.generation_config.eos_token_id = list(range(1, 60))
    expected = reference.written(model, TOKENISER, PROMPTS, 40, ())
    assert ours(model, PROMPTS, 40) == expected
    assert len({len(text) for text in expected}) > 5


def test_a_prompt_longer_than_the_context_is_cut_off_from_the_left():
    model = toy.model(context=48)
    assert ours(model, PROMPTS, 8) == reference.written(model, TOKENISER, PROMPTS, 8, ())


@pytest.mark.parametrize("new", [48, 60])
def test_answers_as_long_as_the_context_are_an_error_before_anything_is_computed(new, monkeypatch):
    model = toy.model(context=48)
    monkeypatch.setattr(encoding, "encode_groups", lambda *a: pytest.fail("texts were tokenised"))
    with pytest.raises(MapleError, match=f"answers of {new} tokens leave no room for a prompt") as error:
        ours(model, PROMPTS, new)
    assert "48 tokens" in error.value.why


def test_the_shared_passage_is_read_once_and_answers_end_early():
    usage = loglikelihood.Usage()
    prompts = [f"{PASSAGES[0] * 4}Q: {i}? A:" for i in range(5)]
    ours(MODELS["llama"], prompts, 4, usage=usage)
    assert usage.computed < usage.asked / 3
    usage = loglikelihood.Usage()
    ours(MODELS["llama"], prompts[:1], 200, ("e",), usage=usage)
    assert usage.asked < 200


def test_answered_prompts_are_skipped():
    whole = ours(MODELS["llama"], PROMPTS, 6, batch_tokens=10)
    done = set(range(0, len(PROMPTS), 3))
    assert ours(MODELS["llama"], PROMPTS, 6, batch_tokens=10, done=done) == [
        t for i, t in enumerate(whole) if i not in done
    ]


def test_output_that_is_not_a_number_is_an_error_with_the_prompt():
    broken = toy.model()
    broken.model.embed_tokens.weight.data[TOKENISER.encode("Z", add_special_tokens=False)] = torch.nan
    with pytest.raises(loglikelihood.Failed) as failed:
        ours(broken, ["The river", "The Z"], 5)
    assert failed.value.index == 1
