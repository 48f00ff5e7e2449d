"""Training state on disk, so that a stopped run goes on where it was.

A step's randomness is seeded by its number and its rows follow from the seed, so the adapter, the optimiser and
the step are the whole state.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch

from maple.errors import MapleError


def save(path: Path, settings: dict[str, Any], state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        torch.save({"settings": json.dumps(settings, sort_keys=True), **state}, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise MapleError(
            f"could not write the checkpoint {path}",
            why=str(error).splitlines()[0],
            do="free some space; the last complete checkpoint is kept and training goes on from it",
        ) from error


def load(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The saved state, or None if there is none. A checkpoint of other settings is refused, the difference shown."""
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True, map_location="cpu")
    found = json.loads(state.pop("settings"))
    wanted = json.loads(json.dumps(settings))
    if found != wanted:
        keys = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
        changes = "; ".join(f"{k}: {found.get(k)} then, {wanted.get(k)} now" for k in keys)
        raise MapleError(
            f"{path} was made with other settings",
            why=changes,
            do=f"set them back to go on, or start afresh with `rm -r {path.parent}`",
        )
    return state
