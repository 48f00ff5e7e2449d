"""A decoder layer of Llama's or Mistral's kind, with its attention left to a layout.

transformers' own layer would do; this one can stop at the places that are read, and on a GPU takes a third of the
kernels: while answers are written one token at a time, starting kernels is most of the time. There, queries, keys and
values are one product, gate and up another, and an adapter's pairs of matrices are stacked beside them. Weights are
what they always are: 8-bit layers and 4-bit ones that are packed stay the model's own modules, each by itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from maple.models import elementwise

# Decoder layers of transformers whose inside this is.
_KNOWN = ("LlamaDecoderLayer", "MistralDecoderLayer")


def known(layer: Any) -> bool:
    return type(layer).__name__ in _KNOWN and layer.self_attn.config.hidden_act == "silu"


def is_lean(device: torch.device) -> bool:
    """Whether starting a kernel counts there, not only what it computes."""
    return device.type == "cuda"


class Product:
    """A linear layer (tokens, in) -> (tokens, out), or several of the same input, their outputs side by side.

    `base`: its matrix, or a module. `low` and `high`: an adapter's matrices (ranks, in) and (ranks, out), whose products
    are made in x's dtype and added in the last of them, as recipe.path: fused_bfloat16 trains; PEFT's module makes them in
    float32, in five passes over memory.
    """

    def __init__(
        self, base: torch.Tensor | Callable, low: torch.Tensor | None = None, high: torch.Tensor | None = None
    ):
        self._base, self._low, self._high = base, low, high

    def __call__(self, x: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """The product, added to `onto` if there is one."""
        if not isinstance(self._base, torch.Tensor):
            out = self._base(x)
        elif onto is None:
            out = F.linear(x, self._base)
        else:
            out, onto = torch.addmm(onto, x, self._base.t()), None
        if self._low is not None:
            out.addmm_(F.linear(x, self._low), self._high)
        return out if onto is None else onto + out

    def of(self, outputs: slice) -> "Product":
        """Some of its outputs only."""
        return Product(self._base[outputs], self._low, None if self._high is None else self._high[:, outputs])


def product(module: Any, dtype: torch.dtype, lean: bool) -> Product:
    """A linear layer; as its module computes it, or in the fewest kernels."""
    if not lean or not _can_be_stacked(module):
        return Product(module)
    base = _base(module)
    return Product(base.weight if _is_matrix(base) else base, *_stacked([module], dtype))


def joined(modules: Sequence[Any], dtype: torch.dtype) -> Product | None:
    """Linear layers of one input as one product; None where a weight is no matrix of plain numbers.

    Their weights become parts of the one matrix, so memory holds them once.
    """
    if not all(_is_matrix(_base(module)) and _can_be_stacked(module) for module in modules):
        return None
    weights = [_base(module).weight for module in modules]
    rows, width = sum(map(len, weights)), weights[0].shape[1]
    # Not in inference mode: what is made there can never again take part in training.
    with torch.inference_mode(False), torch.no_grad():
        if _in_a_row(weights):
            whole = weights[0].as_strided((rows, width), (width, 1))
        else:
            whole = torch.cat(weights)
            for weight, part in zip(weights, whole.split([len(weight) for weight in weights])):
                weight.data = part
    return Product(whole, *_stacked(modules, dtype))


def _in_a_row(weights: Sequence[torch.Tensor]) -> bool:
    """Whether each begins in memory where the one before ends."""
    return all(
        a.is_contiguous()
        and b.is_contiguous()
        and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
        and a.data_ptr() + a.nbytes == b.data_ptr()
        for a, b in zip(weights, weights[1:])
    )


def _base(module: Any) -> Any:
    return getattr(module, "base_layer", module)


def _is_matrix(base: Any) -> bool:
    return type(base) is torch.nn.Linear and base.bias is None


def _can_be_stacked(module: Any) -> bool:
    return not hasattr(module, "base_layer") or plain_lora(module)


def plain_lora(module: Any) -> bool:
    """Whether PEFT's layer is one low-rank product added to its base layer, and nothing more."""
    if not hasattr(module, "lora_A") or module.disable_adapters or module.merged:
        return False
    return len(module.active_adapters) == 1 and not module.lora_variant and not any(module.lora_bias.values())


def _stacked(modules: Sequence[Any], dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """`low` and `high` of a Product: the A's one below the other, each B scaled and in the columns of its own outputs."""
    low, high = [], []
    for module in modules:
        if hasattr(module, "lora_A"):
            (name,) = module.active_adapters
            low.append(module.lora_A[name].weight.to(dtype))
            high.append((module.lora_B[name].weight * module.scaling[name]).to(dtype))
        else:
            high.append(_base(module).weight.new_zeros(module.out_features, 0, dtype=dtype))
    return (torch.cat(low), torch.block_diag(*high).t().contiguous()) if low else (None, None)


class Layer:
    """A decoder layer, ready to be asked."""

    def __init__(self, layer: Any, lean: bool):
        self._layer, self._attention = layer, layer.self_attn
        attention, mlp = layer.self_attn, layer.mlp
        dtype = layer.input_layernorm.weight.dtype
        of_heads, of_gate = (attention.q_proj, attention.k_proj, attention.v_proj), (mlp.gate_proj, mlp.up_proj)
        self._qkv, self._gate_up = (joined(found, dtype) if lean else None for found in (of_heads, of_gate))
        self._q, self._k, self._v, self._gate, self._up, self._down, self._out = (
            product(module, dtype, lean) for module in (*of_heads, *of_gate, mlp.down_proj, attention.o_proj)
        )
        self._queries = attention.q_proj.out_features

    @property
    def is_joined(self) -> bool:
        """Whether nothing in it but products of plain matrices is computed."""
        return self._qkv is not None and self._gate_up is not None

    def __call__(
        self,
        x: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        layout: Any,
        places: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The output (tokens, width); at some places only, if there are any given: of the other tokens, keys and values
        and nothing else. `rotary`: cos and sin (tokens, head width)."""
        attention = self._attention
        window = getattr(attention.config, "sliding_window", None)
        query, key, value = self._heads(norm(self._layer.input_layernorm, x), *rotary, places)
        if places is None:
            out = layout.attend(attention.layer_idx, query, key, value, attention.scaling, window)
        elif len(places):
            x = x[places]
            out = layout.attend_at(attention.layer_idx, query, key, value, attention.scaling, window, places)
        else:
            layout.keys_and_values(key, value)
            return x[:0]
        x = self._out(out.reshape(len(x), -1), onto=x)
        normed = norm(self._layer.post_attention_layernorm, x)
        if self._gate_up is None:
            gate, up = self._gate(normed), self._up(normed)
        else:
            gate, up = self._gate_up(normed).chunk(2, 1)
        return self._down(elementwise.gate(gate, up), onto=x)

    def _heads(self, normed: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, places: torch.Tensor | None):
        """Queries, at some places only if there are any given, keys and values: (1, heads, tokens, head width)."""
        if self._qkv is None:
            key, value = rotate(self._by_head(self._k(normed)), cos, sin), self._by_head(self._v(normed))
        elif places is None:
            found = self._by_head(self._qkv(normed))
            queries = self._queries // self._attention.head_dim
            keys = (found.shape[1] - queries) // 2
            query, key = rotate(found[:, : queries + keys], cos, sin).split((queries, keys), 1)
            return query, key, found[:, queries + keys :]
        else:
            key, value = self._by_head(self._qkv.of(slice(self._queries, None))(normed)).chunk(2, 1)
            key = rotate(key, cos, sin)
        if places is not None:
            if not len(places):
                return None, key, value
            normed, cos, sin = normed[places], cos[places], sin[places]
        return rotate(self._by_head(self._q(normed)), cos, sin), key, value

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        """(tokens, outputs) -> (1, heads, tokens, head width)."""
        return x.view(1, len(x), -1, self._attention.head_dim).transpose(1, 2)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    return elementwise.rotate(x, cos[None, None], sin[None, None])


def norm(module: Any, x: torch.Tensor) -> torch.Tensor:
    """RMS norm; where kernels count torch's one in place of the module's six."""
    return F.rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon) if is_lean(x.device) else module(x)
