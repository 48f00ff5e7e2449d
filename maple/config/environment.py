"""What a result was made with: library versions, which its record names."""

import gc
import importlib.metadata
import platform

from maple.config.params import Params

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "tokenizers")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can move a number. Reads metadata, imports nothing."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def settle(params: Params) -> None:
    """To be called when the libraries are loaded, before a model is.

    Smoke computes on one thread: its models are too small for more, and sums are then the same on any machine's cores.
    """
    # What the libraries hold is never garbage; from here on Python looks for it as often as it does by default.
    gc.freeze()
    gc.set_threshold(700, 10, 10)
    if params.is_smoke:
        import torch

        torch.set_num_threads(1)
