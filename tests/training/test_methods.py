"""Every method trains, stops and goes on, is counted as PEFT counts it, and is answered as it was trained."""

import dataclasses
import json
import re
from pathlib import Path

import peft
import pytest
import tiny
import torch
import toy
import yaml

from maple.answering import loglikelihood, plain
from maple.config import catalogue, methods, params
from maple.config.cell import Cell
from maple.config.methods import METHODS
from maple.core.errors import MapleError
from maple.models import adapter_check, loading
from maple.models.shapes import Shape
from maple.report import model_card
from maple.training import batches, loop

CPU = torch.device("cpu")
SMOKE = params.load("smoke")
IDS = torch.arange(3, 40)[None]
# Everything that may be trained: (method, bits).
EVERY = [(name, bits) for name, method in METHODS.items() for bits in method.bits]


def recipe_of(method: str, **changes):
    given = {"method": method, "batch_rows": 8, "max_steps": 4, "epochs": 2, "learning_rate": 0.02, "virtual_tokens": 5}
    return dataclasses.replace(SMOKE.recipe, **given | changes).fitted()


def trainable(world, method, bits=16, kind="llama", **changes):
    torch.manual_seed(1)
    recipe = recipe_of(method, **changes)
    base = loading.load_base(world / kind, bits, recipe.quantisation, CPU)
    return loading.make_trainable(base, recipe, 8), recipe


def test_each_method_of_the_parameters_has_its_configuration():
    kinds = {name: loading.peft_config(recipe_of(name), 8) for name in METHODS}
    assert {name: kind.peft_type.value if kind else None for name, kind in kinds.items()} == {
        **dict.fromkeys(("lora", "rslora", "dora", "pissa"), "LORA"),
        "ia3": "IA3",
        "prompt": "PROMPT_TUNING",
        "prefix": "PREFIX_TUNING",
        "full": None,
    }
    assert kinds["dora"].use_dora and kinds["rslora"].use_rslora


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_trained_is_counted_as_peft_counts_it(world, method, kind):
    model, recipe = trainable(world, method, kind=kind)
    shape = Shape.of_config(json.loads((world / kind / "config.json").read_text()))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert shape.trainable_parameters(recipe, 8) == trained
    if method == "full":
        assert shape.trainable_percent(recipe, 8) == 100
    else:
        count, everything = model.get_nb_trainable_parameters()
        assert (count, 100 * count / everything) == (trained, pytest.approx(shape.trainable_percent(recipe, 8)))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method, bits", EVERY)
def test_a_trained_model_is_loaded_as_it_was_trained(world, tmp_path, monkeypatch, method, bits):
    """The train stage, then what the answer stage loads: the same logits, and not the base's."""
    source = catalogue.models()["llama-2-7b"]
    cell = Cell.parse(f"llama-2-7b-{bits}bit.alpaca.r8.s42")
    settings = dataclasses.replace(SMOKE, recipe=recipe_of(method))
    trained = tiny.train_cell(world, tmp_path, monkeypatch, settings, cell)

    folder = tmp_path / "adapters" / cell.name
    record = json.loads((folder / "record.json").read_text())
    assert record["heldout_loss"]["after"] < record["heldout_loss"]["before"]
    assert record["rank"] == (8 if METHODS[method].ranked else None)
    assert adapter_check.is_whole(folder) == (method == "full")
    assert adapter_check.is_virtual(folder) == METHODS[method].virtual
    assert set(adapter_check.identity(folder)) == {
        *(
            {"config.json", "model.safetensors"}
            if method == "full"
            else {"adapter_config.json", "adapter_model.safetensors"}
        )
    }
    assert adapter_check.notes(folder, source) == []
    assert METHODS[method].label.lower().split()[0] in model_card.card(record, smoke=True).lower()
    assert not (tmp_path / "work" / "checkpoints" / cell.name).exists()

    loaded = loading.load_tuned(world / "llama", folder, source, bits, SMOKE.recipe.quantisation, CPU)
    base = loading.load_tuned(world / "llama", None, None, bits, SMOKE.recipe.quantisation, CPU)
    inner = getattr(trained, "get_base_model", lambda: trained)()
    inner.set_attn_implementation("sdpa")
    with torch.no_grad():
        ours, again, untrained = (model.eval()(IDS, use_cache=False).logits for model in (trained, loaded, base))
    # PiSSA is saved as a LoRA beside the base as it was, whose weights round elsewhere; `trained` has its rotary angles
    # rounded to bfloat16 with the weights, which are what is compared of a whole model.
    if method == "full":
        assert all(torch.equal(p, trained.state_dict()[name]) for name, p in loaded.state_dict().items())
    torch.testing.assert_close(
        ours.float(),
        again.float(),
        **({"rtol": 0.05, "atol": 0.05} if method in ("pissa", "full") else {"rtol": 0, "atol": 0}),
    )
    if method != "prompt":  # whose logits begin with those of its virtual tokens
        assert (again - untrained).abs().max() > 0.01


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pissa_beside_its_base_equals_pissa_in_exact_arithmetic(tmp_path):
    """PEFT's conversion to a LoRA of twice the rank, in float32, where nothing is rounded."""
    from maple.training import adapter_folder

    recipe = recipe_of("pissa")
    tuned = loading.make_trainable(toy.model().requires_grad_(False), recipe, 8)
    tuned.save_pretrained(tmp_path / "start")
    torch.manual_seed(3)
    for p in tuned.parameters():
        if p.requires_grad:
            p.data += 0.1 * torch.randn_like(p)
    adapter_folder.save(tuned, tmp_path / "adapter", catalogue.models()["llama-2-7b"], tmp_path / "start")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (16, True)
    loaded = loading.attach_adapter(toy.model().requires_grad_(False), tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(loaded(IDS).logits, tuned.eval()(IDS).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if "stock" in method.paths])
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_the_plain_loss_is_that_of_packed_rows(world, kind, method):
    rows = batches.Rows(world / "train.arrow")
    model, recipe = trainable(world, method, kind=kind)
    model = model.float()
    for p in model.parameters():
        if p.requires_grad:
            p.data += 0.05 * torch.randn_like(p)
    packed = batches.join(rows, list(range(8)))
    with torch.no_grad(), loop.without_dropout(model):
        # The plain pass first: the stock one leaves its own attention behind.
        paths = [path for path in reversed(METHODS[method].paths) if "_" not in path]
        found = {path: loop.answer_loss(model, packed, path).item() for path in paths}
    assert list(found.values()) == pytest.approx([found["plain"]] * len(found), rel=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_of_any_method_goes_on_as_if_it_had_not_stopped(world, tmp_path, method):
    rows = batches.Rows(world / "train.arrow")

    def stop(row):
        if row["step"] == 2:
            raise KeyboardInterrupt

    def run(folder, report=lambda row: None):
        model, recipe = trainable(world, method, checkpoint_steps=2)
        outcome = loop.finetune(model, rows, recipe, 42, {}, tmp_path / folder / "state.pt", report)
        return outcome, {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    whole = run("whole")[1]
    with pytest.raises(KeyboardInterrupt):
        run("stopped", lambda row: stop({"step": row["step"] - 1}))
    outcome, resumed = run("stopped")
    assert outcome.resumed_at == 2
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", ["dora", "ia3", "prompt", "prefix"])
def test_answers_of_other_methods_are_those_of_their_own_forward_pass(tmp_path, method):
    """Shared where nothing but layers changed; refused where virtual tokens stand before every prompt."""
    tuned = loading.make_trainable(toy.model("mistral", window=64).requires_grad_(False), recipe_of(method), 8)
    torch.manual_seed(3)
    for p in tuned.parameters():
        if p.requires_grad:
            p.data += 0.1 * torch.randn_like(p)
    tuned.save_pretrained(tmp_path)
    model, tokeniser = (
        loading.attach_adapter(toy.model("mistral", window=64).requires_grad_(False), tmp_path),
        toy.tokeniser(),
    )
    requests = [("The river runs", [" through", " valley"]), ("Q: yes or no", [" yes", " no"])]
    (first, second) = (found for batch in plain.score(model, tokeniser, requests) for found in batch.values())
    with torch.no_grad():
        for (prompt, options), scores in zip(requests, (first, second)):
            for text, score in zip(options, scores):
                ids = tokeniser.encode(prompt + text)
                logits = model(torch.tensor([ids]), use_cache=False).logits[0, -len(ids) :].log_softmax(-1)
                wanted = sum(float(logits[i - 1, ids[i]]) for i in range(len(ids) - score.tokens, len(ids)))
                assert score.logprob == pytest.approx(wanted, abs=1e-4)
    if METHODS[method].virtual:
        assert loglikelihood.context_length(model) == 512 - 5
        with pytest.raises(MapleError, match="virtual tokens cannot be asked(.|\n)*evaluation.path: plain"):
            loglikelihood.loglikelihoods(model, tokeniser, requests, 100)
        texts = next(plain.generate_batches(model, tokeniser, ["The river"], 4, []))
        ids = torch.tensor([tokeniser.encode("The river")])
        for _ in range(4):
            with torch.no_grad():
                ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        assert texts[0] == tokeniser.decode(ids[0, -4:], skip_special_tokens=True)
    else:
        shared = loglikelihood.loglikelihoods(model, tokeniser, requests, 100)
        found = [[score.logprob for score in scores] for scores in shared]
        assert found == [pytest.approx([score.logprob for score in scores], abs=1e-4) for scores in (first, second)]


WRONG = {
    "full at 4 bits": ({"method": "full"}, "method' is full at 4 bits(.|\n)*-S quantisation.bits=16"),
    "PiSSA at 4 bits": ({"method": "pissa"}, "pissa at 4 bits"),
    "DoRA at 8 bits": ({"method": "dora", "quantisation": {"bits": 8}}, "dora at 8 bits(.|\n)*take 4 or 16 bits"),
    "IA3 at 8 bits": ({"method": "ia3", "quantisation": {"bits": 8}}, "ia3 at 8 bits"),
    "an unknown method": ({"method": "dorra"}, "'method' is 'dorra'(.|\n)*did you mean 'dora'"),
    "a grid on a path that leaves DoRA out": (
        {"recipe": {"method": "dora"}, "method": "lora", "grid": {"bases": ["mistral-7b-4bit"]}},
        "'recipe.path' is fused with recipe.method dora(.|\n)*set recipe.path: stock",
    ),
    "a grid of full finetuning at 8 bits": (
        {"recipe": {"method": "full"}, "method": "lora"},
        "recipe.method' is full at",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_combined_is_refused_in_three_lines(tmp_path, name):
    changes, message = WRONG[name]
    content = yaml.safe_load(Path("params.yaml").read_text())
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(MapleError) as caught:
        params.parse(tmp_path / "params.yaml")
    assert re.search(message, str(caught.value)) and len(str(caught.value).splitlines()) == 3, str(caught.value)


def test_the_experiment_takes_a_path_that_computes_its_method():
    for name in METHODS:
        bits = dataclasses.replace(SMOKE.quantisation, bits=16)
        recipe = dataclasses.replace(SMOKE, method=name, quantisation=bits).recipe_of_experiment()
        assert recipe.method == name and recipe.path in METHODS[name].paths
        assert recipe.path == "fused" or "fused" not in METHODS[name].paths
        assert recipe.lora.dropout == (0.0 if name == "pissa" else SMOKE.recipe.lora.dropout)
    auto = dataclasses.replace(SMOKE.recipe, method="prefix", gradient_checkpointing="auto").fitted()
    assert auto.gradient_checkpointing is False
    methods.check("prefix", 8, "method")


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_the_plan_has_a_line_for_each_method_at_each_width(profile, capsys):
    from stages import plan_methods

    plan_methods.main(params.load(profile))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = {(line[0], int(line[1])): line for line in lines if line and line[0] in METHODS and line[1].isdigit()}
    assert set(found) == set(EVERY)
    assert float(found["full", 16][3]) == 100 and found["full", 16][2] == "-"
    if profile == "paper":
        # float32 weights, their copies, gradients and AdamW's two averages: 18 bytes for each of 7.2 billion.
        assert float(found["full", 16][6]) > 18 * 7.2 and found["full", 16][7] == "H200"
        assert float(found["dora", 4][3]) > float(found["lora", 4][3]) > float(found["ia3", 16][3])


def test_peft_still_cannot_take_what_is_refused(world):
    """Each reason in maple/config/methods.py, as long as it is true."""
    with pytest.raises(TypeError, match="Please initialize PiSSA under"):
        trainable(world, "pissa", 4)
    for method, bits in (("dora", 8), ("ia3", 4), ("ia3", 8)):
        model, recipe = trainable(world, method, bits)
        with pytest.raises((AttributeError, RuntimeError)):
            for _ in range(2):
                model(IDS).logits.sum().backward()
    assert isinstance(trainable(world, "lora", 8)[0], peft.PeftModel)
