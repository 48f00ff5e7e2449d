"""The parameters as checked dataclasses: what each key may hold. params.yaml explains them.

The smoke profile's file is `params.yaml`, that of any other profile `profiles/<profile>/params.yaml`. `load` checks the
whole file (maple/config/reading.py for types and ranges, maple/config/names.py for names), so every stage refuses a
bad one before it does any work.
"""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, StrictStr

from maple.config import methods
from maple.config.cell import Base, Cell, grid
from maple.config.reading import Text, block
from maple.core.errors import MapleError, nearest

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PROFILES = Path("profiles")
EXPERIMENT = "experiment"
# Tasks whose metric has a documented fault that `scoring.repair` corrects: maple/metrics/qa.py.
REPAIRED_METRICS = ("mlqa",)
# What each changes: maple/tasks/protocols.py.
PROTOCOLS = ("default", "followup")
# Profiles and training sets name folders, stages and parts of commands.
NAME = r"[a-z0-9][a-z0-9-]*"


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-5`, which people write and DVC's -S writes, as text: it is the number that it looks like."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value):
        return float(value)
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


def _distinct(values: list) -> list:
    """What stands twice would count twice, in a mean or in the number of cells."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} stands in it twice")
    return values


def _some(values: dict) -> dict:
    if not values:
        raise ValueError("it is empty")
    return values


# A float that YAML gave as a whole number or as text; the `description` of a field says in words what it may be.
Float = Annotated[float, BeforeValidator(_number), Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[StrictInt, Field(ge=1, le=2**31, description="a whole number from 1")]
WholeOrAuto = Annotated[Whole | Literal["auto"], Field(description="a whole number from 1, or auto")]
SwitchOrAuto = Annotated[StrictBool | Literal["auto"], Field(description="true, false or auto")]
Rank = Annotated[StrictInt, Field(ge=1, le=4096, description="a whole number from 1 to 4096, the width of a 7B model")]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**32, description="a whole number from 0 to 4294967295")]
Positive = Annotated[Float, Field(gt=0, description="a number above 0")]
FromZero = Annotated[Float, Field(ge=0, description="a number from 0")]
Share = Annotated[Float, Field(ge=0, lt=1, description="a share from 0 to below 1")]
Part = Annotated[Float, Field(gt=0, lt=1, description="a share between 0 and 1")]
ShareOrAll = Annotated[Float, Field(ge=0, le=1, description="null or a share from 0 to 1")]
Multiple = Annotated[StrictStr, Field(pattern=r"^[1-9]\d*r$")]
Alpha = Annotated[Whole | Multiple, Field(description="a number from 1, or a multiple of the rank like 2r")]
Names = Annotated[list[Text], Field(min_length=1), AfterValidator(_distinct)]
Ranks = Annotated[list[Rank], Field(min_length=1), AfterValidator(_distinct)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)]
Method = Literal[tuple(methods.METHODS)]
Targets = Annotated[list[Literal[TARGETS]], Field(min_length=1), AfterValidator(_distinct)]


@block
class ExperimentLora:
    r: Rank
    alpha: Alpha | None
    dropout: Share | None
    targets: Targets | None


@block
class Quantisation:
    bits: Literal[4, 8, 16]


@block
class ExperimentTrain:
    seed: Seed | None
    virtual_tokens: Whole | None
    learning_rate: Positive | None
    epochs: Positive | None
    max_steps: Whole | None


@block
class Grid:
    bases: Names
    datasets: Names
    ranks: Ranks
    seeds: Seeds


@block
class RecipeLora:
    alpha: Alpha
    dropout: Share
    targets: Targets


@block
class RecipeQuantisation:
    type_4bit: Literal["nf4", "fp4"]
    double_4bit: StrictBool


@block
class Recipe:
    """How every cell is finetuned."""

    method: Method
    lora: RecipeLora
    virtual_tokens: Whole
    quantisation: RecipeQuantisation
    learning_rate: Positive
    schedule: Literal["constant", "linear", "cosine"]
    warmup: Share
    optimiser: Literal["adamw", "paged_adamw"]
    weight_decay: FromZero
    max_grad_norm: Positive
    batch_rows: Whole
    epochs: Positive
    max_steps: Whole | None
    micro_batch_tokens: WholeOrAuto
    gradient_checkpointing: SwitchOrAuto
    unpack_4bit: SwitchOrAuto
    path: Literal[methods.PATHS]
    checkpoint_steps: Whole
    divergence_bound: Positive

    def fitted(self) -> "Recipe":
        """With a path that computes its method, and without what the method cannot be trained with."""
        paths = methods.METHODS[self.method].paths
        changes = {"path": self.path if self.path in paths else paths[0]}
        if self.method == "prefix":
            # Gradient checkpointing runs a block again without the keys and values before it: without the prefix.
            changes["gradient_checkpointing"] = False
        if self.method == "pissa":
            # Dropout would drop principal parts of the model itself.
            changes["lora"] = dataclasses.replace(self.lora, dropout=0.0)
        return dataclasses.replace(self, **changes)


@block
class TrainingSet:
    source: Text
    languages: Names
    translations_per_instruction: Annotated[
        Literal["all", "one"] | Whole, Field(description="all, one, or a number from 1")
    ]
    english_share: ShareOrAll | None


@block
class Prepare:
    seed: Seed
    rows: Whole
    heldout_rows: Whole
    max_length: Annotated[
        StrictInt, Field(ge=32, le=2**20, description="a whole number from 32: a prompt alone takes some 40 tokens")
    ]
    template: Literal["alpaca", "bactrian"]
    unicode: Literal["NFC", "NFKC", "none"]
    drop_exact_duplicates: StrictBool
    drop_near_duplicates: StrictBool
    drop_untranslated: StrictBool
    drop_empty_outputs: StrictBool
    overlap_ngram: Whole
    processes: Whole


@block
class TaskOptions:
    languages: Names
    split: Text
    limit: Whole | None
    scoring: Literal["loglikelihood", "generation"]
    shots: Annotated[StrictInt, Field(ge=0, le=8, description="0 to 8")]
    shot_language: Text
    prompt_set: Text
    max_new_tokens: Whole
    repair: StrictBool

    def shots_in(self, codes: list[str]) -> list[str]:
        """The languages of the shots before questions in these languages."""
        return codes if self.shot_language == "same" else [self.shot_language]


@block
class Evaluation:
    seed: Seed
    batch_tokens: WholeOrAuto
    unpack_4bit: SwitchOrAuto
    base_precision: Literal["trained", "4", "8", "16"]
    path: Literal["shared", "plain"]
    protocol: Literal[PROTOCOLS]
    tasks: Annotated[dict[Text, TaskOptions], AfterValidator(_some)]


@block
class Scoring:
    """How stored answers become scores; nothing here asks a model again."""

    normalisation: dict[Text, Literal["none", "bytes", "tokens"]]
    repair: Annotated[list[Literal[REPAIRED_METRICS]], AfterValidator(_distinct)]
    protocol: Literal[PROTOCOLS] | None


@block
class Judge:
    annotator: Annotated[
        StrictStr, Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="stand-in or an annotator of alpaca_eval")
    ]
    reference: Literal["text_davinci_003", "gpt4_1106_preview"]
    seed: Seed


@block
class Tables:
    best: Literal["row", "cell", "heldout"]
    average: Literal["half-up", "half-even"]
    accept_missing: StrictBool
    claim_margin: FromZero
    confidence: Part
    bootstrap_samples: Whole
    seed: Seed


@block
class Params:
    profile: Annotated[
        StrictStr, Field(pattern=rf"^{NAME}$", description="a name of small letters, digits and hyphens")
    ]
    params_file: Text
    root: Text
    sources: Literal["smoke", "hub"]
    model: Text
    dataset: Text
    method: Method | None
    lora: ExperimentLora
    quantisation: Quantisation
    train: ExperimentTrain
    grid: Grid
    recipe: Recipe
    datasets: Annotated[
        dict[
            Annotated[StrictStr, Field(pattern=rf"^{NAME}$", description="named by small letters, digits and hyphens")],
            TrainingSet,
        ],
        AfterValidator(_some),
    ]
    prepare: Prepare
    evaluation: Evaluation
    scoring: Scoring
    judge: Judge
    tables: Tables

    @property
    def is_smoke(self) -> bool:
        """Whether its models and rows are the sample world's: then no number says anything about the paper."""
        return self.sources == "smoke"

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
        for noun, word, known in (
            ("model", cell.base.model, catalogue.models()),
            ("training set", cell.dataset, self.datasets),
        ):
            if word not in known:
                raise MapleError(f"'{name}' names no cell", why=f"there is no {noun} '{word}'", do=nearest(word, known))
        return cell, self.recipe

    def recipe_of_experiment(self) -> Recipe:
        """The grid's recipe with the experiment's own values in place of those it sets, and what its method needs."""
        changes = {k: v for k, v in dataclasses.asdict(self.train).items() if v is not None and k != "seed"}
        lora = {k: v for k, v in dataclasses.asdict(self.lora).items() if v is not None and k != "r"}
        changes |= {"method": self.method or self.recipe.method}
        found = dataclasses.replace(self.recipe, lora=dataclasses.replace(self.recipe.lora, **lora), **changes)
        return found.fitted()

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
    """The parameter file of a profile."""
    if not re.fullmatch(NAME, profile):
        raise MapleError(
            f"'{profile}' names no profile",
            why="a profile's name is a folder's, of small letters, digits and hyphens",
            do=nearest(profile, _profiles()),
        )
    path = Path("params.yaml") if profile == "smoke" else PROFILES / profile / "params.yaml"
    if not path.exists():
        known = [name for name in _profiles() if name != profile]
        do = (
            nearest(profile, known)
            if profile != "smoke"
            else "run in the repository's folder, or restore it: git checkout params.yaml"
        )
        raise MapleError(f"no profile '{profile}'", why=f"{path} does not exist", do=do)
    return path


def _profiles() -> list[str]:
    return ["smoke", *(path.name for path in PROFILES.glob("*") if path.is_dir())]


def load(profile: str = "smoke") -> Params:
    """The checked parameters of a profile; raises MapleError that names the first wrong key."""
    path = path_of(profile)
    found = parse(path)
    if found.profile != profile:
        raise MapleError(
            f"{path}: 'profile' is '{found.profile}'",
            why=f"outputs would land in the folders of another profile than {profile}, whose file this is",
            do=f"set profile: {profile}",
        )
    return found


def parse(path: Path) -> Params:
    """Read and check one parameter file."""
    from maple.config import names, reading

    found = reading.checked(Params, path)
    names.check(found, path)
    return _by_protocol(found)


def _by_protocol(params: Params) -> Params:
    """With the tasks as `evaluation.protocol` has them, and scored by it unless `scoring.protocol` names another."""
    from maple.tasks import protocols

    scoring = dataclasses.replace(params.scoring, protocol=params.scoring.protocol or params.evaluation.protocol)
    return dataclasses.replace(params, evaluation=protocols.applied(params.evaluation), scoring=scoring)
