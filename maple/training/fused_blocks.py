"""Llama's and Mistral's blocks with LoRA, with hand-written gradients: few passes over memory, little kept.

The model stays as transformers and PEFT made it; only the training pass goes through here. Each function computes
what theirs does with the same roundings: the low-rank products in float32, all else in the model's bfloat16. With
`wide` bfloat16 the low-rank products are rounded too, which is faster and moves an update a little; docs/TRAINING.md
says by how much.
"""

import functools

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from maple.core.errors import MapleError
from maple.models import elementwise
from maple.models.architectures import FUSED
from maple.training.row_attention import RowLayout, attend


def hidden_states(
    causal,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    layout: RowLayout,
    wide: torch.dtype,
    places: torch.Tensor,
) -> torch.Tensor:
    """Last hidden states [A, h] at the A `places` of T packed tokens; `causal` is the model inside PEFT's wrapper.

    The last layer's other tokens serve as keys and values only, so nothing is computed of them after its attention.
    """
    if causal.config.model_type not in FUSED:
        raise MapleError(
            f"recipe.path 'fused' cannot train a {causal.config.model_type} model",
            why=f"it computes the blocks of {' and '.join(FUSED)} only",
            do="set recipe.path: stock, which is slower and goes through the model's own modules",
        )
    if causal.config.hidden_act != "silu":
        raise MapleError(
            f"recipe.path 'fused' cannot train a model with the activation {causal.config.hidden_act}",
            why="its blocks gate with SiLU, and the loss would be another model's",
            do="set recipe.path: stock, which goes through the model's own modules",
        )
    inner = causal.model
    x = inner.embed_tokens(input_ids)
    cos, sin = (part[0, :, None] for part in inner.rotary_emb(x, position_ids[None]))
    for number, layer in enumerate(inner.layers, start=1):
        wanted = places if number == len(inner.layers) else None
        if inner.is_activation_checkpointing:
            x = checkpoint(block, layer, x, cos, sin, layout, wide, wanted, use_reentrant=False)
        else:
            x = block(layer, x, cos, sin, layout, wide, wanted)
    return _norm(inner.norm, x)


def block(
    layer,
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    layout: RowLayout,
    wide: torch.dtype,
    places: torch.Tensor | None = None,
) -> torch.Tensor:
    """One decoder layer: x [T, h] -> [T, h], or [A, h] at some places; cos and sin [T, 1, d]."""
    attention, mlp = layer.self_attn, layer.mlp
    y = _norm(layer.input_layernorm, x)
    q, k, v = (
        linear(part, y, wide).view(len(y), -1, attention.head_dim)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    q, k = _Rotate.apply(q, cos, sin), _Rotate.apply(k, cos, sin)
    y = attend(q, k, v, layout, getattr(attention.config, "sliding_window", None))
    if places is not None:
        x, y = x[places], y[places]
    x = x + linear(attention.o_proj, y.view(len(y), -1), wide)
    y = _norm(layer.post_attention_layernorm, x)
    gated = _Gated.apply(linear(mlp.gate_proj, y, wide), linear(mlp.up_proj, y, wide))
    return x + linear(mlp.down_proj, gated, wide)


def linear(module, x: torch.Tensor, wide: torch.dtype) -> torch.Tensor:
    """A frozen linear layer x [T, in] -> [T, out], with its LoRA where it has one."""
    if not hasattr(module, "lora_A"):
        return _Frozen.apply(x, module)
    (name,) = module.active_adapters
    dropout = module.lora_dropout[name]
    p = dropout.p if isinstance(dropout, torch.nn.Dropout) and dropout.training else 0.0
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    return _Lora.apply(x, a, b, module.base_layer, module.scaling[name], p, wide)


def weight_of(base, dtype: torch.dtype) -> torch.Tensor:
    """The matrix [out, in] that the layer multiplies with in training, unpacked from 4 or 8 bits if need be."""
    state = getattr(base, "state", None)
    if state is not None:
        return state.CB.to(dtype, copy=True).mul_(state.SCB.unsqueeze(1).mul(1.0 / 127.0))
    quantised = getattr(base.weight, "quant_state", None)
    if quantised is not None:
        if repacked(base.weight):
            raise RuntimeError("4-bit weights were repacked by an evaluation pass; gradients would be wrong")
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(base.weight, quantised).to(dtype)
    return base.weight


def repacked(weight: torch.Tensor | None) -> bool:
    """Whether these are 4-bit weights in the layout that bitsandbytes gives them for evaluation on a CPU."""
    return getattr(getattr(weight, "quant_state", None), "packing_format_for_cpu", False)


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, base):
        ctx.base = base
        return base(x)

    @staticmethod
    def backward(ctx, g):
        return g @ weight_of(ctx.base, g.dtype), None


class _Lora(torch.autograd.Function):
    """base(x) + scale * dropout(x) A' B' with A [r, in], B [out, r]; only x and x A' are kept.

    The low-rank products and their sum with the base's output are made in `wide`.
    """

    @staticmethod
    def forward(ctx, x, a, b, base, scale, p, wide):
        ctx.base, ctx.scale, ctx.p, ctx.wide = base, scale / (1 - p), p, wide
        # Drawn from torch's generator, so a step's seed decides it and gradient checkpointing sees it again.
        ctx.seed = int(torch.randint(2**62, ())) if p else 0
        entry = x.to(wide) * _kept(x, p, ctx.seed) if p else x.to(wide)
        low = entry @ a.to(wide).t()
        ctx.save_for_backward(x, low, a, b)
        return base(x).to(wide).addmm_(low, _turned(b, wide), alpha=ctx.scale).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        x, low, a, b = ctx.saved_tensors
        wide = ctx.wide
        kept = _kept(x, ctx.p, ctx.seed) if ctx.p else None
        g_wide = g.to(wide)
        g_low = (g_wide @ _turned(b, wide).t()).mul_(ctx.scale)
        g_b = (low.t() @ g_wide).t().to(b.dtype).mul_(ctx.scale)
        entry = x.to(wide)
        g_a = (g_low.t() @ (entry if kept is None else entry * kept)).to(a.dtype)
        g_x = None
        if ctx.needs_input_grad[0]:
            g_x = g @ weight_of(ctx.base, g.dtype)
            if kept is None and wide == g.dtype:
                g_x.addmm_(g_low, a.to(wide))
            elif wide == g.dtype:
                g_x.addcmul_(g_low @ a.to(wide), kept)
            else:
                low_part = g_low @ a.to(wide)
                g_x += (low_part if kept is None else low_part.mul_(kept)).to(g.dtype)
        return g_x, g_a, g_b, None, None, None, None


def _turned(b: torch.Tensor, wide: torch.dtype) -> torch.Tensor:
    """B' [r, out] in memory order: products with a few long rows are several times faster than with many short ones."""
    return b.t().contiguous().to(wide)


def _kept(x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """bool like x: true where dropout keeps a number. The same for the same seed, so no mask is stored.

    On a CPU torch draws one number at a time; numpy's generator fills a buffer, ten times faster. There p is rounded
    to a 65,536th.
    """
    if x.device.type != "cpu":
        drawn = torch.empty(x.shape, dtype=torch.bool, device=x.device)
        return drawn.bernoulli_(1 - p, generator=_generator(x.device).manual_seed(seed))
    drawn = np.frombuffer(np.random.Generator(np.random.SFC64(seed)).bytes(2 * x.numel()), dtype=np.uint16)
    return torch.from_numpy(drawn >= round(p * 65536)).view(x.shape)


@functools.cache
def _generator(device: torch.device) -> torch.Generator:
    """One for all masks: on a GPU, to make a generator takes longer than to draw from it."""
    return torch.Generator(device)


def _norm(module, x: torch.Tensor) -> torch.Tensor:
    return _RmsNorm.apply(x, module.weight, module.variance_epsilon)


class _RmsNorm(torch.autograd.Function):
    """weight * x / rms(x), keeping x alone; the weight is frozen."""

    @staticmethod
    def forward(ctx, x, weight, epsilon):
        y, inverse = elementwise.rms_norm(x, weight, epsilon)
        ctx.save_for_backward(x, weight, inverse)
        return y

    @staticmethod
    def backward(ctx, g):
        return elementwise.rms_norm_backward(g, *ctx.saved_tensors), None, None


class _Rotate(torch.autograd.Function):
    """Rotary positions: x [T, heads, d] turned by cos and sin [T, 1, d]; the gradient is turned back."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return elementwise.rotate(x, cos, sin)

    @staticmethod
    def backward(ctx, g):
        cos, sin = ctx.saved_tensors
        return elementwise.rotate(g, cos, -sin), None, None


class _Gated(torch.autograd.Function):
    """silu(gate) * up, keeping only its inputs."""

    @staticmethod
    def forward(ctx, gate, up):
        ctx.save_for_backward(gate, up)
        return elementwise.gate(gate, up)

    @staticmethod
    def backward(ctx, g):
        return elementwise.gate_backward(g, *ctx.saved_tensors)
