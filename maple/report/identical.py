"""Whether a run gave the bytes of the committed one: the outputs in dvc.lock, as git has it and as it stands now."""

import subprocess
from collections.abc import Iterable
from typing import Any

import yaml

from maple.config import bills, environment
from maple.config.params import Params


def outputs(lock: str) -> dict[str, str]:
    """Path -> hash of every output in the text of a dvc.lock."""
    stages = (yaml.load(lock, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}).get("stages", {})
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def sentence(params: Params) -> str:
    """`identical to the committed run: 52 of 52 outputs`, or what differs and the likely reason."""
    path = params.pipeline.with_name("dvc.lock")
    shown = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, text=True)
    if shown.returncode or not path.is_file():
        return "no committed run to compare with: git has no dvc.lock of this profile"
    before, now = outputs(shown.stdout), outputs(path.read_text(encoding="utf-8"))
    same = sum(now.get(name) == md5 for name, md5 in before.items())
    if before == now:
        return f"identical to the committed run: {same} of {len(before)} outputs"
    differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    lines = [
        f"differs from the committed run: {same} of {len(before)} outputs are identical, these are not",
        *_few(differing),
    ]
    return "\n".join([*lines, f"  likely reason: {_reason(params)}"])


def _few(names: list[str], most: int = 8) -> Iterable[str]:
    yield from (f"  {name}" for name in names[:most])
    if len(names) > most:
        yield f"  and {len(names) - most} more"


def _reason(params: Params) -> str:
    """The first thing that is known to differ between the two runs."""
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", *_inputs(params)], capture_output=True, text=True
    ).stdout
    if changed.strip():
        return "changed here since the commit: " + ", ".join(line[3:] for line in changed.splitlines()[:4])
    kept, here = (_machines(found) for found in (bills.kept(params), bills.here(params)))
    if kept and here - kept:
        return f"another processor: {', '.join(sorted(here - kept))}; the committed run: {', '.join(sorted(kept))}"
    recorded, installed = _versions(params), environment.versions()
    other = [
        f"{name} {recorded[name]} there, {version} here"
        for name, version in installed.items()
        if recorded.get(name, version) != version
    ]
    return (
        f"another library version: {'; '.join(other)}"
        if other
        else "not known; docs/DEVIATIONS.md lists what may move bytes"
    )


def _inputs(params: Params) -> list[str]:
    return ["maple", "stages", "sources.yaml", str(params.pipeline), str(params.pipeline.with_name("params.yaml"))]


def _machines(found: dict[tuple[str, str], dict[str, Any]]) -> set[str]:
    return {
        bill["hardware"].get("gpu") or bill["hardware"]["processor"] for bill in found.values() if "hardware" in bill
    }


def _versions(params: Params) -> dict[str, str]:
    """Library versions of the committed run, which the bills name."""
    first = next(iter(bills.kept(params).values()), {})
    return first.get("versions", {})
