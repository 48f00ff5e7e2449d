"""One base for several models: each is asked as if it had been loaded alone, and there are never two."""

import dataclasses
import gc
import weakref

import pytest
import torch
import toy

from maple.answering import generate, loglikelihood
from maple.config import catalogue, params
from maple.models import bases, loading
from maple.training import adapter_folder

RECIPE = params.load("smoke").recipe
SOURCE = catalogue.models()["mistral-7b"]
CPU = torch.device("cpu")
TOKENISER = toy.tokeniser()
PROMPTS = [f"The river runs {number}. Q:" for number in range(5)]
# Bits, and whether 4-bit weights are unpacked.
WIDTHS = [(16, False), (8, False), (4, True)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A base's folder, and those of three adapters: plain, on fewer layers, and of another kind."""
    root = tmp_path_factory.mktemp("bases")
    toy.model("mistral", vocab_size=len(TOKENISER)).to(torch.bfloat16).save_pretrained(root / "base")
    fewer = dataclasses.replace(RECIPE, lora=dataclasses.replace(RECIPE.lora, targets=["q_proj", "up_proj"]))
    for name, recipe in (("a", RECIPE), ("b", fewer), ("dora", dataclasses.replace(RECIPE, method="dora"))):
        tuned = loading.make_trainable(load(root), recipe, 4)
        for parameter, p in tuned.named_parameters():
            if "lora_B" in parameter:
                torch.nn.init.normal_(p, std=0.3)
        adapter_folder.save(tuned, root / name, SOURCE)
    return root


def load(root, bits=16, unpacked=False):
    return loading.load_base(root / "base", bits, RECIPE.quantisation, CPU, unpacked)


def asked(model):
    requests = [(prompt, [" the river", " a valley"]) for prompt in PROMPTS]
    return (
        loglikelihood.loglikelihoods(model, TOKENISER, requests, 200),
        generate.generate(model, TOKENISER, PROMPTS, 8, [], 200),
    )


@pytest.mark.parametrize("bits, unpacked", WIDTHS)
def test_each_model_answers_as_if_it_had_been_loaded_alone(made, bits, unpacked, monkeypatch):
    loaded, load_base = [], loading.load_base
    how = bits, RECIPE.quantisation, CPU, unpacked
    order = ["a", None, "b", *(["dora"] if bits != 8 else []), "a"]
    folders = [name and made / name for name in order]
    alone = [asked(loading.load_tuned(made / "base", folder, SOURCE, *how)) for folder in folders]
    monkeypatch.setattr(loading, "load_base", lambda *given: loaded.append(given) or load_base(*given))
    shared = bases.Bases()
    assert [asked(shared.tuned(made / "base", folder, SOURCE, *how)) for folder in folders] == alone
    assert len(loaded) == 1 and alone[0] == alone[-1] and alone[0] != alone[1] != alone[2]


def test_a_base_of_another_width_takes_the_place_of_the_one_in_memory(made, monkeypatch):
    alive, load_base = [], loading.load_base

    def watched(*given):
        gc.collect()
        assert not [one for one in alive if one() is not None], "two bases are in memory"
        model = load_base(*given)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(loading, "load_base", watched)
    shared = bases.Bases()
    for bits, unpacked in [*WIDTHS, WIDTHS[0]]:
        shared.tuned(made / "base", made / "a", SOURCE, bits, RECIPE.quantisation, CPU, unpacked)
    assert len(alive) == 4


def test_what_does_not_leave_its_base_as_it_was_has_one_of_its_own(made, tmp_path):
    shared, how = bases.Bases(), (16, RECIPE.quantisation, CPU, False)
    before = asked(shared.tuned(made / "base", None, SOURCE, *how))
    whole = load(made)
    whole.model.layers[0].mlp.down_proj.weight.data *= 2
    whole.save_pretrained(tmp_path / "whole")
    virtual = loading.make_trainable(load(made), dataclasses.replace(RECIPE, method="prompt"), 1)
    adapter_folder.save(virtual, tmp_path / "virtual", SOURCE)
    for name in ("whole", "virtual"):
        shared.tuned(made / "base", tmp_path / name, SOURCE, *how)
        assert asked(shared.tuned(made / "base", None, SOURCE, *how)) == before


def test_an_adapter_that_does_not_fit_leaves_nothing_behind(made, tmp_path):
    shared, how = bases.Bases(), (16, RECIPE.quantisation, CPU, False)
    before = asked(shared.tuned(made / "base", None, SOURCE, *how))
    other = loading.make_trainable(toy.model("mistral", hidden_size=32), RECIPE, 4)
    adapter_folder.save(other, tmp_path / "other", SOURCE)
    with pytest.raises(Exception, match="does not fit|shape"):
        shared.tuned(made / "base", tmp_path / "other", SOURCE, *how)
    assert asked(shared.tuned(made / "base", None, SOURCE, *how)) == before
