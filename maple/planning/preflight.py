"""What this machine lacks for a profile, found before anything expensive starts."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maple.config import catalogue
from maple.config.params import Params
from maple.planning import locks, memory

# Disk and memory that a profile needs at least, GB. Smoke: measured, README. Paper: two base models of 13.5 GB,
# data and adapters, each once for work and once in DVC's cache; a 7B model is read through host memory shard by shard.
NEEDS_GB = {"smoke": (2, 3), "paper": (240, 24)}
# The first compute capability whose cards multiply in bfloat16 (Ampere); and names of older ones.
_BFLOAT16_FROM = 8
_OLD_GPUS = ("T4", "V100", "P100", "P40", "P4", "K80", "M60", "RTX 20", "Quadro RTX", "GTX", "TITAN")


NO_SCM = "# Written by make check: this is no git repository.\n[core]\n    no_scm = true\n"


@dataclass(frozen=True)
class Finding:
    """One thing checked. `do` is empty when all is well; `stops` says whether the run cannot succeed without it."""

    name: str
    found: str
    do: str = ""
    stops: bool = False


def findings(params: Params) -> Iterator[Finding]:
    yield _python()
    yield from _locks(params)
    yield from _room(params)
    yield _git()
    if not params.is_smoke:
        yield from _gpu(params)
        yield _gated(params)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Finding("Python", version)
    return Finding("Python", version, "the locks are for Python 3.11; use the Docker image or a 3.11 interpreter")


def _locks(params: Params) -> Iterator[Finding]:
    """DVC reads every profile's lock file, so a damaged one of another profile stops this one too."""
    if locks.clear_rwlock():
        yield Finding(str(locks.RWLOCK), "removed: a run was cut off while writing it")
    own = params.pipeline.with_name("dvc.lock")
    if not own.exists():
        yield Finding(str(own), "absent: every stage will run")
    for path in locks.paths():
        wrong = locks.damage(path)
        if wrong is None:
            if path == own:
                yield Finding(str(path), "present")
        elif locks.restore(path):
            yield Finding(str(path), f"restored from {locks.COPIES}: {wrong}; a run was cut off while writing it")
        else:
            yield Finding(
                str(path),
                wrong,
                f"git checkout {path}, or rm {path} (finished stages come back from the run-cache)",
                True,
            )


def _room(params: Params) -> Iterator[Finding]:
    disk_gb, memory_gb = NEEDS_GB.get(params.profile, NEEDS_GB["paper"])
    free_gb = shutil.disk_usage(".").free / 1e9
    short = f"free {disk_gb - free_gb:.0f} GB more here" if free_gb < disk_gb else ""
    yield Finding("disk", f"{free_gb:.0f} GB free, {disk_gb} needed", short, bool(short))
    allowed, by = memory.allowed()
    of_shell = by == memory.ULIMIT
    memory_gb = max(memory_gb, memory.ADDRESS_SPACE_GB) if of_shell else memory_gb
    short = (
        f"raise the limit of {by} to {memory_gb} GB" if by != "this machine" else f"use a machine with {memory_gb} GB"
    )
    text = f"{allowed / 1e9:.1f} GB allowed by {by}, {memory_gb} needed"
    # Under a limit of address space libraries do not run short, they crash.
    yield Finding("memory", text, short if allowed < memory_gb * 1e9 else "", of_shell and allowed < memory_gb * 1e9)


def _git() -> Finding:
    """Without a repository of its own, as unpacked from an archive, DVC has to be told not to look for one."""
    do = "`dvc repro` works; `dvc exp run` needs git, git init and one commit"
    try:
        top = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True).stdout.strip()
        commit = subprocess.run(["git", "rev-parse", "-q", "--verify", "HEAD"], capture_output=True).returncode == 0
    except FileNotFoundError:
        top, commit = "", False
    local = Path(".dvc", "config.local")
    told = local.read_text(encoding="utf-8") if local.exists() else ""
    if top and Path(top).resolve() == Path().resolve():
        if NO_SCM in told:
            local.write_text(told.replace(NO_SCM, ""), encoding="utf-8")
        return (
            Finding("git", "a repository with a commit")
            if commit
            else Finding("git", "a repository without a commit", do)
        )
    if NO_SCM not in told:
        local.parent.mkdir(exist_ok=True)
        local.write_text(told + NO_SCM, encoding="utf-8")
    return Finding("git", "no repository of its own; DVC is told so in .dvc/config.local", do)


def _gpu(params: Params) -> Iterator[Finding]:
    found = _asked_of_driver("name,memory.total")
    if not found:
        yield Finding("GPU", "none seen", "run where nvidia-smi works (in Docker: --gpus all); smoke needs none", True)
        return
    yield Finding("GPU", "; ".join(found))
    # Drivers before R510 do not know the field; their cards are told by name.
    by_name = [f"{_BFLOAT16_FROM - 1}.x" if any(word in line for word in _OLD_GPUS) else "" for line in found]
    capabilities = _asked_of_driver("compute_cap") or by_name
    old = [line for line, number in zip(found, capabilities) if number and int(number.split(".")[0]) < _BFLOAT16_FROM]
    if old:
        yield Finding(
            "bfloat16",
            f"not native on {'; '.join(old)} (compute capability under {_BFLOAT16_FROM}.0)",
            "all weights and products are in bfloat16, which such a card only emulates, many times slower: "
            "use an Ampere card or newer (A10, A100, L4, RTX 30 or 40, H100)"
            + ("" if len(old) == len(found) else ", and hide the others with CUDA_VISIBLE_DEVICES"),
            # Beside a newer card the run can succeed, if it gets that one.
            stops=len(old) == len(found),
        )


def _asked_of_driver(fields: str) -> list[str]:
    """nvidia-smi's line for each GPU that this process may use; none where it does not run or does not know a field."""
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").replace(" ", "")
    # nvidia-smi does not take every name that CUDA takes (parts of a card); it takes numbers.
    if visible.replace(",", "").isdigit():
        query.append(f"--id={visible}")
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [line.strip() for line in found.splitlines() if line.strip()]


def _gated(params: Params) -> Finding:
    gated = [catalogue.models()[name] for name in params.models if catalogue.models()[name].gated]
    if not gated:
        return Finding("Hub token", "not needed")
    # As the Hub's client finds it: HF_TOKEN, the file that HF_TOKEN_PATH names, or that of a login below HF_HOME.
    from huggingface_hub import get_token

    if get_token():
        return Finding("Hub token", "present")
    pages = ", ".join(source.page for source in gated)
    do = f"accept the licence at {pages}, then export HF_TOKEN, or `hf auth login`"
    return Finding("Hub token", "none in HF_TOKEN, in the file of HF_TOKEN_PATH or below HF_HOME", do, True)
