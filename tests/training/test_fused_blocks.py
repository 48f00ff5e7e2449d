"""The fast training paths: equal to stock PEFT and transformers within rounding, and to TRL's loss."""

import dataclasses

import outside
import pytest
import tiny
import torch
from device import DEVICE

from maple.config import params
from maple.core.errors import MapleError
from maple.models import loading
from maple.training import batches, loop, output_head, row_attention

RECIPE = dataclasses.replace(
    params.load("smoke").recipe,
    lora=dataclasses.replace(params.load("smoke").recipe.lora, dropout=0.0),
    max_steps=1,
    batch_rows=24,
    warmup=0.0,
)


def tuned(world, bits=16, kind="llama", dropout=0.0, dtype=None):
    recipe = dataclasses.replace(RECIPE, lora=dataclasses.replace(RECIPE.lora, dropout=dropout))
    torch.manual_seed(1)
    lora = loading.make_trainable(loading.load_base(world / kind, bits, RECIPE.quantisation, DEVICE), recipe, 8).train()
    lora = lora.to(dtype) if dtype else lora
    for name, p in lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.02)
    return lora


def gradients(lora, rows, path, group=range(12)):
    loss = loop.answer_loss(lora, batches.join(rows, list(group)), path) / 100
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in lora.parameters() if p.requires_grad])


def distance(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("path", ["fused", "fused_bfloat16"])
def test_in_float32_the_fused_blocks_give_the_gradients_of_peft(world, kind, path):
    rows = batches.Rows(world / "train.arrow")
    loss, wanted = gradients(tuned(world, kind=kind, dtype=torch.float32), rows, "stock")
    fused_loss, found = gradients(tuned(world, kind=kind, dtype=torch.float32), rows, path)
    assert fused_loss == pytest.approx(loss, rel=1e-6)
    assert distance(found, wanted) < 1e-5


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_in_bfloat16_the_fused_gradients_are_as_near_to_the_exact_ones_as_those_of_peft(world, bits):
    rows = batches.Rows(world / "train.arrow")
    loss, stock = gradients(tuned(world, bits), rows, "stock")
    fused_loss, found = gradients(tuned(world, bits), rows, "fused")
    assert fused_loss == pytest.approx(loss, rel=2e-4)
    assert distance(found, stock) < 0.01
    if bits == 16:
        exact = gradients(tuned(world, dtype=torch.float32), rows, "stock")[1]
        assert distance(found, exact) < 1.1 * distance(stock, exact)


@pytest.mark.parametrize("path, tolerance", [("fused", 0.01), ("fused_bfloat16", 0.02)])
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_one_update_differs_from_that_of_stock_peft_by_no_more_than_stated(world, tmp_path, bits, path, tolerance):
    """Plain gradient descent's update is the gradient; Adam's first is its sign, so compared after Adam's rescaling
    the difference sits in the few numbers whose gradient is next to nothing."""
    updates = {}
    for name in ("stock", path):
        lora = tuned(world, bits)
        before = torch.cat([p.detach().flatten().clone() for p in lora.parameters() if p.requires_grad])
        recipe = dataclasses.replace(RECIPE, path=name)
        loop.finetune(lora, batches.Rows(world / "train.arrow"), recipe, 42, {}, tmp_path / name / "state.pt")
        updates[name] = torch.cat([p.detach().flatten() for p in lora.parameters() if p.requires_grad]) - before
    assert distance(updates[path], updates["stock"]) < 10 * tolerance
    assert (updates[path] - updates["stock"]).abs().mean() < tolerance * updates["stock"].abs().mean()


def test_dropout_drops_its_share_and_keeps_the_mean():
    from maple.training import fused_blocks

    x = torch.empty(500, 400, device=DEVICE)
    kept = fused_blocks._kept(x, 0.05, seed=1)
    assert kept.float().mean().item() == pytest.approx(0.95, abs=2e-3)
    assert torch.equal(kept, fused_blocks._kept(x, 0.05, seed=1))
    assert not torch.equal(kept, fused_blocks._kept(x, 0.05, seed=2))


def test_the_gradients_under_dropout_are_those_of_the_mask_that_was_drawn(world):
    """A finite difference along the gradient sees the same masks when torch's generator is set back."""
    rows = batches.Rows(world / "train.arrow")
    lora = tuned(world, dropout=0.3, dtype=torch.float64)
    packed = batches.join(rows, [0, 1, 2])

    def loss():
        torch.manual_seed(5)
        return loop.answer_loss(lora, packed)

    loss().backward()
    trained = [p for p in lora.parameters() if p.requires_grad]
    square = sum((p.grad**2).sum() for p in trained).item()
    step = 1e-4 / square
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for p in trained:
                p += sign * step * p.grad
        ends.append(loss().item())
        with torch.no_grad():
            for p in trained:
                p -= sign * step * p.grad
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(square, rel=1e-2)


def test_gradient_checkpointing_changes_no_gradient_of_the_fused_blocks(world):
    rows = batches.Rows(world / "train.arrow")
    plain, checkpointed = tuned(world, dropout=0.1), tuned(world, dropout=0.1)
    checkpointed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    checkpointed.enable_input_require_grads()
    results = []
    for lora in (plain, checkpointed):
        torch.manual_seed(3)
        results.append(gradients(lora, rows, "fused")[1])
    assert torch.equal(*results)


def test_an_activation_that_the_fused_blocks_do_not_compute_is_refused(world):
    """They gate with SiLU whatever the config says; `stock` takes the model's own."""
    lora = tuned(world)
    rows = batches.Rows(world / "train.arrow")
    lora.get_base_model().config.hidden_act = "gelu"
    with pytest.raises(MapleError, match="cannot train a model with the activation gelu"):
        loop.answer_loss(lora, batches.join(rows, [0]), "fused")


@pytest.mark.parametrize("kernel", [row_attention._on_cpu, row_attention._on_gpu])
@pytest.mark.parametrize("heads, window", [((4, 4), None), ((4, 2), None), ((4, 1), 20), ((4, 4), 200)])
def test_attention_by_row_equals_masked_attention_over_the_pack(monkeypatch, kernel, heads, window):
    monkeypatch.setattr(row_attention, "_on_cpu", kernel)
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 70, 64, 300, 1, 65]  # the 300 are more than attention.QUERIES
    total = sum(lengths)
    q, k, v = (
        torch.randn(total, count, 16, generator=generator, requires_grad=True)
        for count in (heads[0], heads[1], heads[1])
    )
    row = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(total)
    allowed = (row[:, None] == row) & (place[:, None] >= place)
    if window:
        allowed &= place[:, None] - place < window
    dense = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(0, 1)[None] for x in (q, k, v)), attn_mask=allowed, enable_gqa=True
    )[0].transpose(0, 1)
    ours = row_attention.attend(q, k, v, row_attention.RowLayout.of(torch.tensor(lengths).numpy(), q.device), window)
    weight = torch.randn(dense.shape, generator=generator)
    torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-5)
    for found, wanted in zip(
        torch.autograd.grad((ours * weight).sum(), (q, k, v)), torch.autograd.grad((dense * weight).sum(), (q, k, v))
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_chunked_head_gives_the_loss_and_gradient_of_cross_entropy(monkeypatch):
    monkeypatch.setattr(output_head, "HEAD_LOGITS", 3 * 50)
    torch.manual_seed(0)
    hidden, weight, labels = torch.randn(10, 16, requires_grad=True), 9 * torch.randn(50, 16), torch.randint(50, (10,))
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.t(), labels, reduction="sum")
    found = output_head.loss(hidden, weight, labels)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(found, hidden)[0], torch.autograd.grad(wanted, hidden)[0], rtol=1e-4, atol=1e-5
    )


def test_repacked_4_bit_weights_are_refused(world):
    """On CPUs with bfloat16 products bitsandbytes repacks the weights in an evaluation pass."""
    lora = tuned(world, 4)
    base = lora.get_base_model().model.layers[1].self_attn.q_proj.base_layer
    base.weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(RuntimeError, match="repacked"):
        gradients(lora, batches.Rows(world / "train.arrow"), "fused")


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_equals_that_of_trl_on_the_same_batch(world, tmp_path, packing):
    trl = outside.package("trl")
    import datasets
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    rows = batches.Rows(world / "train.arrow")
    columns = []
    for i in range(8):
        ids, start = rows[i]
        columns.append(
            {"input_ids": ids.tolist(), "completion_mask": [int(place >= start) for place in range(len(ids))]}
        )
    vocabulary = {"<pad>": 0, "</s>": 1} | {str(i): i for i in range(2, tiny.VOCABULARY)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    trainer = trl.SFTTrainer(
        model=tuned(world),
        args=trl.SFTConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=1 if packing else 8,
            packing=packing,
            max_length=512,
            completion_only_loss=True,
            bf16=False,
            max_steps=1,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            use_cpu=DEVICE.type == "cpu",
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list(columns),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>"),
    )
    trainer.train()
    theirs = trainer.state.log_history[0]["loss"]
    ours = loop.answer_loss(tuned(world), batches.join(rows, list(range(8)))).item() / rows.answer_tokens(
        list(range(8))
    )
    assert ours == pytest.approx(theirs, rel=1e-3)
