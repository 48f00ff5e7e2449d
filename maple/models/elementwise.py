"""What a decoder layer does to numbers one by one, between its matrix products: norm, rotary positions, gate.

On a GPU each function here is one kernel made by torch.compile, where the operations as written are a handful that
each read and write the whole tensor. On a CPU, for small tensors (calling a compiled function then takes longer than
its kernels), and where no C compiler is at hand, they run as written. Both round to the layer's dtype at the end only
where they must, so they agree within one rounding.
"""

import functools
import importlib.util
import shutil
from collections.abc import Callable

import torch
import torch.nn.functional as F

# Numbers from which one kernel pays: about 1,000 tokens of a 7B model.
LARGE = 1 << 22


def one_kernel(function: Callable) -> Callable:
    """`function` of tensors, compiled on its first large GPU tensor."""
    compiled = None

    @functools.wraps(function)
    def call(x: torch.Tensor, *others):
        nonlocal compiled
        if not x.is_cuda or x.numel() < LARGE or not _can_compile():
            return function(x, *others)
        if compiled is None:
            compiled = torch.compile(function)
        for tensor in (x, *others):
            # One kernel for any number of tokens, whichever dimension they are; the width stays a constant.
            for dimension in range(tensor.dim() - 1 if isinstance(tensor, torch.Tensor) else 0):
                torch._dynamo.maybe_mark_dynamic(tensor, dimension)
        return compiled(x, *others)

    return call


@functools.cache
def _can_compile() -> bool:
    """Triton builds a small launcher in C for each kernel."""
    return bool(importlib.util.find_spec("triton") and (shutil.which("gcc") or shutil.which("cc")))


@one_kernel
def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """weight * x / rms(x) over the last dimension, made in float32, and 1 / rms in float32 [..., 1]."""
    y = x.to(torch.float32, copy=True)
    inverse = torch.rsqrt(torch.linalg.vecdot(y, y)[..., None] / y.shape[-1] + epsilon)
    return y.mul_(inverse).to(x.dtype).mul_(weight), inverse


@one_kernel
def rms_norm_backward(g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """The gradient towards x of `rms_norm`, whose weight is frozen."""
    normed = x.to(torch.float32, copy=True).mul_(inverse)
    g = (g * weight).float()
    mean = torch.linalg.vecdot(g, normed)[..., None] / g.shape[-1]
    return g.addcmul_(normed, mean, value=-1).mul_(inverse).to(x.dtype)


@one_kernel
def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: the two halves of x's last dimension turned against each other; back again by -sin."""
    half = x.shape[-1] // 2
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    y[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return y


@one_kernel
def gate(of: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(of) * up."""
    return F.silu(of).mul_(up)


@one_kernel
def gate_backward(g: torch.Tensor, of: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of `gate` towards its two inputs."""
    return torch.ops.aten.silu_backward(g * up, of), F.silu(of).mul_(g)
