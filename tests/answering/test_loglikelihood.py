"""Log-likelihoods: equal to a plain forward pass per option and to lm-evaluation-harness, whatever the batches are."""

import random

import pytest
import reference
import torch
import toy
from transformers import BitsAndBytesConfig, LlamaForCausalLM

from maple.answering import encoding, forward, loglikelihood, prefix_tree

MODELS = {
    "llama": toy.model(),
    "mistral": toy.model("mistral"),
    "mistral with a window": toy.model("mistral", window=40),
}
TOKENISERS = {
    "bytes": toy.tokeniser(),
    "bytes, no first token": toy.tokeniser(bos=False),
    "metaspace": toy.tokeniser("metaspace"),
}
SHOTS = "The valley runs. True\n\nThe river is a valley. False\n\n" * 3
PASSAGES = ["The river runs through the valley. ", "河流穿过山谷。", "แม่น้ำไหลผ่านหุบเขา "]

# Label words of one token, whole sentences, an empty prompt, spaces at the prompt's end, letters that merge over the
# boundary, options that begin with one another, the same option twice.
SHAPES = {
    "labels": [(f"Passage: {passage}Q: {i}?\nA:", [" A", " B", " C"]) for passage in PASSAGES for i in range(3)],
    "shots": [
        (f"{SHOTS}{passage} Question: {i}", [" True", " Neither", " False"]) for passage in PASSAGES for i in range(3)
    ],
    "sentences": [
        ("", [f" {passage} right? {word}, {i}" for word in ("Yes", "Also", "No")])
        for passage in PASSAGES
        for i in range(3)
    ],
    "boundaries": [
        ("The answer is  ", ["the river", " the river", "the river runs"]),
        ("The r", ["iver runs through", "iver runs through the bank", "iver runs through"]),
        ("\n\n", [" x", "y"]),
        ("النهر", [" يجري", "ي سؤال"]),
        ("नदी घा", ["टी में", "टी में बहती"]),
    ],
}


def ours(model, tokeniser, requests, batch_tokens=4096, **options):
    found = {}
    for batch in loglikelihood.score(model, tokeniser, requests, batch_tokens, **options):
        assert not found.keys() & batch.keys()
        found |= batch
    return found


def difference(found, expected) -> float:
    """The largest difference; the greedy flags must be equal."""
    pairs = [(a, b) for index, options in found.items() for a, b in zip(options, expected[index], strict=True)]
    assert [a.greedy for a, _ in pairs] == [greedy for _, (_, greedy) in pairs]
    return max(abs(a.logprob - logprob) for a, (logprob, _) in pairs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tokeniser", TOKENISERS)
@pytest.mark.parametrize("model", MODELS)
def test_scores_equal_a_forward_pass_per_option(model, tokeniser, shape):
    model, tokeniser, requests = MODELS[model], TOKENISERS[tokeniser], SHAPES[shape]
    found = ours(model, tokeniser, requests)
    assert list(found) and difference(found, reference.score(model, tokeniser, requests)) < 1e-4


@pytest.mark.parametrize("balance", [0.01, 30, 1e9])
@pytest.mark.parametrize("model", ["llama", "mistral with a window"])
def test_it_does_not_matter_how_shared_prefixes_are_computed(model, balance, monkeypatch):
    """As one tree, after a stored prefix (and one after that), or as copies."""
    monkeypatch.setattr(forward, "balance", lambda model: balance)
    monkeypatch.setattr(prefix_tree, "PASS", 0 if balance == 30 else 10**6)
    model, tokeniser = MODELS[model], TOKENISERS["bytes"]
    requests = [
        (f"{shots}{passage}Q: {i}", [" A", " B", " both"])
        for shots in ("", SHOTS, SHOTS[:90])
        for passage in PASSAGES
        for i in range(4)
    ]
    assert difference(ours(model, tokeniser, requests), reference.score(model, tokeniser, requests)) < 1e-4


def test_scores_depend_neither_on_batch_size_nor_on_order_nor_on_neighbours():
    model, tokeniser = MODELS["mistral with a window"], TOKENISERS["metaspace"]
    requests = [request for shape in SHAPES.values() for request in shape]
    alone = {i: ours(model, tokeniser, [request])[0] for i, request in enumerate(requests)}
    order = random.Random(1).sample(range(len(requests)), len(requests))
    for batch_tokens in (1, 64, 500, 10**6):
        together = ours(model, tokeniser, requests, batch_tokens)
        shuffled = ours(model, tokeniser, [requests[i] for i in order], batch_tokens)
        for i, options in alone.items():
            for a, b, c in zip(options, together[i], shuffled[order.index(i)], strict=True):
                assert abs(a.logprob - b.logprob) < 1e-4 and abs(a.logprob - c.logprob) < 1e-4
                assert a.greedy == b.greedy == c.greedy


def test_the_window_matters():
    """Else the tests above would not notice if it were ignored."""
    requests = SHAPES["shots"]
    wide = ours(MODELS["mistral"], TOKENISERS["bytes"], requests)
    narrow = ours(MODELS["mistral with a window"], TOKENISERS["bytes"], requests)
    assert all(abs(a.logprob - b.logprob) > 1e-2 for i in wide for a, b in zip(wide[i], narrow[i]))


def test_what_is_longer_than_the_context_is_cut_off_from_the_left():
    model, tokeniser = toy.model(context=32), TOKENISERS["bytes"]
    requests = [(SHOTS + passage, [" True", " the river runs through"]) for passage in PASSAGES]
    found = ours(model, tokeniser, requests)
    assert difference(found, reference.score(model, tokeniser, requests)) < 1e-4
    # The model reads 32 tokens and is scored on the 33rd, so the text before the last 33 is not there.
    (options,) = loglikelihood.sequences(tokeniser, requests[:1], 32)
    assert [len(option.tokens) for option in options] == [33, 33]


def test_labels_cost_one_forward_and_shots_are_computed_once():
    model, tokeniser = MODELS["llama"], TOKENISERS["bytes"]
    labels = [" " + piece[1:] for piece in sorted(tokeniser.get_vocab()) if piece.startswith("Ġ") and len(piece) > 1][
        :4
    ]
    usage = loglikelihood.Usage()
    prompt = len(encoding.encode(tokeniser, "Passage: The river. Answer:"))
    ours(model, tokeniser, [("Passage: The river. Answer:", labels)], usage=usage)
    assert (usage.computed, usage.asked) == (prompt, 4 * prompt)

    shots, questions = SHOTS * 2, [f"{i} {passage}" for i in range(6) for passage in PASSAGES]
    usage = loglikelihood.Usage()
    ours(model, tokeniser, [(shots + question, [" True", " False"]) for question in questions], usage=usage)
    most = len(encoding.encode(tokeniser, shots)) + sum(
        len(encoding.encode(tokeniser, q + " False")) for q in questions
    )
    assert usage.computed <= most < usage.asked / 4


def test_bytes_and_tokens_to_normalise_by():
    ((first, second),) = loglikelihood.loglikelihoods(
        MODELS["llama"], TOKENISERS["bytes"], [("Q:", [" é", "  the river"])], 64
    )
    assert (first.bytes, second.bytes) == (2, 10)
    assert second.tokens == len(TOKENISERS["bytes"].encode("  the river", add_special_tokens=False))


def test_answered_requests_are_skipped_and_the_others_stay_the_same_to_the_bit():
    model, tokeniser = MODELS["llama"], TOKENISERS["bytes"]
    requests = [request for shape in SHAPES.values() for request in shape]
    whole = ours(model, tokeniser, requests, 100)
    for done in (set(range(0, 30, 2)), set(range(12)), set(range(len(requests)))):
        usage = loglikelihood.Usage()
        rest = ours(model, tokeniser, requests, 100, done=done, usage=usage)
        assert rest == {i: scores for i, scores in whole.items() if i not in done}
        assert bool(usage.computed) == bool(rest)


@pytest.fixture(scope="module")
def eight_bit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    toy.model(dtype=torch.bfloat16).save_pretrained(folder)
    return LlamaForCausalLM.from_pretrained(folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True)).eval()


def test_at_8_bits_a_run_that_goes_on_after_a_stop_equals_an_unbroken_one(eight_bit):
    requests = SHAPES["labels"] + SHAPES["shots"]
    batches = list(loglikelihood.score(eight_bit, TOKENISERS["bytes"], requests, 100))
    whole = {i: scores for batch in batches for i, scores in batch.items()}
    for stopped in range(1, len(batches)):
        done = {i for batch in batches[:stopped] for i in batch}
        rest = ours(eight_bit, TOKENISERS["bytes"], requests, 100, done=done)
        assert rest == {i: scores for i, scores in whole.items() if i not in done}


def test_a_request_that_cannot_be_scored_is_named():
    tokeniser = TOKENISERS["bytes"]
    with pytest.raises(loglikelihood.Failed, match="no tokens") as failed:
        ours(MODELS["llama"], tokeniser, [("a", ["b"]), ("c", [""])])
    assert failed.value.index == 1
    with pytest.raises(loglikelihood.Failed, match="context") as failed:
        ours(toy.model(context=8), tokeniser, [("a", ["b"]), ("c", [" river" * 20])])
    assert failed.value.index == 1


def test_a_score_that_is_not_a_number_is_an_error_with_the_request_that_caused_it():
    """Not with one that was computed beside it."""
    broken, tokeniser = toy.model(), TOKENISERS["bytes"]
    broken.model.embed_tokens.weight.data[tokeniser.encode("Z", add_special_tokens=False)] = torch.nan
    with pytest.raises(loglikelihood.Failed, match="not a number") as failed:
        ours(broken, tokeniser, [("The river", [" runs"]), ("The Z", [" runs"])])
    assert failed.value.index == 1


def test_the_model_is_left_as_it_was():
    model = toy.model()
    usual = model.config._attn_implementation
    list(loglikelihood.score(model, TOKENISERS["bytes"], SHAPES["labels"], 64))
    assert model.config._attn_implementation == usual
