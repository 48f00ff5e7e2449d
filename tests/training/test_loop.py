"""Training: packing changes nothing, answers alone carry loss, stopped runs continue, two runs are equal."""

import dataclasses
import itertools
import json
import math
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
import transformers
from device import DEVICE

from maple.config import catalogue, params
from maple.config.cell import Cell
from maple.core.errors import MapleError
from maple.models import loading
from maple.models.architectures import PACKED
from maple.report import model_card
from maple.training import batches, checkpoint, loop

RECIPE = dataclasses.replace(
    params.load("smoke").recipe,
    batch_rows=8,
    learning_rate=0.002,
    epochs=2,
    max_steps=4,
    warmup=0.0,
    lora=dataclasses.replace(params.load("smoke").recipe.lora, dropout=0.0),
)

# Six steps with dropout, saved after every second.
RESUMED = dataclasses.replace(
    RECIPE, max_steps=6, checkpoint_steps=2, lora=dataclasses.replace(RECIPE.lora, dropout=0.1)
)


def tuned(world, bits=16, kind="llama", recipe=RECIPE, rank=8, b=0.0):
    """A model with LoRA: as it starts, or with matrices B drawn with deviation `b`."""
    torch.manual_seed(1)
    base = loading.load_base(world / kind, bits, recipe.quantisation, DEVICE)
    lora = loading.make_trainable(base, recipe, rank)
    for name, p in lora.named_parameters():
        if b and "lora_B" in name:
            torch.nn.init.normal_(p, std=b)
    return lora


def run(world, tmp_path, bits=16, recipe=RECIPE, **more):
    lora = tuned(world, bits, recipe=recipe)
    outcome = loop.finetune(
        lora, batches.Rows(world / "train.arrow"), recipe, 42, {"bits": bits}, tmp_path / "state" / "state.pt", **more
    )
    return outcome, {n: p.detach().clone() for n, p in lora.named_parameters() if p.requires_grad}


def gradients(lora, rows, groups):
    lora.zero_grad()
    loss = sum(loop.answer_loss(lora, batches.join(rows, group)) for group in groups)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in lora.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_packed_loss_and_gradients_equal_those_of_each_row_alone(world, kind):
    rows = batches.Rows(world / "train.arrow")
    lora = tuned(world, kind=kind, b=0.1).float()
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
    ids, labels, mask = (part.to(DEVICE) for part in (ids, labels, mask))
    reference = lora(input_ids=ids, attention_mask=mask, labels=labels).loss.item()
    ours = loop.answer_loss(lora, batches.join(rows, indices)).item() / rows.answer_tokens(indices)
    assert ours == pytest.approx(reference, rel=1e-5)


@pytest.mark.parametrize("path", ["fused", "stock"])
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_the_tokens_of_one_row_never_change_the_loss_of_another(world, kind, path):
    rows = batches.Rows(world / "train.arrow")
    lora = tuned(world, kind=kind, b=0.1).float()
    packed = batches.join(rows, [0, 1, 2])
    row = np.repeat([0, 1, 2], packed.lengths)
    for changed, read in itertools.product((0, 1, 2), repeat=2):
        own = row[packed.predicts] == read
        part = dataclasses.replace(packed, predicts=packed.predicts[own], labels=packed.labels[own])
        ids = np.where(row == changed, 7 * packed.input_ids % tiny.VOCABULARY, packed.input_ids)
        before, after = (loop.answer_loss(lora, p, path) for p in (part, dataclasses.replace(part, input_ids=ids)))
        assert torch.equal(before, after) == (read != changed)


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
    loop.heldout_loss(lora, rows, 4096)
    measured = gradients(lora, rows, [[0, 1, 2]])[1]
    assert all(torch.equal(untouched[name], measured[name]) for name in untouched)


def test_a_base_that_was_evaluated_at_4_bits_is_not_trained_on(world, tmp_path):
    rows = batches.Rows(world / "train.arrow")
    lora = tuned(world, 4).eval()
    with torch.no_grad():
        loop.answer_loss(lora, batches.join(rows, [0]))
    weights = [m.weight for n, m in lora.named_modules() if n.endswith("q_proj.base_layer")]
    if not getattr(weights[0].quant_state, "packing_format_for_cpu", False):
        pytest.skip("this processor has no AVX-512 bfloat16, so bitsandbytes repacks nothing")
    with pytest.raises(MapleError, match="repacked its 4-bit weights"):
        loop.finetune(lora, rows, RECIPE, 42, {}, tmp_path / "state.pt")


def test_every_step_has_the_rows_that_the_recipe_says():
    plan = batches.steps(rows=10, batch_rows=4, epochs=2, max_steps=None, seed=0)
    assert [len(step) for step in plan] == [4, 4, 2, 4, 4, 2]
    assert sorted(sum(plan[:3], [])) == sorted(sum(plan[3:], [])) == list(range(10))


def test_packing_keeps_every_row_once_and_the_limit():
    lengths = {i: 3 + i * 7 % 40 for i in range(50)}
    groups = batches.pack(lengths, 64)
    assert sorted(sum(groups, [])) == list(range(50))
    assert max(sum(lengths[i] for i in group) for group in groups) <= 64


# By hand, for a peak of 1 and ten steps of which two are warm-up: step (from 0) -> learning rate.
RATES = {
    "constant": {0: 0.5, 1: 1, 2: 1, 6: 1, 9: 1},
    "linear": {0: 0.5, 1: 1, 2: 1, 6: 0.5, 9: 0.125},
    "cosine": {0: 0.5, 1: 1, 2: 1, 6: 0.5, 9: (1 - 0.5**0.5 * (1 + 0.5**0.5) ** 0.5) / 2},
}


@pytest.mark.parametrize("schedule", RATES)
def test_the_learning_rate_warms_up_and_follows_its_schedule(schedule):
    recipe = dataclasses.replace(RECIPE, learning_rate=1.0, schedule=schedule, warmup=0.2)
    found = {step: loop.learning_rate(recipe, step, 10) for step in RATES[schedule]}
    assert found == pytest.approx(RATES[schedule])
    assert loop.learning_rate(dataclasses.replace(recipe, warmup=0.0), 0, 10) == 1


@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.25])
@pytest.mark.parametrize("schedule", RATES)
def test_the_learning_rate_is_that_of_transformers(schedule, warmup):
    """Except that transformers' warm-up begins with a step at rate 0, so ours is one step ahead until it ends."""
    recipe = dataclasses.replace(RECIPE, learning_rate=0.002, schedule=schedule, warmup=warmup)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.002)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    warm = math.ceil(40 * warmup)
    scheduler = transformers.get_scheduler(name, optimiser, num_warmup_steps=warm, num_training_steps=40)
    theirs = []
    for _ in range(40):
        theirs.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    ours = [loop.learning_rate(recipe, step, 40) for step in range(40)]
    assert ours == pytest.approx(theirs[1 : warm + 1] + theirs[warm:])


def test_a_steps_learning_rate_and_the_weight_decay_reach_the_optimiser(world, tmp_path, monkeypatch):
    """AdamW's decay takes rate x decay x weight off a weight, beside an update that does not depend on the decay."""
    monkeypatch.setattr(loop, "learning_rate", lambda *_: 0.001)
    one = dataclasses.replace(RECIPE, max_steps=1, learning_rate=0.004)
    before = {name: p.detach().clone() for name, p in tuned(world).named_parameters()}
    _, plain = run(world, tmp_path / "plain", recipe=one)
    _, decayed = run(world, tmp_path / "decayed", recipe=dataclasses.replace(one, weight_decay=0.5))
    for name in plain:
        torch.testing.assert_close(plain[name] - decayed[name], 0.001 * 0.5 * before[name], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    "alpha, method, rank, scale",
    [
        ("2r", "lora", 8, 2),
        ("2r", "lora", 64, 2),
        (16, "lora", 8, 2),
        (16, "lora", 64, 0.25),
        ("2r", "rslora", 16, 8),
        (16, "rslora", 64, 2),
    ],
)
def test_every_adapted_layer_has_the_scale_that_the_parameters_say(world, alpha, method, rank, scale):
    """alpha / r, with rsLoRA alpha / sqrt(r)."""
    smoke = params.load("smoke")
    lora = dataclasses.replace(smoke.lora, r=rank, alpha=alpha)
    cell, recipe = dataclasses.replace(smoke, lora=lora, method=method).cell_of("experiment")
    layers = [m for m in tuned(world, recipe=recipe, rank=cell.rank).modules() if hasattr(m, "lora_A")]
    assert [layer.scaling for layer in layers] == 2 * len(recipe.lora.targets) * [{"default": scale}]


def test_every_step_draws_its_own_dropout(world, tmp_path):
    """Two steps over the same rows, of which nothing is learnt."""
    recipe = dataclasses.replace(RESUMED, batch_rows=24, learning_rate=1e-30)
    lora = tuned(world, recipe=recipe, b=0.1)
    outcome = loop.finetune(lora, batches.Rows(world / "train.arrow"), recipe, 42, {}, tmp_path / "state.pt")
    first, second = (row["loss"] for row in outcome.curve)
    assert first != second


def test_a_diverging_run_stops_with_step_rows_and_advice(world, tmp_path):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, max_grad_norm=1e9, max_steps=20, epochs=9)
    with pytest.raises(MapleError, match=r"diverged at step \d+(.|\n)*toy-(.|\n)*learning_rate"):
        run(world, tmp_path, recipe=recipe)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("late, diverges", [(30.9, False), (31.1, True)])
def test_a_finite_loss_stops_the_run_above_the_bound(world, tmp_path, monkeypatch, late, diverges, stopped):
    """A tenth of a loss enters the smoothed one, whose lowest is 1 here: a loss of 31 moves it to the bound of 3."""
    losses = iter([2.0] + 60 * [1.0] + [late] + 10 * [1.0])
    monkeypatch.setattr(loop, "_step", lambda *_: next(losses))
    recipe = dataclasses.replace(RECIPE, epochs=24, max_steps=None, divergence_bound=3.0)
    if stopped:
        stop_after(world, tmp_path, 61, recipe)
    if diverges:
        with pytest.raises(MapleError, match="diverged at step 62: loss 31.1"):
            run(world, tmp_path, recipe=recipe)
    else:
        assert len(run(world, tmp_path, recipe=recipe)[0].curve) == 72


def test_a_checkpoint_of_other_settings_is_refused_with_the_difference(world, tmp_path):
    stop_after(world, tmp_path, steps=2)
    lora = tuned(world)
    with pytest.raises(MapleError, match="bits: 16 then, 4 now"):
        loop.finetune(
            lora, batches.Rows(world / "train.arrow"), RECIPE, 42, {"bits": 4}, tmp_path / "state" / "state.pt"
        )


def test_a_difference_deep_in_a_recipe_is_shown_alone(world, tmp_path):
    path = tmp_path / "state.pt"
    checkpoint.save(path, {"recipe": {"path": "fused", "lora": {"dropout": 0.1}}}, {})
    with pytest.raises(MapleError) as error:
        checkpoint.load(path, {"recipe": {"lora": {"dropout": 0.2}, "path": "fused"}})
    assert error.value.why == "recipe.lora.dropout: 0.1 then, 0.2 now"


@pytest.mark.parametrize("kept", [0, 100, -10])
def test_a_damaged_checkpoint_says_how_to_start_afresh(tmp_path, kept):
    path = tmp_path / "state.pt"
    checkpoint.save(path, {}, {"adapter": {"a": torch.zeros(8)}})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(MapleError, match="is damaged") as error:
        checkpoint.load(path, {})
    assert "rm -r" in error.value.do


def test_a_run_stopped_after_its_last_step_has_nothing_to_train_again(world, tmp_path):
    five = dataclasses.replace(RESUMED, max_steps=5)
    first, trained = run(world, tmp_path, recipe=five)
    again, resumed = run(world, tmp_path, recipe=five)
    assert again.resumed_at == 5 and again.curve == first.curve
    assert all(torch.equal(trained[name], resumed[name]) for name in trained)


@pytest.mark.parametrize("model_type", PACKED)
def test_the_stock_path_gives_transformers_own_loss_for_every_model_type_that_it_takes(world, model_type):
    rows, lm = batches.Rows(world / "train.arrow"), tiny.model(model_type, initializer_range=0.3)
    alone = 0.0
    for index in range(4):
        ids, start = rows[index]
        ids = torch.tensor(ids, dtype=torch.long)
        labels = ids.clone()
        labels[:start] = -100
        alone += rows.answer_tokens([index]) * lm(input_ids=ids[None], labels=labels[None]).loss.item()
    packed = loop.answer_loss(lm, batches.join(rows, [0, 1, 2, 3]), "stock").item()
    assert packed == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ("model_type", "path", "do"), [("qwen3", "fused", "recipe.path: stock"), ("gemma2", "stock", "PACKED")]
)
def test_a_model_type_that_a_path_was_not_compared_for_is_refused(world, model_type, path, do):
    with pytest.raises(MapleError, match=model_type) as error:
        loop.answer_loss(tiny.model(model_type), batches.join(batches.Rows(world / "train.arrow"), [0]), path)
    assert do in error.value.do


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
        import test_loop as t
        def report(row):
            if row["step"] == {kill_at}:
                os.kill(os.getpid(), signal.SIGKILL)
        t.run(Path({str(world)!r}), Path({str(tmp_path)!r}), recipe=t.RESUMED, report=report)
    """)
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": ".:tests"}
    )
    assert killed.returncode == -signal.SIGKILL
    outcome, adapter = run(world, tmp_path, recipe=RESUMED)
    assert outcome.resumed_at == (kill_at - 1) // 2 * 2
    assert (outcome.curve, safetensors.torch.save(adapter)) == unbroken


def test_the_seconds_of_a_resumed_run_add_up(world, tmp_path, monkeypatch):
    """By a clock that a step moves by one second, and the time between steps by nine."""
    clock = itertools.accumulate(itertools.cycle([9, 1]))
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    stop_after(world, tmp_path, 2, RESUMED)
    assert run(world, tmp_path, recipe=RESUMED)[0].seconds == 6


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_losses(world, tmp_path, monkeypatch, capsys):
    reference, _ = run(world, tmp_path / "reference")
    real = loop.answer_loss

    def limited(lora, packed, path):
        if len(packed.input_ids) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(lora, packed, path)

    monkeypatch.setattr(loop, "answer_loss", limited)
    outcome, _ = run(world, tmp_path)
    assert outcome.micro_batch_tokens <= 128
    assert "still 8 rows a step" in capsys.readouterr().out
    assert [r["loss"] for r in outcome.curve] == pytest.approx([r["loss"] for r in reference.curve], rel=2e-3)


def test_two_processes_give_the_losses_of_one_and_stop_together(world, tmp_path):
    """Gradients that are not added up move these losses by 0.3 %. SIGTERM reaches one of the two only."""
    recipe = dataclasses.replace(RECIPE, micro_batch_tokens=64)
    reference, _ = run(world, tmp_path / "one", recipe=recipe)
    script = tmp_path / "two.py"
    script.write_text(
        textwrap.dedent(f"""
        import dataclasses, json, os, signal, sys
        sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}, {str(Path(__file__).parents[2])!r}]
        from pathlib import Path
        import test_loop as t
        processes = t.loop.Processes()
        assert processes.count == 2
        recipe = dataclasses.replace(t.RECIPE, micro_batch_tokens=64)
        outcome, _ = t.run(Path({str(world)!r}), Path({str(tmp_path)!r}), recipe=recipe, processes=processes)
        losses = Path({str(tmp_path)!r}, f"losses.{{processes.rank}}.json")
        losses.write_text(json.dumps([row["loss"] for row in outcome.curve]))

        def report(row):
            if processes.rank and row["step"] == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        try:
            t.run(Path({str(world)!r}), Path({str(tmp_path / "stopped")!r}), recipe=recipe, report=report, processes=processes)
        except t.MapleError as error:
            Path({str(tmp_path)!r}, f"stopped.{{processes.rank}}").write_text(f"{{error.code}} {{error.what}}")
    """)
    )
    launch = ["torch.distributed.run", "--standalone", "--local-addr", "localhost", "--nproc-per-node", "2"]
    subprocess.run([sys.executable, "-m", *launch, str(script)], check=True, cwd=Path(__file__).parents[2])
    for rank in (0, 1):
        losses = json.loads((tmp_path / f"losses.{rank}.json").read_text())
        assert losses == pytest.approx([row["loss"] for row in reference.curve], rel=1e-4)
        assert (tmp_path / f"stopped.{rank}").read_text().startswith("143 training stopped after step 2 of")
    assert run(world, tmp_path / "stopped", recipe=recipe)[0].resumed_at == 2


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_the_train_stage_writes_what_stock_peft_loads_and_names_base_revision_and_bits(
    world, tmp_path, monkeypatch, bits
):
    from peft import PeftModel

    source = catalogue.models()["llama-2-7b"]
    cell = Cell.parse(f"llama-2-7b-{bits}bit.alpaca.r8.s42")
    trained = tiny.train_cell(world, tmp_path, monkeypatch, params.load("smoke"), cell)

    folder = tmp_path / "adapters" / cell.name
    written = json.loads((folder / "record.json").read_text())
    assert (written["base"]["hub_id"], written["base"]["revision"]) == (source.hub_id, source.revision)
    assert written["bits"] == bits
    words = model_card.card(written, smoke=True)
    assert (
        f"{source.hub_id} at revision `{source.revision}`, trained on the base at **{bits} bits**" in words
        and "SMOKE" in words
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "curve.csv",
        "record.json",
    ]
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in folder.iterdir())
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (source.hub_id, source.revision)
    assert config["target_modules"] == sorted(params.TARGETS)

    ids = torch.arange(3, 20)[None]
    base = loading.load_base(world / "llama", bits, RECIPE.quantisation, DEVICE)
    loaded = PeftModel.from_pretrained(base, folder)
    with torch.no_grad():
        trained, again = (lora.eval()(ids).logits for lora in (trained, loaded))
        with loaded.disable_adapter():
            untrained = loaded(ids).logits
    assert (folder / "adapter_model.safetensors").exists()
    assert torch.equal(trained, again) and not torch.equal(trained, untrained)


def test_a_checkpoint_with_one_flipped_byte_is_refused(world, tmp_path):
    outcome, _ = run(world, tmp_path, recipe=RESUMED)
    path = tmp_path / "state" / "state.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(MapleError, match="state.pt is damaged"):
        run(world, tmp_path, recipe=RESUMED)


def test_a_kill_between_a_checkpoint_and_its_digest_is_survived(world, tmp_path):
    """The digest of the state before is accepted too: the digests are written first."""
    run(world, tmp_path, recipe=RESUMED)
    path = tmp_path / "state" / "state.pt"
    kept = path.read_bytes()
    settings = {"bits": 16}
    state = checkpoint.load(path, settings)
    checkpoint.save(path, settings, state | {"seconds": 1.0})
    path.write_bytes(kept)
    assert checkpoint.load(path, settings)["seconds"] == state["seconds"]
