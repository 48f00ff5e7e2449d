"""What only a GPU does: compiled kernels, memory that ends, a paged optimiser, bf16 low-rank products,
recorded steps."""

import dataclasses

import pytest
import tiny
import torch
import toy
from device import DEVICE, needs_gpu

from maple.answering import decoder_layer, generate, loglikelihood, writing
from maple.config import params
from maple.models import elementwise, loading
from maple.training import batches, loop

pytestmark = [pytest.mark.gpu, needs_gpu]

RECIPE = dataclasses.replace(params.load("smoke").recipe, max_steps=4, epochs=2, batch_rows=8, warmup=0.0)


def tuned(folder, bits=16, dtype=None, recipe=RECIPE):
    torch.manual_seed(1)
    lora = loading.make_trainable(loading.load_base(folder, bits, recipe.quantisation, DEVICE), recipe, 8)
    for name, p in lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.02)
    return lora.to(dtype) if dtype else lora


def adapter(lora):
    return torch.cat([p.detach().flatten() for p in lora.parameters() if p.requires_grad])


def finetuned(world, tmp_path, recipe, **more):
    lora = tuned(world / "mistral", recipe=recipe)
    outcome = loop.finetune(lora, batches.Rows(world / "train.arrow"), recipe, 42, {}, tmp_path / "state.pt", **more)
    return outcome, adapter(lora)


SHAPES = {
    "rms_norm": lambda draw: (draw(2048, 4096), draw(4096), 1e-5),
    "rms_norm_backward": lambda draw: (draw(2048, 4096), draw(2048, 4096), draw(4096), draw(2048, 1).float().abs()),
    "rotate": lambda draw: (draw(2048, 32, 128), draw(2048, 1, 128), draw(2048, 1, 128)),
    "gate": lambda draw: (draw(2048, 4096), draw(2048, 4096)),
    "gate_backward": lambda draw: (draw(2048, 4096), draw(2048, 4096), draw(2048, 4096)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_compiled_kernel_is_as_near_to_the_exact_numbers_as_the_operations_as_written(name):
    function, generator = getattr(elementwise, name), torch.Generator(DEVICE).manual_seed(0)
    given = SHAPES[name](lambda *size: torch.randn(size, device=DEVICE, generator=generator).bfloat16())
    assert given[0].numel() >= elementwise.LARGE
    exact, plain, compiled = (
        [found] if isinstance(found := run(*these), torch.Tensor) else found
        for run, these in (
            (function.__wrapped__, [x.double() if isinstance(x, torch.Tensor) else x for x in given]),
            (function.__wrapped__, given),
            (function, given),
        )
    )
    for a, b, c in zip(exact, plain, compiled, strict=True):
        far = lambda found: ((found.double() - a).norm() / a.norm()).item()  # noqa: B023
        assert far(c) <= 1.1 * far(b) + 1e-6 and c.dtype == b.dtype


def test_out_of_memory_halves_the_micro_batch_for_real(world, tmp_path, capsys):
    tiny.save_rows(tmp_path / "long.arrow", count=64, longest=400)
    recipe = dataclasses.replace(RECIPE, batch_rows=64, max_steps=1, micro_batch_tokens=10**6, path="stock")
    lora = tuned(world / "llama")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (48 << 20)) / total)
    try:
        rows = batches.Rows(tmp_path / "long.arrow")
        outcome = loop.finetune(lora, rows, recipe, 42, {}, tmp_path / "state.pt")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert outcome.micro_batch_tokens < 10**6 and "still 64 rows a step" in capsys.readouterr().out


def test_the_paged_optimiser_takes_the_steps_of_adamw(world, tmp_path):
    found = {
        name: finetuned(world, tmp_path / name, dataclasses.replace(RECIPE, optimiser=name))[1]
        for name in ("adamw", "paged_adamw")
    }
    assert ((found["adamw"] - found["paged_adamw"]).norm() / found["adamw"].norm()).item() < 1e-3


def test_a_stopped_run_goes_on_to_the_same_adapter_within_rounding(world, tmp_path):
    """Attention's gradient is added up in another order each time, so not to the bit."""
    import os
    import signal

    from maple.core.errors import MapleError

    whole, wanted = finetuned(world, tmp_path / "whole", RECIPE)
    stop = lambda row: os.kill(os.getpid(), signal.SIGTERM) if row["step"] == 2 else None
    with pytest.raises(MapleError, match="stopped after step 2"):
        finetuned(world, tmp_path / "parts", RECIPE, report=stop)
    outcome, found = finetuned(world, tmp_path / "parts", RECIPE)
    assert outcome.resumed_at == 2
    assert ((found - wanted).norm() / wanted.norm()).item() < 1e-3
    assert [row["loss"] for row in outcome.curve] == pytest.approx([row["loss"] for row in whole.curve], rel=1e-3)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_an_adapter_asked_in_one_product_gives_what_peft_gives(world, dtype, tolerance):
    lora = tuned(world / "llama", dtype=dtype if dtype == torch.float32 else None).eval()
    attention = lora.get_base_model().model.layers[0].self_attn
    x = torch.randn(50, 64, device=DEVICE, dtype=dtype)
    with torch.inference_mode():
        modules = attention.q_proj, attention.k_proj, attention.v_proj
        found = decoder_layer.joined(modules, dtype)(x)
        wanted = torch.cat([module(x) for module in modules], 1)
        base = torch.cat([module.base_layer(x) for module in modules], 1)
    assert ((found - wanted).norm() / wanted.norm()).item() < tolerance
    assert ((base - wanted).norm() / wanted.norm()).item() > tolerance


def replayed(monkeypatch):
    """Texts of a model whose rows have one to four prompts, and how often a recorded step was replayed."""
    model, tokeniser = toy.model("mistral"), toy.tokeniser()
    prompts = [
        f"{passage * 9}{number}" for passage, n in (("river ", 4), ("valley ", 3), ("a", 1)) for number in range(n)
    ]
    recorded, replays = writing.recorded, []

    def watched(step):
        replay = recorded(step)
        return replay and (lambda: replays.append(None) or replay())

    monkeypatch.setattr(writing, "recorded", watched)
    return generate.generate(model, tokeniser, prompts, 40, [], 4096), len(replays)


def test_a_step_can_be_recorded(monkeypatch):
    assert replayed(monkeypatch)[1] > 30


def test_a_replayed_step_writes_what_a_computed_one_writes(monkeypatch):
    found, _ = replayed(monkeypatch)
    monkeypatch.setattr(writing, "can_be_recorded", lambda ready: False)
    assert replayed(monkeypatch) == (found, 0)


def test_at_8_bits_the_same_batches_give_the_same_numbers(world):
    model = tuned(world / "llama", bits=8).eval()
    requests = [(f"{i} river valley", [" yes", " no", " perhaps"]) for i in range(12)]

    tokeniser = toy.tokeniser()
    model.resize_token_embeddings(len(tokeniser))
    found = [loglikelihood.loglikelihoods(model, tokeniser, requests, 100) for _ in range(2)]
    assert found[0] == found[1]
