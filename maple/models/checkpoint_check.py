"""Whether a base's folder holds a whole checkpoint that is what it says, before and after it is loaded."""

import json
from pathlib import Path
from typing import Any

from maple.core.errors import MapleError

AGAIN = "download it again: delete the folder and run `dvc repro download`"


def inspect(folder: Path) -> dict[str, Any]:
    """The config of the base in `folder` (Hugging Face layout), after its files were looked at.

    Raises MapleError for an adapter's folder, a cut config, weights that are missing, cut or pickled, and a checkpoint
    that is quantised already.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise MapleError(f"no model in {folder}", why="config.json is missing", do="run `dvc repro download`")
    if (folder / "adapter_config.json").exists():
        # transformers would load the adapter as well, without a word.
        raise MapleError(
            f"{folder} is not a base",
            why="it holds an adapter_config.json",
            do="move the adapter into a folder of its own",
        )
    config = _read(folder / "config.json")
    if (folder / "generation_config.json").exists():
        # transformers passes over one that it cannot read, and with it over the tokens that end a text.
        _read(folder / "generation_config.json")
    if config.get("quantization_config") is not None:
        own = config["quantization_config"]
        method = own.get("quant_method", "unnamed") if isinstance(own, dict) else "unnamed"
        raise MapleError(
            f"the base in {folder} is quantised already ({method})",
            why="bases are quantised here while they are loaded; its scores would stand under other bits than its own",
            do="use the checkpoint in bfloat16, float16 or float32, and set quantisation.bits",
        )
    _check_weights(folder)
    return config


def check_loaded(folder: Path, found: dict[str, Any]) -> None:
    """`found` is transformers' `output_loading_info`: a tensor without weights is random, and scores with it."""
    missing, unexpected = sorted(found.get("missing_keys") or ()), sorted(found.get("unexpected_keys") or ())
    mismatched = sorted(str(entry[0]) for entry in found.get("mismatched_keys") or ())
    said = [
        f"{len(keys)} {name}: {', '.join(keys[:2])}{', ...' if len(keys) > 2 else ''}"
        for name, keys in (("missing", missing), ("left over", unexpected), ("of another shape", mismatched))
        if keys
    ]
    said += [str(message) for message in found.get("error_msgs") or ()][:1]
    if said:
        raise MapleError(
            f"the weights in {folder} are not those of its config.json",
            why="; ".join(said) + "; what is missing would be random numbers",
            do=AGAIN + "; a checkpoint of another architecture needs its own config.json",
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise MapleError(f"{path} cannot be read", why=f"it is cut off or damaged: {error}", do=AGAIN) from error
    if not isinstance(found, dict):
        raise MapleError(f"{path} cannot be read", why="it holds no settings", do=AGAIN)
    return found


def _check_weights(folder: Path) -> None:
    """Every weights file named is there, whole, and in safetensors."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists():
        names = ["model.safetensors"]
    elif index.exists():
        listed = _read(index).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise MapleError(f"{index} cannot be read", why="it has no weight_map", do=AGAIN)
        names = sorted(set(listed.values()))
    elif pickled := sorted(path.name for path in folder.glob("*.bin")):
        raise MapleError(
            f"the base in {folder} is not read: its weights are in {pickled[0]}",
            why="a pickled file can run any program when it is opened",
            do="pin a revision with safetensors; where you trust it, load it and save it again with save_pretrained",
        )
    else:
        raise MapleError(
            f"no weights in {folder}", why="there is no model.safetensors and no index of its parts", do=AGAIN
        )
    for name in names:
        if Path(name).name != name:
            raise MapleError(
                f"{index} names a file outside its folder", why=f"'{name}'", do="use a checkpoint from another place"
            )
        _check_part(folder / name)


def _check_part(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        # Opening reads the header and compares the file's length with it.
        with safe_open(str(path), framework="np") as file:
            whole = len(list(file.keys())) > 0
    except (SafetensorError, OSError, ValueError) as error:
        size = f"{path.stat().st_size:,} bytes" if path.exists() else "missing"
        raise MapleError(
            f"{path} ({size}) cannot be read", why=f"it is cut off or no safetensors file: {error}", do=AGAIN
        ) from error
    if not whole:
        raise MapleError(f"{path} cannot be read", why="it holds no tensor", do=AGAIN)
