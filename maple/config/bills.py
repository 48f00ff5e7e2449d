"""What a stage cost: time, memory and machine of each model's training and answering.

A bill is no result: two runs with the same bytes take different times. So bills lie outside what DVC hashes, in
`artifacts/<profile>/bills/<verb>/<name>.json`. `make bills` gathers them in `benchmarks/bills/<profile>.jsonl`, which
git keeps, so that a clone that pulled its results still knows what they cost.
"""

import json
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any, Literal

from maple.config import environment
from maple.config.params import Params
from maple.core import storage
from maple.core.errors import MapleError

Verb = Literal["train", "answer"]
VERBS: tuple[Verb, ...] = ("train", "answer")
KEPT = Path("benchmarks", "bills")
# Written when the image is built (Dockerfile): {"revision", "lock", "lock_sha256"}.
IMAGE = Path("/usr/share/maple-repro/image.json")


class Bill:
    """Time, memory and machine of a stage.

    bill = Bill()
    write(params, "train", name, bill.total(steps=12))
    """

    def __init__(self) -> None:
        self._start = time.time()

    def total(self, **more: Any) -> dict[str, Any]:
        """Seconds since the start, peak memory in GB (host, and GPU where there is one), hardware, and `more`."""
        bill = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._start)),
            "seconds": round(time.time() - self._start, 3),
            "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3),
            "versions": environment.versions(),
            "hardware": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        }
        if IMAGE.is_file():
            bill["image"] = storage.read_json(IMAGE)
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


def write(params: Params, verb: Verb, name: str, bill: dict[str, Any]) -> None:
    storage.write_json(_folder(params) / verb / f"{name}.json", bill)


def here(params: Params) -> dict[tuple[str, str], dict[str, Any]]:
    """(verb, name) -> bill of what ran in this folder."""
    paths = sorted(_folder(params).glob("*/*.json"))
    return {(path.parent.name, path.stem): storage.read_json(path) for path in paths}


def kept(params: Params) -> dict[tuple[str, str], dict[str, Any]]:
    """(verb, name) -> bill of the run whose results git and DVC keep."""
    path = kept_path(params)
    if not path.is_file():
        return {}
    try:
        lines = map(json.loads, path.read_bytes().decode("utf-8").splitlines())
        return {(line["verb"], line["name"]): line["bill"] for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise MapleError(f"{path} is damaged", why=repr(error), do=f"git checkout {path}") from error


def known(params: Params) -> dict[tuple[str, str], dict[str, Any]]:
    """Both; what ran here counts before what was kept."""
    return kept(params) | here(params)


def keep(params: Params) -> Path:
    """Add the bills of this folder to those that git keeps; one line each, sorted, so that a diff shows what ran
    again.
    """
    lines = [{"verb": verb, "name": name, "bill": bill} for (verb, name), bill in sorted(known(params).items())]
    storage.write_text(kept_path(params), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return kept_path(params)


def kept_path(params: Params) -> Path:
    return KEPT / f"{params.profile}.jsonl"


def _folder(params: Params) -> Path:
    return params.artifacts / "bills"
