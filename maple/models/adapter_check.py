"""Whether an adapter is what it says, fits its base, and was loaded: checked before the first example.

    adapter = adapter_check.inspect(folder, source)            # files only: before a base is loaded
    model, notes = adapter_check.attach(base, adapter)         # stock PEFT, then every value compared

PEFT takes what fits and warns of the rest, so a base without its adapter would be scored under the adapter's name.
Here every tensor of the file must be in the model with its value, and every tensor of the adapter in the model must
come from the file. Only safetensors are read: nothing here unpickles.
"""

import dataclasses
import json
import logging
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.core import storage
from maple.core.errors import MapleError

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
# Fields of adapter_config.json that may say anything: they do not change what is computed, or PEFT restores what they
# ask for and the comparison of every key sees it. Every other field must have PEFT's default.
ANY_VALUE = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying", "eva_config",
    "exclude_modules", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform",
    "lora_alpha", "lora_bias", "lora_dropout", "megatron_core", "modules_to_save", "peft_type", "peft_version",
    "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type",
    "trainable_token_indices", "use_dora", "use_rslora",
}  # fmt: skip
# Of other types of adapter, whose tensors say all of what is computed.
_VIRTUAL = ANY_VALUE | {
    "num_attention_heads", "num_layers", "num_transformer_submodules", "num_virtual_tokens", "token_dim",
}  # fmt: skip
ANY_VALUE_OF = {
    "LORA": ANY_VALUE,
    "IA3": ANY_VALUE | {"feedforward_modules", "init_ia3_weights"},
    "PROMPT_TUNING": _VIRTUAL
    | {"prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_kwargs", "tokenizer_name_or_path"},
    # The encoder that makes a prefix is off by default (prefix_projection).
    "PREFIX_TUNING": _VIRTUAL | {"encoder_hidden_size"},
}
# Ways to start a LoRA that leave the base's own weights alone. The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA, ...)
# train against a changed base, which loading can only approximate.
HARMLESS_STARTS = (True, False, "gaussian", "eva", "orthogonal")
PREFIX = "base_model.model."
_LORA = re.compile(rf"^{re.escape(PREFIX)}(?P<module>.+)\.(?P<part>lora_A|lora_B)\.weight$")
_REVISION = re.compile(r"[0-9a-f]{40}")
# Trainers' folders of unfinished states, beside the finished adapter.
_UNFINISHED = re.compile(r"checkpoint-\d+")


@dataclass(frozen=True)
class Base:
    """A base that sources.yaml does not have, by its name and commit on the Hub."""

    hub_id: str
    revision: str
    alternative: dict[str, str] | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter's files after `inspect`. `notes`: what cannot be known of it and belongs into the record."""

    folder: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]


def inspect(folder: Path, source: Any = None, which: str | None = None) -> Adapter:
    """What `folder` holds, read without a model.

    `source` is the base's entry in sources.yaml (catalogue.Source), or a `Base`; without it the base's name is not
    compared.
    `which` names a sub-folder where there are several adapters ("." for the folder itself).
    Raises MapleError for what is missing, cut, pickled, of another kind, or trained on another base.
    """
    folder = _chosen(Path(folder), which)
    config = _read_config(folder)
    _check_kind(folder, config)
    return Adapter(folder, config, _read_header(folder / WEIGHTS), tuple(_notes(folder, config, source)))


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a whole model, as full finetuning leaves it, and no adapter."""
    return (folder / "config.json").exists() and not (folder / CONFIG).exists()


def is_virtual(folder: Path) -> bool:
    """Whether an adapter is of tokens that stand before every text (prompt and prefix tuning)."""
    return not is_whole(folder) and _read_config(_chosen(folder, None))["peft_type"] in (
        "PROMPT_TUNING",
        "PREFIX_TUNING",
    )


def leaves_its_base(folder: Path) -> bool:
    """Whether an adapter is pairs of matrices beside the base's, and nothing in their place: taken off, the base is as before."""
    if is_whole(folder) or is_virtual(folder):
        return False
    return all("lora_" in key for key in _read_header(_chosen(folder, None) / WEIGHTS))


def identity(folder: Path) -> dict[str, str]:
    """sha256 of the files by which what training left behind differs from any other: configuration and weights."""
    found = [folder / ("config.json" if is_whole(folder) else CONFIG), *folder.glob("*.safetensors")]
    return {path.name: storage.sha256(path) for path in sorted(found)}


def notes(folder: Path, source: Any = None) -> list[str]:
    """The notes of `inspect`, from files and without torch: for a record whose answers are all there already.

    Raises MapleError for files that are missing or cut, and for an adapter that was trained on another base.
    """
    if is_whole(Path(folder)):
        return []
    folder = _chosen(Path(folder), None)
    config = _read_config(folder)
    _read_header(folder / WEIGHTS)
    return _notes(folder, config, source)


def base_in(folder: Path) -> Base | None:
    """Which base a folder holds, where it lies in the Hub client's cache (models--OWNER--NAME/snapshots/REVISION)."""
    parts = Path(folder).absolute().parts[-3:]
    name = re.fullmatch(r"models--([\w.-]+?)--([\w.-]+)", parts[0]) if len(parts) == 3 else None
    known = name and parts[1] == "snapshots" and _REVISION.fullmatch(parts[2])
    return Base(f"{name[1]}/{name[2]}", parts[2]) if known else None


def attach(model: Any, adapter: Adapter) -> tuple[Any, tuple[str, ...]]:
    """(the model with the adapter, ready for evaluation; `adapter.notes` and what was noted while loading).

    As stock `PeftModel.from_pretrained` loads it. Raises MapleError where a tensor of the file is not in the model as
    it is in the file, or the model wants one that the file lacks.
    """
    import torch
    from peft import PeftModel

    _check_shapes(model, adapter)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tuned = PeftModel.from_pretrained(model, str(adapter.folder)).eval()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise MapleError(
            f"the adapter in {adapter.folder} cannot be put on this base",
            why=_first_reason(error),
            do=f"evaluate it on the base that it was trained on; compare its {CONFIG} with the base's config.json",
        ) from error
    for warning in caught:
        logging.info("peft: %s", warning.message)
    _check_patterns(tuned, adapter)
    return tuned, adapter.notes + tuple(_compare(tuned, adapter))


# -- Files -----------------------------------------------------------------------------------------------------------


def _chosen(folder: Path, which: str | None) -> Path:
    """The one folder with an adapter in or directly below `folder`."""
    if not folder.is_dir():
        raise MapleError(
            f"no adapter in {folder}", why="there is no such folder", do="run `dvc repro` for that cell's train stage"
        )
    below = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    found = ["."] * (folder / CONFIG).exists() + below
    if which is not None:
        if which not in found:
            raise MapleError(
                f"no adapter '{which}' in {folder}",
                why=f"it holds: {', '.join(found) or 'none'}",
                do="name one of these",
            )
        return folder / which
    finished = [name for name in found if not ("." in found and _UNFINISHED.fullmatch(name))]
    if len(finished) > 1:
        raise MapleError(
            f"several adapters in {folder}: {', '.join(finished)}",
            why="which of them is meant cannot be known, and a score would carry the wrong name",
            do="point to the folder of one of them",
        )
    if not finished:
        why = f"{CONFIG} is missing" if (folder / WEIGHTS).exists() else f"{CONFIG} and {WEIGHTS} are missing"
        raise MapleError(
            f"no adapter in {folder}",
            why=why,
            do="run `dvc repro` for that cell's train stage, or copy the adapter again",
        )
    return folder / finished[0]


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        why = f"{CONFIG} is cut off or damaged: {error}"
        raise MapleError(
            f"the adapter in {folder} cannot be read", why=why, do="copy the adapter again, or train it again"
        ) from error
    if not isinstance(config, dict) or "peft_type" not in config:
        why = f"{CONFIG} has no peft_type, so it is not PEFT's"
        raise MapleError(
            f"the adapter in {folder} cannot be read", why=why, do="save the adapter with PEFT's save_pretrained"
        )
    return config


def _read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor; the file's length is checked on opening."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        if path.with_name(PICKLED).exists():
            raise MapleError(
                f"the adapter in {path.parent} is not read: it has {PICKLED} only",
                why="a pickled file can run any program when it is opened",
                do="where you trust it: load it with PEFT and save it again with save_pretrained (safetensors)",
            )
        raise MapleError(
            f"no adapter in {path.parent}",
            why=f"{WEIGHTS} is missing",
            do="run `dvc repro` for that cell's train stage",
        )
    try:
        # Names and shapes need no torch, which takes seconds to import.
        with safe_open(str(path), framework="np") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        why = f"{WEIGHTS} ({path.stat().st_size:,} bytes) is empty, cut off or no safetensors file: {error}"
        raise MapleError(
            f"the adapter in {path.parent} cannot be read", why=why, do="copy the adapter again, or train it again"
        ) from error
    if not shapes:
        raise MapleError(
            f"the adapter in {path.parent} is empty", why=f"{WEIGHTS} holds no tensor", do="train it again"
        )
    return shapes


# -- What it says of itself --------------------------------------------------------------------------------------------


def _check_kind(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what PEFT does not restore from the file alone."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    def refuse(what: str, why: str) -> MapleError:
        do = "merge it into its base with the tool that made it, and evaluate that; or train a plain LoRA adapter"
        return MapleError(f"the adapter in {folder} cannot be evaluated: {what}", why=why, do=do)

    kind = config["peft_type"]
    if kind not in ANY_VALUE_OF:
        raise refuse(f"it is of type {kind}", f"only {', '.join(ANY_VALUE_OF)} are known to be scored exactly here")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise refuse(f"its task_type is {config['task_type']}", "answers are scored with a causal language model")
    start = config.get("init_lora_weights", True)
    if not any(start is known or (isinstance(start, str) and start == known) for known in HARMLESS_STARTS):
        raise refuse(
            f"init_lora_weights is {start!r}",
            "it was trained against a base whose weights were changed first, which this file lacks",
        )
    known = PEFT_TYPE_TO_CONFIG_MAPPING[kind]()
    defaults = {field.name: getattr(known, field.name) for field in dataclasses.fields(known)}
    for name, value in config.items():
        # A field that is unknown here, from a newer PEFT, is harmless while it is off.
        off = value == defaults.get(name) or value in (None, False, {}, [])
        if name not in ANY_VALUE_OF[kind] and not off:
            raise refuse(
                f"{name} is {json.dumps(value)}", "with this field the file's tensors alone do not say what is computed"
            )
    if kind == "LORA" and (not isinstance(config.get("r"), int) or config["r"] < 1):
        raise refuse(f"its rank r is {config.get('r')!r}", f"{CONFIG} is damaged or not of this adapter")


def _notes(folder: Path, config: dict[str, Any], source: Any) -> list[str]:
    if source is None:
        found = [
            f"which base is used is not known; the adapter names {config.get('base_model_name_or_path') or 'none'}"
        ]
    else:
        found = _check_base(folder, config, source)
    if (folder / "chat_template.jinja").exists():
        found.append("the adapter brings a chat template; prompts are put without one")
    return found


def _check_base(folder: Path, config: dict[str, Any], source: Any) -> list[str]:
    """Notes on the base it was trained on; refuses one that is not `source`."""
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    local = not name or name.startswith((".", "/", "~")) or "\\" in name or name.count("/") != 1
    if local:
        said = f"only '{name}'" if name else "nothing"
        return [f"the base that the adapter was trained on is not known: its config names {said}"]
    # The Hub finds a repository in any case; the alternative is the same weights by sources.yaml.
    same = {known.lower() for known in (source.hub_id, (source.alternative or {}).get("hub_id")) if known}
    if name.lower() not in same:
        raise MapleError(
            f"the adapter in {folder} was trained on {name}, not on {source.hub_id}",
            why="on another base of the same shape an adapter loads without an error and its score means nothing",
            do=f"evaluate it on {name}; if that is a copy of the same weights, write {source.hub_id} into its {CONFIG}",
        )
    if (
        revision
        and _REVISION.fullmatch(revision)
        and name.lower() == source.hub_id.lower()
        and revision != source.revision
    ):
        raise MapleError(
            f"the adapter in {folder} was trained on revision {revision} of {name}",
            why=f"the base that is used is of revision {source.revision}, whose weights may differ",
            do=f"use that revision of the base; if both are the same weights, write the used one into its {CONFIG}",
        )
    if not (revision and _REVISION.fullmatch(revision)):
        said = f"only '{revision}'" if revision else "none"
        return [f"the revision of the base that the adapter was trained on is not known: its config names {said}"]
    return []


# -- Whether it fits ---------------------------------------------------------------------------------------------------


def _check_shapes(model: Any, adapter: Adapter) -> None:
    """Every low-rank matrix against the module that it names, before PEFT touches the model."""
    modules = dict(model.named_modules())
    tied = getattr(model.config, "tie_word_embeddings", False)
    if tied and (adapter.config.get("modules_to_save") or adapter.config.get("trainable_token_indices")):
        raise MapleError(
            f"the adapter in {adapter.folder} cannot be evaluated: it has whole modules of a base with tied embeddings",
            why="whether its output head was trained with its embedding is not in the file",
            do="merge it into its base with the tool that made it, and evaluate that as a base",
        )
    strangers = []
    for key, shape in adapter.shapes.items():
        if not (found := _LORA.match(key)):
            continue
        module = modules.get(found["module"])
        if module is None:
            strangers.append(key)
            continue
        # A: (rank, in); B: (out, rank).
        side, width = ("in_features", shape[-1]) if found["part"] == "lora_A" else ("out_features", shape[0])
        wanted = getattr(module, side, None)
        if wanted is not None and wanted != width:
            raise MapleError(
                f"the adapter in {adapter.folder} is for a base of another shape",
                why=f"{key} is {_size(shape)}; {found['module']} of this base has {side} {wanted:,}",
                do=f"evaluate it on the base that it was trained on ({_own_base(adapter)})",
            )
    if strangers:
        raise _does_not_fit(adapter, _missing_modules(model, adapter), strangers)


def _missing_modules(model: Any, adapter: Adapter) -> list[str]:
    """Keys that the base's own target modules would have; by their last names, as most configurations give them."""
    targets = adapter.config.get("target_modules")
    names = [
        name for name, _ in model.named_modules() if isinstance(targets, list) and name.rpartition(".")[2] in targets
    ]
    wanted = [f"{PREFIX}{name}.{part}.weight" for name in names for part in ("lora_A", "lora_B")]
    return [key for key in wanted if key not in adapter.shapes]


def _check_patterns(tuned: Any, adapter: Adapter) -> None:
    """A pattern that matches nothing is passed over by PEFT, and all scalings are then silently the default's."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    names = [name for name, module in tuned.get_base_model().named_modules() if isinstance(module, BaseTunerLayer)]
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern in adapter.config.get(field) or {}:
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
                raise MapleError(
                    f"the adapter in {adapter.folder} does not fit: its {field} names {pattern}",
                    why="no module that carries the adapter has that name here, so its scaling would be another",
                    do=f"evaluate it on the base that it was trained on, or correct {field} in its {CONFIG}",
                )


def _compare(tuned: Any, adapter: Adapter) -> list[str]:
    """The file's tensors against the model's; returns notes."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    # Trainers store an embedding or head beside the low-rank matrices; PEFT puts such a key straight into the base.
    whole = {name: values for name, values in tuned.named_parameters() if ".default" not in name}
    left_over = [key for key in adapter.shapes if key not in own and key not in whole]
    missing = [key for key in own if key not in adapter.shapes]
    if left_over or missing:
        raise _does_not_fit(adapter, missing, left_over)
    rounded, increments = [], []
    with safe_open(str(adapter.folder / WEIGHTS), framework="pt") as file:
        for key in file.keys():
            saved, loaded = file.get_tensor(key), (own[key] if key in own else whole[key]).detach().cpu()
            if not torch.isfinite(saved).all():
                why = f"{key} holds values that are not numbers, so training had failed"
                raise MapleError(
                    f"the adapter in {adapter.folder} is damaged",
                    why=why,
                    do="train it again with a lower learning rate",
                )
            if saved.shape != loaded.shape or not torch.equal(saved.to(loaded.dtype), loaded):
                raise MapleError(
                    f"the adapter in {adapter.folder} was not loaded as it was saved",
                    why=f"{key} is not the same in the model ({_size(loaded.shape)}) and the file ({_size(saved.shape)})",
                    do="save it again with the PEFT version of requirements/runtime.in",
                )
            if not torch.equal(saved.to(loaded.dtype).to(saved.dtype), saved):
                rounded.append(key)
            if "lora_B" in key or "lora_embedding_B" in key:
                increments.append(bool(saved.any()))
    notes = (
        [f"{len(rounded)} tensors of the adapter were rounded to the base's precision, as PEFT does: {rounded[0]}"]
        if rounded
        else []
    )
    return notes + (["every B of the adapter is zero: it is its base"] if increments and not any(increments) else [])


def _does_not_fit(adapter: Adapter, missing: list[str], left_over: list[str]) -> MapleError:
    what = f"the adapter in {adapter.folder} does not fit this base: "
    if len(left_over) == len(adapter.shapes):
        what += f"none of its {len(adapter.shapes)} keys does"
    else:
        what += f"{len(missing)} keys are missing, {len(left_over)} left over"
    said = [f"{name}: {_some(keys)}" for name, keys in (("missing", missing), ("left over", left_over)) if keys]
    if (targets := _other_targets(adapter)) is not None:
        said.append(targets)
    why = "; ".join(said) + "; PEFT would pass over them and the base's own answers would be scored"
    do = (
        f"evaluate it on the base that it was trained on ({_own_base(adapter)}), with keys named as that base's modules"
    )
    return MapleError(what, why=why, do=do)


def _other_targets(adapter: Adapter) -> str | None:
    targets = adapter.config.get("target_modules")
    if not isinstance(targets, list):
        return None
    found = {match["module"].rpartition(".")[2] for key in adapter.shapes if (match := _LORA.match(key))}
    if found == {name.rpartition(".")[2] for name in targets}:
        return None
    there = ", ".join(sorted(found)) or "no low-rank matrices"
    return f"{CONFIG} targets {', '.join(sorted(targets))}, the file has {there}"


def _own_base(adapter: Adapter) -> str:
    return adapter.config.get("base_model_name_or_path") or "not named"


def _some(keys: list[str], shown: int = 2) -> str:
    more = f" and {len(keys) - shown:,} more" if len(keys) > shown else ""
    return ", ".join(keys[:shown]) + more


def _size(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def _first_reason(error: Exception) -> str:
    """The first line of an error that says something: torch lists sizes below a heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "mismatch" in line), lines[0] if lines else type(error).__name__)
