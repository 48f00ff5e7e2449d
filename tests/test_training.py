"""Training: packing changes nothing, answers alone carry loss, stopped runs continue, two runs are equal."""

import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch

from maple import batches, model, params, training
from maple.errors import MapleError

RECIPE = dataclasses.replace(
    params.load("smoke").recipe,
    batch_rows=8,
    epochs=2,
    max_steps=4,
    warmup=0.0,
    lora=dataclasses.replace(params.load("smoke").recipe.lora, dropout=0.0),
)


def tuned(world, bits=16, kind="llama", recipe=RECIPE, rank=8):
    torch.manual_seed(1)
    base = model.load_base(world / kind, bits, recipe.quantisation, torch.device("cpu"))
    return model.add_lora(base, recipe, rank)


def run(world, tmp_path, bits=16, recipe=RECIPE, **more):
    lora = tuned(world, bits, recipe=recipe)
    outcome = training.finetune(
        lora, batches.Rows(world / "train.arrow"), recipe, 42, {"bits": bits}, tmp_path / "state" / "state.pt", **more
    )
    return outcome, {n: p.detach().clone() for n, p in lora.named_parameters() if p.requires_grad}


def gradients(lora, rows, groups):
    lora.zero_grad()
    loss = sum(training.answer_loss(lora, batches.join(rows, group)) for group in groups)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in lora.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_packed_loss_and_gradients_equal_those_of_each_row_alone(world, kind):
    rows = batches.Rows(world / "train.arrow")
    lora = tuned(world, kind=kind).float()
    for name, p in lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    packed, packed_grads = gradients(lora, rows, [list(range(12))])
    alone, alone_grads = gradients(lora, rows, [[i] for i in range(12)])
    assert packed == pytest.approx(alone, rel=1e-5)
    for name, grad in packed_grads.items():
        torch.testing.assert_close(grad, alone_grads[name], rtol=1e-3, atol=1e-5)


def test_packed_loss_equals_the_padded_loss_of_transformers(world):
    rows = batches.Rows(world / "train.arrow")
    lora = tuned(world).float()
    indices = list(range(8))
    longest = max(len(rows[i][0]) for i in indices)
    ids, labels, mask = (torch.full((8, longest), value) for value in (0, -100, 0))
    for line, index in enumerate(indices):
        tokens, answer = rows[index]
        ids[line, : len(tokens)] = torch.tensor(tokens)
        labels[line, answer : len(tokens)] = torch.tensor(tokens[answer:])
        mask[line, : len(tokens)] = 1
    reference = lora(input_ids=ids, attention_mask=mask, labels=labels).loss.item()
    ours = training.answer_loss(lora, batches.join(rows, indices)).item() / rows.answer_tokens(indices)
    assert ours == pytest.approx(reference, rel=1e-5)


@pytest.mark.parametrize("path", ["fused", "stock"])
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_the_tokens_of_one_row_never_change_the_loss_of_another(world, kind, path):
    rows = batches.Rows(world / "train.arrow")
    lora = tuned(world, kind=kind).float()
    packed = batches.join(rows, [0, 1, 2])
    row = np.repeat([0, 1, 2], packed.lengths)
    for changed in (0, 1, 2):
        others = np.where(row == changed, packed.input_ids * 7 % tiny.VOCABULARY, packed.input_ids)
        for loses in (0, 1, 2):
            own = row[packed.predicts] == loses
            losses = [
                training.answer_loss(
                    lora,
                    dataclasses.replace(packed, input_ids=ids, predicts=packed.predicts[own], labels=packed.labels[own]),
                    path,
                ).item()
                for ids in (packed.input_ids, others)
            ]
            assert (losses[0] == losses[1]) == (loses != changed)


@pytest.mark.parametrize("micro_batch_tokens", [1, 64, 4096])
def test_the_micro_batch_does_not_change_the_losses(world, tmp_path, micro_batch_tokens):
    outcome, _ = run(world, tmp_path, recipe=dataclasses.replace(RECIPE, micro_batch_tokens=micro_batch_tokens))
    reference, _ = run(world, tmp_path / "reference")
    assert [r["loss"] for r in outcome.curve] == pytest.approx([r["loss"] for r in reference.curve], rel=2e-3)


CURVES = json.loads(Path(__file__).with_name("loss_curves.json").read_text())


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_four_steps_follow_the_stored_loss_curve(world, tmp_path, bits):
    outcome, _ = run(world, tmp_path, bits)
    assert [row["loss"] for row in outcome.curve] == pytest.approx(CURVES[str(bits)], rel=5e-3)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_two_runs_give_the_same_adapter(world, tmp_path, bits):
    recipe = dataclasses.replace(RECIPE, lora=dataclasses.replace(RECIPE.lora, dropout=0.1))
    _, first = run(world, tmp_path / "a", bits, recipe)
    _, second = run(world, tmp_path / "b", bits, recipe)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_seed_is_used(world, tmp_path):
    rows = batches.Rows(world / "train.arrow")
    assert batches.steps(len(rows), 8, 1, None, seed=1) != batches.steps(len(rows), 8, 1, None, seed=2)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_measuring_the_held_out_loss_changes_no_gradient(world, bits):
    rows = batches.Rows(world / "train.arrow")
    untouched = gradients(tuned(world, bits).train(), rows, [[0, 1, 2]])[1]
    lora = tuned(world, bits)
    training.heldout_loss(lora, rows, 4096)
    measured = gradients(lora, rows, [[0, 1, 2]])[1]
    assert all(torch.equal(untouched[name], measured[name]) for name in untouched)


def test_a_base_that_was_evaluated_at_4_bits_is_not_trained_on(world, tmp_path):
    rows = batches.Rows(world / "train.arrow")
    lora = tuned(world, 4).eval()
    with torch.no_grad():
        training.answer_loss(lora, batches.join(rows, [0]))
    weights = [m.weight for n, m in lora.named_modules() if n.endswith("q_proj.base_layer")]
    if not getattr(weights[0].quant_state, "packing_format_for_cpu", False):
        pytest.skip("this processor has no AVX-512 bfloat16, so bitsandbytes repacks nothing")
    with pytest.raises(MapleError, match="repacked its 4-bit weights"):
        training.finetune(lora, rows, RECIPE, 42, {}, tmp_path / "state.pt")


def test_every_step_has_the_rows_that_the_recipe_says():
    plan = batches.steps(rows=10, batch_rows=4, epochs=2, max_steps=None, seed=0)
    assert [len(step) for step in plan] == [4, 4, 2, 4, 4, 2]
    assert sorted(sum(plan[:3], [])) == sorted(sum(plan[3:], [])) == list(range(10))


def test_packing_keeps_every_row_once_and_the_limit():
    lengths = {i: 3 + i * 7 % 40 for i in range(50)}
    groups = batches.pack(lengths, 64)
    assert sorted(sum(groups, [])) == list(range(50))
    assert max(sum(lengths[i] for i in group) for group in groups) <= 64


def test_a_diverging_run_stops_with_step_rows_and_advice(world, tmp_path):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, max_grad_norm=1e9, max_steps=20, epochs=9)
    with pytest.raises(MapleError, match=r"diverged at step \d+(.|\n)*toy-(.|\n)*learning_rate"):
        run(world, tmp_path, recipe=recipe)


def test_a_checkpoint_of_other_settings_is_refused_with_the_difference(world, tmp_path):
    stop_after(world, tmp_path, steps=2)
    lora = tuned(world)
    with pytest.raises(MapleError, match="bits: 16 then, 4 now"):
        training.finetune(lora, batches.Rows(world / "train.arrow"), RECIPE, 42, {"bits": 4}, tmp_path / "state" / "state.pt")


# Six steps with dropout, saved after every second.
RESUMED = dataclasses.replace(
    RECIPE, max_steps=6, checkpoint_steps=2, lora=dataclasses.replace(RECIPE.lora, dropout=0.1)
)
KILLED_AT = random.Random(1).sample(range(3, 7), 2)


def stop_after(world, tmp_path, steps, recipe=RECIPE):
    """Train in this process and send it SIGTERM after so many steps."""
    seen = []

    def report(row):
        seen.append(row)
        if len(seen) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(MapleError) as caught:
        run(world, tmp_path, recipe=recipe, report=report)
    assert caught.value.code == 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def unbroken(world, tmp_path_factory):
    """Curve and adapter of RESUMED without a stop."""
    outcome, adapter = run(world, tmp_path_factory.mktemp("unbroken"), recipe=RESUMED)
    return outcome.curve, safetensors.torch.save(adapter)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_run_stopped_by_sigterm_goes_on_to_the_same_adapter(world, tmp_path, unbroken, steps):
    stop_after(world, tmp_path, steps, RESUMED)
    outcome, adapter = run(world, tmp_path, recipe=RESUMED)
    assert outcome.resumed_at == steps
    assert (outcome.curve, safetensors.torch.save(adapter)) == unbroken


@pytest.mark.parametrize("kill_at", KILLED_AT)
def test_a_run_killed_at_a_random_step_goes_on_to_the_same_adapter(world, tmp_path, unbroken, kill_at):
    script = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import test_training as t
        def report(row):
            if row["step"] == {kill_at}:
                os.kill(os.getpid(), signal.SIGKILL)
        t.run(Path({str(world)!r}), Path({str(tmp_path)!r}), recipe=t.RESUMED, report=report)
    """)
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], env=os.environ | {"PYTHONPATH": "."})
    assert killed.returncode == -signal.SIGKILL
    outcome, adapter = run(world, tmp_path, recipe=RESUMED)
    assert outcome.resumed_at == (kill_at - 1) // 2 * 2
    assert (outcome.curve, safetensors.torch.save(adapter)) == unbroken


def test_the_seconds_of_a_resumed_run_add_up(world, tmp_path, monkeypatch):
    """By a clock that a step moves by one second, and the time between steps by nine."""
    clock = itertools.accumulate(itertools.cycle([9, 1]))
    monkeypatch.setattr(training, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    stop_after(world, tmp_path, 2, RESUMED)
    assert run(world, tmp_path, recipe=RESUMED)[0].seconds == 6


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_losses(world, tmp_path, monkeypatch, capsys):
    reference, _ = run(world, tmp_path / "reference")
    real = training.answer_loss

    def limited(lora, packed, path):
        if len(packed.input_ids) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(lora, packed, path)

    monkeypatch.setattr(training, "answer_loss", limited)
    outcome, _ = run(world, tmp_path)
    assert outcome.micro_batch_tokens <= 128
    assert "still 8 rows a step" in capsys.readouterr().out
    assert [r["loss"] for r in outcome.curve] == pytest.approx([r["loss"] for r in reference.curve], rel=2e-3)


def test_two_processes_give_the_losses_of_one(world, tmp_path):
    """Gradients that are not added up move these losses by 0.3 %."""
    recipe = dataclasses.replace(RECIPE, micro_batch_tokens=64)
    reference, _ = run(world, tmp_path / "one", recipe=recipe)
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(f"""
        import dataclasses, json, sys
        sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
        from pathlib import Path
        import test_training as t
        processes = t.training.Processes()
        assert processes.count == 2
        recipe = dataclasses.replace(t.RECIPE, micro_batch_tokens=64)
        outcome, _ = t.run(Path({str(world)!r}), Path({str(tmp_path)!r}), recipe=recipe, processes=processes)
        losses = Path({str(tmp_path)!r}, f"losses.{{processes.rank}}.json")
        losses.write_text(json.dumps([row["loss"] for row in outcome.curve]))
    """))
    launch = ["torch.distributed.run", "--standalone", "--local-addr", "localhost", "--nproc-per-node", "2", str(script)]
    subprocess.run([sys.executable, "-m", *launch], check=True, cwd=Path(__file__).parents[1])
    for rank in (0, 1):
        losses = json.loads((tmp_path / f"losses.{rank}.json").read_text())
        assert losses == pytest.approx([row["loss"] for row in reference.curve], rel=1e-4)


def test_stock_peft_loads_the_adapter(world, tmp_path):
    from peft import PeftModel

    lora = tuned(world)
    for name, p in lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    lora.save_pretrained(tmp_path / "adapter")
    base = model.load_base(world / "llama", 16, RECIPE.quantisation, torch.device("cpu"))
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    ids = torch.arange(3, 20)[None]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert torch.equal(lora.eval()(ids).logits, loaded.eval()(ids).logits)
