"""A GPU's way to answers, on the CPU: joined products, steps that are recorded and replayed, tokens looked at late."""

import dataclasses

import pytest
import reference
import tiny
import torch
import toy
from test_generate import MODELS, PROMPTS, TOKENISER, ours
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from maple.answering import decoder_layer, forward, generate, loglikelihood, writing
from maple.answering.decode_attention import Decoding
from maple.config import params
from maple.models import loading
from maple.training import batches, loop

RECIPE = params.load("smoke").recipe
RECORDED = writing.recorded
REQUESTS = [(prompt, [" the river", " a valley", " both"]) for prompt in PROMPTS]


class Tape(TorchDispatchMode):
    """The operations that a function is made of, with the tensors that they took and gave."""

    def __init__(self):
        super().__init__()
        self._lines, self.replays = [], 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = operation(*args, **kwargs or {})
        self._lines.append((operation, args, kwargs or {}, given))
        return given

    def replay(self):
        """The same operations on the same tensors. None of our Python runs, so what a step does not read from its tensors
        is what it was when the step was recorded, as in a CUDA graph."""
        self.replays += 1
        if self.replays == 1:
            return  # Recording has computed the step, which a graph's does not.
        again = {}
        now = lambda x: again.get(id(x), x) if isinstance(x, torch.Tensor) else x  # noqa: E731
        for operation, args, kwargs, given in self._lines:
            found = operation(*tree_map(now, args), **tree_map(now, kwargs))
            again |= {id(old): new for old, new in zip(tree_leaves(given), tree_leaves(found), strict=True)}


@pytest.fixture
def lean(monkeypatch):
    """As on a GPU; the tapes that were made."""
    tapes = []

    def recorded(step):
        with Tape() as tape:
            step()
        tapes.append(tape)
        return tape.replay

    monkeypatch.setattr(decoder_layer, "is_lean", lambda device: True)
    monkeypatch.setattr(writing, "recorded", recorded)
    return tapes


def adapted(kind: str, *targets: str):
    """A model with an adapter on some of its layers, large enough to matter."""
    recipe = dataclasses.replace(RECIPE, lora=dataclasses.replace(RECIPE.lora, targets=list(targets)))
    tuned = loading.make_trainable(toy.model(kind), recipe, 4).eval()
    for name, p in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    return tuned


@pytest.mark.parametrize("stop", [(), ("e", "river")])
@pytest.mark.parametrize("model", MODELS)
def test_texts_of_replayed_steps_are_those_of_plain_greedy_generation(model, stop, lean):
    assert ours(MODELS[model], PROMPTS, 20, stop) == reference.written(MODELS[model], TOKENISER, PROMPTS, 20, stop)
    assert sum(tape.replays for tape in lean) > 2 * len(lean) or model == "mistral with a window"


@pytest.mark.parametrize("targets", [RECIPE.lora.targets, ["q_proj", "v_proj", "up_proj"]])
def test_an_adapter_in_stacked_products_scores_and_writes_as_peft_s_modules_do(targets, lean):
    model, base = adapted("mistral", *targets), toy.model("mistral")
    found = loglikelihood.loglikelihoods(model, TOKENISER, REQUESTS, 200)
    for options, wanted, without in zip(
        found, reference.score(model, TOKENISER, REQUESTS), reference.score(base, TOKENISER, REQUESTS), strict=True
    ):
        for option, (logprob, greedy), (other, _) in zip(options, wanted, without, strict=True):
            assert abs(option.logprob - logprob) < 1e-4 and option.greedy == greedy
            assert abs(other - logprob) > 1e-3
    assert ours(model, PROMPTS, 12) == reference.written(model, TOKENISER, PROMPTS, 12, ())


def test_joined_weights_are_in_memory_once_and_the_model_computes_and_learns_as_before(lean, tmp_path):
    model, tokens = toy.model(), torch.arange(20)[None]
    before = model(tokens).logits
    size = sum(p.nbytes for p in model.parameters())
    for _ in range(2):  # joined already, the second time
        ours(model, PROMPTS[:2], 3)
        storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
        assert sum(storages.values()) == size
    inner = model.model.layers[0]
    assert (
        inner.self_attn.q_proj.weight.untyped_storage().data_ptr()
        == inner.self_attn.v_proj.weight.untyped_storage().data_ptr()
    )
    assert torch.equal(model(tokens).logits, before)
    tiny.save_rows(tmp_path / "rows.arrow")
    recipe = dataclasses.replace(RECIPE, max_steps=1)
    curve = loop.finetune(
        loading.make_trainable(model, recipe, 4), batches.Rows(tmp_path / "rows.arrow"), recipe, 1, {}, tmp_path / "s"
    ).curve
    assert curve[0]["loss"] > 0


def test_a_quantised_weight_stays_its_own_module(lean, world):
    for bits in (8, 4):
        model = loading.load_base(world / "llama", bits, RECIPE.quantisation, torch.device("cpu"))
        ready = forward.Ready.of(model)
        assert not any(layer.is_joined for layer in ready.layers) and not writing.can_be_recorded(ready)
        unpacked = loading.load_base(world / "llama", bits, RECIPE.quantisation, torch.device("cpu"), unpacked=True)
        assert writing.can_be_recorded(forward.Ready.of(unpacked)) == (bits == 4)


def test_where_nothing_can_be_recorded_each_step_is_computed(lean, monkeypatch):
    monkeypatch.setattr(writing, "recorded", RECORDED)
    model = MODELS["llama"]
    assert RECORDED(lambda: None) is None  # there is no GPU
    assert ours(model, PROMPTS, 8) == reference.written(model, TOKENISER, PROMPTS, 8, ())


@pytest.mark.parametrize("drop", [0.0, 0.75, 1.0])
def test_answers_that_end_while_a_step_is_under_way_leave_no_trace(drop, lean, monkeypatch):
    """With many end tokens answers end at very different lengths; written tokens outgrow their first block."""
    monkeypatch.setattr(generate, "DROP", drop)
    monkeypatch.setattr(Decoding, "BLOCK", 8)
    monkeypatch.setattr(Decoding, "STEADY", 8)
    model = toy.model("mistral", window=30)
    model.generation_config.eos_token_id = list(range(1, 60))
    expected = reference.written(model, TOKENISER, PROMPTS, 40, ())
    usage = loglikelihood.Usage()
    assert ours(model, PROMPTS, 40, usage=usage) == expected
    assert len({len(text) for text in expected}) > 5


def test_no_step_is_begun_whose_tokens_nobody_needs(lean):
    steps = []
    tokens = loglikelihood.Usage()
    with pytest.MonkeyPatch.context() as patch:
        begin = Decoding.begin
        patch.setattr(Decoding, "begin", lambda self: steps.append(None) or begin(self))
        ours(MODELS["llama"], PROMPTS[:1], 6, usage=tokens)
    assert len(steps) == 6


def test_output_that_is_not_a_number_is_an_error_with_the_prompt_also_a_step_later(lean):
    broken = toy.model()
    broken.model.embed_tokens.weight.data[TOKENISER.encode("Z", add_special_tokens=False)] = torch.nan
    with pytest.raises(loglikelihood.Failed) as failed:
        ours(broken, ["The river", "The Z"], 5)
    assert failed.value.index == 1
