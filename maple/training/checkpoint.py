"""Training state on disk, so that a stopped run goes on where it was.

A step's randomness is seeded by its number and its rows follow from the seed, so the adapter, the optimiser and
the step are the whole state.

    state.pt           the state
    state.pt.sha256    the sha256 that it may have: of the newest state and of the one before, since a kill can fall
                       between the two files. One flipped byte would train on without a word.
"""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from maple.core import storage
from maple.core.errors import MapleError


def save(path: Path, settings: dict[str, Any], state: dict[str, Any]) -> None:
    try:
        with storage.replacing(path) as file:
            torch.save({"settings": json.dumps(settings, sort_keys=True), **state}, file)
            file.flush()
            digests = [storage.sha256(file.name), *_digests(path)[:1]]
            storage.write_text(_digests_of(path), "\n".join(digests) + "\n")
    except (OSError, RuntimeError) as error:
        raise MapleError(
            f"could not write the checkpoint {path}",
            why=str(error).splitlines()[0],
            do="free some space; the last complete checkpoint is kept and training goes on from it",
        ) from error


def load(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The saved state, or None if there is none. A checkpoint of other settings is refused, the difference shown."""
    if not path.exists():
        return None
    if storage.sha256(path) not in _digests(path):
        raise MapleError(
            f"{path} is damaged",
            why=f"its sha256 is not in {_digests_of(path).name}",
            do=f"start afresh with `rm -r {path.parent}`",
        )
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        found = dict(_flat(json.loads(state.pop("settings"))))
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise MapleError(
            f"{path} cannot be read", why=repr(error).split("\\n")[0], do=f"start afresh with `rm -r {path.parent}`"
        ) from error
    wanted = dict(_flat(json.loads(json.dumps(settings))))
    if found != wanted:
        keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
        raise MapleError(
            f"{path} was made with other settings",
            why="; ".join(f"{key}: {found.get(key)} then, {wanted.get(key)} now" for key in keys),
            do=f"set them back to go on, or start afresh with `rm -r {path.parent}`",
        )
    return state


def _digests_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _digests(path: Path) -> list[str]:
    """The digests that the state may have, the newest first."""
    listed = _digests_of(path)
    return listed.read_text(encoding="utf-8").split() if listed.exists() else []


def _flat(settings: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Each value under its dotted key, so that a difference deep in a recipe is shown alone."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, value
