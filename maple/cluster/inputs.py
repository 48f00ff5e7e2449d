"""What a stage of one model depends on, hashed without DVC: a task on another machine may not take DVC's locks.

dvc.yaml is the only place that says what a stage depends on. Its code and parameters are hashed as they are; what an
earlier stage made goes by the hash that dvc.lock has for it, and an adapter, which a task has just made, by its record,
which holds every step's loss, and the sizes of its files: reading 61 GB of adapters would say no more.
Two equal answers of `of` mean that DVC would not run the stage again.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from maple.config import lock
from maple.config.cell import Cell
from maple.config.params import EXPERIMENT, Params, load, path_of
from maple.core import storage
from maple.core.errors import MapleError

Verb = Literal["train", "answer"]


def verbs(params: Params, name: str) -> tuple[Verb, ...]:
    """A cell and the experiment are trained, then asked; a base is only asked."""
    return ("answer",) if name in params.grid.bases else ("train", "answer")


def record(params: Params, verb: Verb, name: str) -> Path:
    """The file whose presence means that the stage is complete."""
    folder = params.artifacts / "adapters" / name if verb == "train" else params.folder("answers", name)
    return folder / "record.json"


def of(params: Params, verb: Verb, name: str) -> dict[str, str]:
    """{dependency: hash} of a model's stage. Raises MapleError if what it needs has not been made."""
    stage, values = _stage(params, verb, name)
    found: dict[str, str] = {}
    for path in (_filled(path, values) for path in stage["deps"]):
        found[path] = _hash(params, path)
    for block in stage.get("params", []):
        for file, keys in block.items():
            settings = _yaml(Path(_filled(file, values)))
            found |= {f"{key} of the parameters": storage.fingerprint(_at(settings, key), 32) for key in keys}
    return found


def missing(params: Params, names: list[str]) -> list[str]:
    """Stages before the models' whose outputs are not here or not in dvc.lock, by DVC's names."""
    return [stage for stage, folder in before(params, names).items() if not _made(params, folder)]


def before(params: Params, names: list[str]) -> dict[str, Path]:
    """What fetches and prepares for these models: DVC's name of each stage, and the folder that it makes."""
    sets = {params.cell_of(name)[0].dataset for name in names if "train" in verbs(params, name)}
    prepared = {f"prepare@{key}": params.artifacts / "prepared" / key for key in sorted(sets)}
    return {"download": params.artifacts / "sources"} | prepared


def _made(params: Params, path: Path) -> bool:
    return path.is_dir() and str(path) in _locked(params)


def _stage(params: Params, verb: Verb, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entry of dvc.yaml, and the values of its `${...}`."""
    values = dict(_yaml(path_of(params.profile)))
    entry = verb + ("_experiment" if name == EXPERIMENT else "_base" if name in params.grid.bases else "")
    if name in params.grid.bases:
        values["item"] = {"base": name}
    elif name != EXPERIMENT:
        cell = Cell.parse(name)
        values["item"] = {"base": cell.base.name, "dataset": cell.dataset, "rank": cell.rank, "seed": cell.seed}
    return _yaml(params.pipeline)["stages"][entry], values


def _filled(text: str, values: dict[str, Any]) -> str:
    """
    >>> _filled("artifacts/${profile}/adapters/r${item.rank}", {"profile": "smoke", "item": {"rank": 8}})
    'artifacts/smoke/adapters/r8'
    """
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(_at(values, found[1])), text)


def _at(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _hash(params: Params, path: str) -> str:
    place = Path(path)
    if not place.is_relative_to(params.artifacts):
        return _bytes_of(place)
    if place.is_relative_to(params.artifacts / "adapters"):
        sizes = sorted((str(file.relative_to(place)), file.stat().st_size) for file in _files(place))
        return storage.fingerprint([sizes, storage.read_json(place / "record.json")], 32)
    locked = _locked(params)
    for made in (place, *place.parents):
        if str(made) in locked:
            return locked[str(made)]
    raise MapleError(
        f"{path} is in no dvc.lock",
        why="the stage that makes it has not run here under DVC, so what a task would start from has no name",
        do=f"run `dvc repro {params.pipeline}:download`, then prepare; docs/CLUSTER.md shows the commands",
    )


def _bytes_of(place: Path) -> str:
    """Of a file or of all files below a folder, names included; what Python leaves beside its sources is not counted."""
    files = [place] if place.is_file() else sorted(_files(place))
    if not files:
        raise MapleError(
            f"{place} is missing", why="a stage depends on it", do="restore it: `git status` shows what is gone"
        )
    return storage.fingerprint([(str(path.relative_to(place)), storage.sha256(path)) for path in files], 32)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _locked(params: Params) -> dict[str, str]:
    """Path -> hash of every output in the profile's dvc.lock."""
    path = params.pipeline.with_name("dvc.lock")
    return _locked_at(params.profile, path.stat().st_mtime_ns) if path.is_file() else {}


@cache
def _locked_at(profile: str, changed: int) -> dict[str, str]:
    entries = lock.stages(load(profile)).values()
    return {out["path"]: out["md5"] for entry in entries for out in entry.get("outs", [])}


def _yaml(path: Path) -> dict[str, Any]:
    return _yaml_at(path, path.stat().st_mtime_ns)


@cache
def _yaml_at(path: Path, changed: int) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
