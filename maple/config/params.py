"""params.yaml as checked dataclasses: an unknown or wrong key is one error that names it and the nearest right one.

The smoke profile's file is `params.yaml`, that of any other profile `profiles/<profile>/params.yaml`; the keys
are explained there. `load` checks the whole file, so every stage refuses a bad one before it does any work.
"""

import dataclasses
import functools
import math
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from maple.upstream import languages
from maple.config.cell import BITS, Base, Cell, grid
from maple.core.errors import MapleError, nearest

TASKS = ("xnli", "xcopa", "xquad", "belebele", "mlqa", "xlsum", "alpaca_eval")
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PROFILES = Path("profiles")
EXPERIMENT = "experiment"
# Tasks whose metric has a documented fault that `scoring.repair` corrects: maple/metrics/qa.py.
REPAIRED_METRICS = ("mlqa",)
# What numbers, alone or in a list, must be: (accepted, in words, keys). Values that are null are left to the type.
RANGES = (
    (
        lambda value: value >= 1,
        "a whole number from 1",
        (
            *("lora.r", "grid.ranks", "train.max_steps", "recipe.batch_rows", "recipe.max_steps", "recipe.micro_batch_tokens"),
            *("recipe.checkpoint_steps", "prepare.rows", "prepare.validation_rows", "prepare.max_length"),
            *("prepare.overlap_ngram", "prepare.processes", "evaluation.batch_tokens", "tables.bootstrap_samples"),
        ),
    ),
    (
        lambda value: 0 < value < math.inf,
        "a number above 0",
        (
            *("train.learning_rate", "train.epochs", "recipe.learning_rate", "recipe.epochs", "recipe.max_grad_norm"),
            "recipe.divergence_bound",
        ),
    ),
    (lambda value: 0 <= value < math.inf, "a number from 0", ("recipe.weight_decay", "tables.claim_margin", "train.seed")),
    (lambda value: 0 <= value < 1, "a share from 0 to below 1", ("lora.dropout", "recipe.lora.dropout", "recipe.warmup")),
    (lambda value: 0 < value < 1, "a share between 0 and 1", ("tables.confidence",)),
)


@dataclass(frozen=True)
class ExperimentLora:
    r: int
    alpha: str | int | None
    dropout: float | None
    targets: list[str] | None
    rslora: bool | None


@dataclass(frozen=True)
class Quantisation:
    bits: int


@dataclass(frozen=True)
class ExperimentTrain:
    seed: int | None
    learning_rate: float | None
    epochs: float | None
    max_steps: int | None


@dataclass(frozen=True)
class Grid:
    bases: list[str]
    datasets: list[str]
    ranks: list[int]
    seeds: list[int]


@dataclass(frozen=True)
class RecipeLora:
    alpha: str | int
    dropout: float
    targets: list[str]
    rslora: bool


@dataclass(frozen=True)
class RecipeQuantisation:
    type_4bit: Literal["nf4", "fp4"]
    double_4bit: bool


@dataclass(frozen=True)
class Recipe:
    """How every cell is finetuned."""

    lora: RecipeLora
    quantisation: RecipeQuantisation
    learning_rate: float
    schedule: Literal["constant", "linear", "cosine"]
    warmup: float
    optimiser: Literal["adamw", "paged_adamw"]
    weight_decay: float
    max_grad_norm: float
    batch_rows: int
    epochs: float
    max_steps: int | None
    micro_batch_tokens: int
    gradient_checkpointing: bool
    path: Literal["fused", "fused_bfloat16", "stock"]
    checkpoint_steps: int
    divergence_bound: float


@dataclass(frozen=True)
class TrainingSet:
    source: str
    languages: list[str]
    translations_per_instruction: Literal["all", "one"] | int
    english_share: float | None


@dataclass(frozen=True)
class Prepare:
    seed: int
    rows: int
    validation_rows: int
    max_length: int
    template: Literal["alpaca", "bactrian"]
    unicode: Literal["NFC", "NFKC", "none"]
    drop_exact_duplicates: bool
    drop_near_duplicates: bool
    drop_untranslated: bool
    drop_empty_outputs: bool
    overlap_ngram: int
    processes: int


@dataclass(frozen=True)
class TaskOptions:
    languages: list[str]
    split: str
    limit: int | None
    scoring: Literal["loglikelihood", "generation"]
    shots: int
    shot_language: str
    prompt_set: str
    max_new_tokens: int
    repair: bool

    def shots_in(self, codes: list[str]) -> list[str]:
        """The languages of the shots before questions in these languages."""
        return codes if self.shot_language == "same" else [self.shot_language]


@dataclass(frozen=True)
class Evaluation:
    seed: int
    batch_tokens: int
    base_precision: Literal["trained", "4", "8", "16"]
    path: Literal["shared", "plain"]
    tasks: dict[str, TaskOptions]


@dataclass(frozen=True)
class Scoring:
    """How stored answers become scores; nothing here asks a model again."""

    normalisation: dict[str, Literal["none", "bytes", "tokens"]]
    repair: list[str]


@dataclass(frozen=True)
class Judge:
    annotator: str
    reference: Literal["text_davinci_003", "gpt4_1106_preview"]
    seed: int


@dataclass(frozen=True)
class Tables:
    best: Literal["row", "cell", "heldout"]
    average: Literal["half-up", "half-even"]
    accept_missing: bool
    claim_margin: float
    confidence: float
    bootstrap_samples: int
    seed: int


@dataclass(frozen=True)
class Params:
    profile: str
    params_file: str
    root: str
    sources: Literal["smoke", "hub"]
    model: str
    dataset: str
    lora: ExperimentLora
    quantisation: Quantisation
    train: ExperimentTrain
    grid: Grid
    recipe: Recipe
    datasets: dict[str, TrainingSet]
    prepare: Prepare
    evaluation: Evaluation
    scoring: Scoring
    judge: Judge
    tables: Tables

    @property
    def cells(self) -> list[Cell]:
        return grid(self.grid.bases, self.grid.datasets, self.grid.ranks, self.grid.seeds)

    @property
    def bases(self) -> list[Base]:
        return [Base.parse(name) for name in self.grid.bases]

    @property
    def experiment(self) -> Cell:
        seed = self.grid.seeds[0] if self.train.seed is None else self.train.seed
        return Cell(Base(self.model, self.quantisation.bits), self.dataset, self.lora.r, seed)

    @property
    def models(self) -> list[str]:
        """The base models that any cell needs, each once."""
        return sorted({base.model for base in self.bases} | {self.model})

    def cell_of(self, name: str) -> tuple[Cell, Recipe]:
        """The cell and recipe behind a folder name: `experiment`, or a cell's name, of the grid or beside it."""
        from maple.config import catalogue

        if name == EXPERIMENT:
            return self.experiment, self.recipe_of_experiment()
        cell = Cell.parse(name)
        for noun, word, known in (("model", cell.base.model, catalogue.models()), ("training set", cell.dataset, self.datasets)):
            if word not in known:
                raise MapleError(f"'{name}' names no cell", why=f"there is no {noun} '{word}'", do=nearest(word, known))
        return cell, self.recipe

    def recipe_of_experiment(self) -> Recipe:
        """The grid's recipe with the experiment's own values in place of those it sets."""
        changes = {k: v for k, v in dataclasses.asdict(self.train).items() if v is not None and k != "seed"}
        lora = {k: v for k, v in dataclasses.asdict(self.lora).items() if v is not None and k != "r"}
        return dataclasses.replace(self.recipe, lora=dataclasses.replace(self.recipe.lora, **lora), **changes)

    @property
    def pipeline(self) -> Path:
        """The profile's stages, as DVC names the file."""
        return Path("dvc.yaml") if self.profile == "smoke" else PROFILES / self.profile / "dvc.yaml"

    @property
    def artifacts(self) -> Path:
        """Outputs that DVC caches."""
        return Path("artifacts", self.profile)

    def folder(self, kind: Literal["answers", "scores"], name: str) -> Path:
        """A model's answers or scores. The experiment stands apart, so that it can change without the grid."""
        return self.artifacts / kind / name if name == EXPERIMENT else self.artifacts / kind / "grid" / name

    @property
    def work(self) -> Path:
        """Half results and logs: no DVC output, so they survive a stopped stage."""
        return Path("work", self.profile)

    @property
    def regenerated(self) -> Path:
        """Tables, figures, comparison and report of this profile, kept in git."""
        return Path("paper_tables", "regenerated", self.profile)


def path_of(profile: str) -> Path:
    path = Path("params.yaml") if profile == "smoke" else PROFILES / profile / "params.yaml"
    if not path.exists():
        known = ["smoke", *(p.name for p in PROFILES.glob("*") if p.is_dir())]
        raise MapleError(f"no profile '{profile}'", why=f"{path} does not exist", do=nearest(profile, known))
    return path


def load(profile: str = "smoke") -> Params:
    return parse(path_of(profile))


def parse(path: Path) -> Params:
    """Read and check one parameter file; raises MapleError that names the first wrong key."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise MapleError(f"{path} is not valid YAML", why=str(error), do="mend that line") from error
    params = _build(Params, content, "", path)
    _check_names(params, path)
    return params


def _build(kind: Any, value: Any, key: str, path: Path) -> Any:
    """`value` as `kind`, or an error that names `key`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise _wrong(path, key, value, "a block of keys")
        hints = typing.get_type_hints(kind)
        for name in value:
            if name not in hints:
                raise MapleError(
                    f"{path}: unknown key '{_join(key, name)}'",
                    why="no code reads it, so its value would change nothing",
                    do=nearest(name, hints),
                )
        for name in hints:
            if name not in value:
                raise MapleError(
                    f"{path}: key '{_join(key, name)}' is missing",
                    why="every value stands in the file, so that a reader sees what ran",
                    do=f"add it; params.yaml explains '{name}'",
                )
        return kind(**{name: _build(hint, value[name], _join(key, name), path) for name, hint in hints.items()})
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _build(option, value, key, path)
            except MapleError:
                continue
        raise _wrong(path, key, value, " or ".join(_describe(option) for option in arguments))
    if origin is Literal:
        if isinstance(value, bool) or value not in arguments:
            raise MapleError(f"{path}: '{key}' is {value!r}", why=f"it must be {_describe(kind)}", do=nearest(value, arguments))
        return value
    if origin is list:
        if not isinstance(value, list):
            raise _wrong(path, key, value, "a list")
        return [_build(arguments[0], item, f"{key}[{i}]", path) for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(path, key, value, "a block of keys")
        return {name: _build(arguments[1], item, _join(key, name), path) for name, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    raise _wrong(path, key, value, _describe(kind))


def _check_names(params: Params, path: Path) -> None:
    """Names that refer to something must name something that exists."""
    from maple.config import catalogue

    known_models = catalogue.models()
    for key, model in [("model", params.model)] + [("grid.bases", base.model) for base in params.bases]:
        if model not in known_models:
            raise _unknown(path, key, "model", model, known_models)
    if params.quantisation.bits not in BITS:
        raise _wrong(path, "quantisation.bits", params.quantisation.bits, "4, 8 or 16")
    for key, dataset in [("dataset", params.dataset)] + [("grid.datasets", d) for d in params.grid.datasets]:
        if dataset not in params.datasets:
            raise _unknown(path, key, "training set", dataset, params.datasets)
    for name, training_set in params.datasets.items():
        if training_set.source not in catalogue.training():
            raise _unknown(path, f"datasets.{name}.source", "training source", training_set.source, catalogue.training())
        known_codes = catalogue.training()[training_set.source].codes
        count, share = training_set.translations_per_instruction, training_set.english_share
        if isinstance(count, int) and count < 1:
            raise _wrong(path, f"datasets.{name}.translations_per_instruction", count, "all, one, or a number from 1")
        if share is not None and not 0 <= share <= 1:
            raise _wrong(path, f"datasets.{name}.english_share", share, "null or a share from 0 to 1")
        for code in training_set.languages:
            if code not in known_codes:
                raise _unknown(path, f"datasets.{name}.languages", f"{training_set.source} language", code, known_codes)
    for key, targets in [("lora.targets", params.lora.targets or []), ("recipe.lora.targets", params.recipe.lora.targets)]:
        for target in targets:
            if target not in TARGETS:
                raise _unknown(path, key, "target module", target, TARGETS)
    for key, alpha in [("lora.alpha", params.lora.alpha), ("recipe.lora.alpha", params.recipe.lora.alpha)]:
        if alpha is not None and not re.fullmatch(r"[1-9]\d*r" if isinstance(alpha, str) else r"[1-9]\d*", str(alpha)):
            raise _wrong(path, key, alpha, "a number from 1, or a multiple of the rank like 2r")
    for name, task in params.evaluation.tasks.items():
        if name not in TASKS:
            raise _unknown(path, "evaluation.tasks", "task", name, TASKS)
        for code in task.languages:
            if code not in languages.of_task(name):
                raise _unknown(path, f"evaluation.tasks.{name}.languages", f"{name} language", code, languages.of_task(name))
        if task.scoring == "loglikelihood" and name not in params.scoring.normalisation:
            raise _wrong(path, f"scoring.normalisation.{name}", "missing", "none, bytes or tokens, for each task scored by loglikelihood")
        if not 0 <= task.shots <= 8:
            raise _wrong(path, f"evaluation.tasks.{name}.shots", task.shots, "0 to 8")
        for key in ("limit", "max_new_tokens"):
            if getattr(task, key) is not None and getattr(task, key) < 1:
                raise _wrong(path, f"evaluation.tasks.{name}.{key}", getattr(task, key), "a whole number from 1")
    for name in params.scoring.repair:
        if name not in REPAIRED_METRICS:
            raise _unknown(path, "scoring.repair", "metric to repair", name, REPAIRED_METRICS)
    asked = params.evaluation.tasks.get("alpaca_eval")
    if asked and (asked.prompt_set == "bactrian") != (params.prepare.template == "bactrian"):
        raise MapleError(
            f"{path}: prepare.template is {params.prepare.template}, evaluation.tasks.alpaca_eval.prompt_set {asked.prompt_set}",
            why="a model is asked in the template that it was finetuned with",
            do="set both to bactrian, or template to alpaca and prompt_set to english",
        )
    for accepted, words, keys in RANGES:
        for key in keys:
            found = functools.reduce(getattr, key.split("."), params)
            for value in found if isinstance(found, list) else [found]:
                if value is not None and not accepted(value):
                    raise _wrong(path, key, value, words)


def _unknown(path: Path, key: str, noun: str, name: Any, known: Any) -> MapleError:
    return MapleError(f"{path}: unknown {noun} '{name}' in '{key}'", why=f"no such {noun} is described", do=nearest(name, known))


def _wrong(path: Path, key: str, value: Any, wanted: str) -> MapleError:
    return MapleError(
        f"{path}: '{key}' is {value!r}", why=f"it must be {wanted}", do="correct the value; params.yaml explains each key"
    )


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(kind, "a list" if typing.get_origin(kind) is list else str(kind))


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else str(name)
