"""Bases at their bit widths."""

import pytest
import torch
from device import DEVICE

from maple.config.params import RecipeQuantisation
from maple.models import loading


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("quantised", [RecipeQuantisation("nf4", True), RecipeQuantisation("fp4", False)])
def test_weights_unpacked_once_give_the_same_products_bit_for_bit(world, kind, quantised):
    """Also the gradient towards the input. In training mode: in evaluation bitsandbytes has a kernel of its own for a
    single token on a GPU, and on some CPUs for all."""
    packed, unpacked = (
        loading.load_base(world / kind, 4, quantised, DEVICE, unpacked=one).train() for one in (False, True)
    )
    tokens = torch.arange(3, 60, device=DEVICE)[None]
    found = []
    for model in (packed, unpacked):
        x = model.get_input_embeddings()(tokens).requires_grad_()
        logits = model(inputs_embeds=x, use_cache=False).logits
        logits.float().square().sum().backward()
        found.append((logits, x.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_unpacked_weights_take_an_adapter_and_keep_none_packed(world):
    from maple.config import params

    recipe = params.load("smoke").recipe
    base = loading.load_base(world / "llama", 4, recipe.quantisation, DEVICE, unpacked=True)
    assert {type(module).__name__ for module in base.modules() if "Linear" in type(module).__name__} == {"Linear"}
    assert not any(p.requires_grad for p in base.parameters())
    names = [name for name, p in loading.make_trainable(base, recipe, 8).named_parameters() if p.requires_grad]
    assert len(names) == 2 * 7 * base.config.num_hidden_layers
