"""What a result was made with: library versions (in the record) and the machine (in the bill)."""

import gc
import importlib.metadata
import os
import platform
import resource
import time
from typing import Any

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
    if params.sources == "smoke":
        import torch

        torch.set_num_threads(1)


class Bill:
    """Time, memory and machine of a stage.

        bill = Bill()
        record.write_json(folder / "bill.json", bill.total(steps=12))
    """

    def __init__(self) -> None:
        self._start = time.time()

    def total(self, **more: Any) -> dict[str, Any]:
        """Seconds since the start, peak memory in GB (host, and GPU where there is one), hardware, and `more`."""
        bill = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._start)),
            "seconds": round(time.time() - self._start, 3),
            "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3),
            "hardware": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        }
        import torch

        if torch.cuda.is_available():
            bill["peak_gpu_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
            bill["hardware"]["gpu"] = torch.cuda.get_device_name()
        else:
            bill["hardware"]["threads"] = torch.get_num_threads()
        return bill | more


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
