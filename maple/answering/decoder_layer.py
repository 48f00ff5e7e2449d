"""A decoder layer of Llama's or Mistral's kind, with its attention left to a layout.

transformers' own layer would do; this one can stop at the places that are read, and on a GPU takes a third of the
kernels: while answers are written one token at a time, starting kernels is most of the time. Products go through the
model's own modules, so quantised weights are what they always are.
"""

from typing import Any

import torch
import torch.nn.functional as F

from maple.models import elementwise

# Decoder layers of transformers whose inside this is.
_KNOWN = ("LlamaDecoderLayer", "MistralDecoderLayer")


def known(layer: Any) -> bool:
    return type(layer).__name__ in _KNOWN and layer.self_attn.config.hidden_act == "silu"


def through(
    layer: Any,
    x: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    layout: Any,
    places: torch.Tensor | None = None,
) -> torch.Tensor:
    """The layer's output (1, tokens, width); at some places only (1, places, width), if there are any given: of the
    other tokens, keys and values and nothing else."""
    block, mlp = layer.self_attn, layer.mlp
    cos, sin = (part.unsqueeze(1) for part in rotary)
    normed = norm(layer.input_layernorm, x)

    def heads(projection: Any, of: torch.Tensor) -> torch.Tensor:
        return project(projection, of).view(1, of.shape[1], -1, block.head_dim).transpose(1, 2)

    key, value = elementwise.rotate(heads(block.k_proj, normed), cos, sin), heads(block.v_proj, normed)
    window = getattr(block.config, "sliding_window", None)
    if places is None:
        query = elementwise.rotate(heads(block.q_proj, normed), cos, sin)
        out = layout.attend(block.layer_idx, query, key, value, block.scaling, window)
    elif len(places):
        x, query = x[:, places], heads(block.q_proj, normed[:, places])
        query = elementwise.rotate(query, cos[:, :, places], sin[:, :, places])
        out = layout.attend_at(block.layer_idx, query, key, value, block.scaling, window, places)
    else:
        layout.keys_and_values(key, value)
        return x[:, :0]
    x = x + project(block.o_proj, out.reshape(1, x.shape[1], -1))
    normed = norm(layer.post_attention_layernorm, x)
    return x + project(mlp.down_proj, elementwise.gate(project(mlp.gate_proj, normed), project(mlp.up_proj, normed)))


def norm(module: Any, x: torch.Tensor) -> torch.Tensor:
    """RMS norm; on a GPU torch's one kernel in place of the module's six."""
    return F.rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon) if x.is_cuda else module(x)


def project(module: Any, x: torch.Tensor) -> torch.Tensor:
    """module(x) of (1, tokens, in). On a GPU the products of a plain LoRA are made in x's dtype and added in the last
    of them, as recipe.path: fused_bfloat16 trains; PEFT's module makes them in float32, in five passes over memory."""
    if not (x.is_cuda and plain_lora(module)):
        return module(x)
    (name,) = module.active_adapters
    low = F.linear(x[0], module.lora_A[name].weight.to(x.dtype))
    out = module.base_layer(x)
    return out[0].addmm_(low, module.lora_B[name].weight.to(x.dtype).t(), alpha=module.scaling[name])[None]


def plain_lora(module: Any) -> bool:
    """Whether PEFT's layer is one low-rank product added to its base layer, and nothing more."""
    if not hasattr(module, "lora_A") or module.disable_adapters or module.merged:
        return False
    return len(module.active_adapters) == 1 and not module.lora_variant and not any(module.lora_bias.values())
