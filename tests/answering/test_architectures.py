"""Architectures whose scores and texts are those of transformers' own forward pass, and the refusal of any other."""

import pytest
import reference
import toy

from maple.answering import encoding, generate, loglikelihood, plain
from maple.core.errors import MapleError
from maple.models.architectures import SHARED

TOKENISER = toy.tokeniser()
# Windows shorter than the prompts, in one of the two layers where a type knows both kinds.
MIXED = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
SHAPES = {
    "gemma": {"head_dim": 16},
    "gemma3_text": dict(head_dim=16, query_pre_attn_scalar=16, **MIXED),
    "llama": {},
    "mistral": {"sliding_window": 16},
    "olmo2": {},
    "phi3": {"sliding_window": 16},
    "qwen2": dict(use_sliding_window=True, **MIXED),
    "qwen3": dict(head_dim=16, use_sliding_window=True, **MIXED),
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, "final_logit_softcapping": 5.0},
    "gpt2": {},
}
SHOTS = "The valley runs. True\n\nThe river is a valley. False\n\n" * 3
REQUESTS = [(f"{SHOTS}The river runs {number}. Q:", [" the river", " a valley", " both"]) for number in range(3)]


def model(kind: str, **changes):
    return toy.model(kind, context=256, **{"vocab_size": len(TOKENISER), "pad_token_id": 1} | SHAPES[kind] | changes)


@pytest.mark.parametrize("kind", SHARED)
def test_a_listed_architecture_scores_and_writes_as_transformers_does(kind):
    made = model(kind)
    for ours, theirs in zip(
        loglikelihood.loglikelihoods(made, TOKENISER, REQUESTS, 4096),
        reference.score(made, TOKENISER, REQUESTS),
        strict=True,
    ):
        for option, (logprob, greedy) in zip(ours, theirs, strict=True):
            assert abs(option.logprob - logprob) < 1e-4 and option.greedy == greedy
    prompts = [prompt for prompt, _ in REQUESTS]
    assert generate.generate(made, TOKENISER, prompts, 10, [], 4096) == reference.written(
        made, TOKENISER, prompts, 10, []
    )


@pytest.mark.parametrize("kind", ["gemma2", "gpt2"])
def test_any_other_is_refused_before_anything_is_computed(kind, monkeypatch):
    made = model(kind)
    monkeypatch.setattr(encoding, "encode_groups", lambda *a: pytest.fail("texts were tokenised"))
    with pytest.raises(MapleError, match=f"a model of type {kind} cannot be asked") as error:
        loglikelihood.loglikelihoods(made, TOKENISER, REQUESTS, 4096)
    assert "llama, mistral" in error.value.why and "evaluation.path: plain" in error.value.do
    with pytest.raises(MapleError, match=f"a model of type {kind} cannot be asked"):
        generate.generate(made, TOKENISER, ["The river"], 10, [], 4096)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_the_plain_path_takes_any_architecture_and_gives_transformers_own_numbers(kind):
    made = model(kind)
    ours = {
        index: found for batch in plain.score(made, TOKENISER, REQUESTS, done=[1]) for index, found in batch.items()
    }
    theirs = reference.score(made, TOKENISER, REQUESTS)
    assert sorted(ours) == [0, 2]
    for index, options in ours.items():
        assert [(pytest.approx(o.logprob, abs=1e-6), o.greedy) for o in options] == theirs[index]
    prompts = [prompt for prompt, _ in REQUESTS]
    for stop in ([], ["r"]):
        written = {
            i: text for batch in plain.generate_batches(made, TOKENISER, prompts, 10, stop) for i, text in batch.items()
        }
        assert [written[i] for i in range(3)] == reference.written(made, TOKENISER, prompts, 10, stop)


def test_what_a_checkpoint_wants_of_generation_beside_its_end_changes_no_answer_on_either_path():
    """As generation_config.json of chat models has it; a penalty for repetition acts on greedy answers too."""
    made = model("llama")
    prompts = [prompt for prompt, _ in REQUESTS]

    def written():
        batches = plain.generate_batches(made, TOKENISER, prompts, 10, [])
        found = {index: text for batch in batches for index, text in batch.items()}
        return [found[index] for index in range(len(prompts))]

    before = written()
    made.generation_config.repetition_penalty, made.generation_config.no_repeat_ngram_size = 5.0, 1
    assert reference.written(made, TOKENISER, prompts, 10, []) != before
    assert written() == generate.generate(made, TOKENISER, prompts, 10, [], 4096) == before
    assert made.generation_config.repetition_penalty == 5.0


def test_capped_logits_are_refused_in_a_listed_architecture_too():
    with pytest.raises(MapleError, match="caps its logits"):
        loglikelihood.loglikelihoods(model("gemma3_text", final_logit_softcapping=5.0), TOKENISER, REQUESTS, 4096)


def test_positions_that_depend_on_the_longest_text_of_a_pass_are_refused():
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    with pytest.raises(MapleError, match="dynamic positions"):
        loglikelihood.loglikelihoods(model("llama", rope_parameters=rope), TOKENISER, REQUESTS, 4096)
