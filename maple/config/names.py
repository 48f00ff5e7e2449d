"""Names in the parameters must name something: models, training sets, sources, tasks and languages."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maple import tasks
from maple.config import catalogue, methods
from maple.config.params import EXPERIMENT, PROFILES, Params
from maple.core.errors import MapleError, nearest


def check(params: Params, path: Path) -> None:
    """Raise MapleError for the first name in a parameter file that names nothing."""
    known = catalogue.models()
    for key, model in [("model", params.model)] + [("grid.bases", base.model) for base in params.bases]:
        _known(path, key, "model", model, known)
    for key, dataset in [("dataset", params.dataset)] + [("grid.datasets", name) for name in params.grid.datasets]:
        _known(path, key, "training set", dataset, params.datasets)
    for name, chosen in params.datasets.items():
        _known(path, f"datasets.{name}.source", "training source", chosen.source, catalogue.training())
        codes = catalogue.training()[chosen.source].codes
        for code in chosen.languages:
            _known(path, f"datasets.{name}.languages", f"{chosen.source} language", code, codes)
    for name, asked in params.evaluation.tasks.items():
        _known(path, "evaluation.tasks", "task", name, tasks.TASKS)
        for code in asked.languages:
            _known(path, f"evaluation.tasks.{name}.languages", f"{name} language", code, tasks.get(name).codes)
        if asked.scoring == "loglikelihood" and name not in params.scoring.normalisation:
            raise MapleError(
                f"{path}: key 'scoring.normalisation.{name}' is missing",
                why="each task scored by loglikelihood says by what its options are divided",
                do="add it: none, bytes or tokens",
            )
    for name in params.scoring.normalisation:
        _known(path, "scoring.normalisation", "task", name, tasks.TASKS)
    asked = params.evaluation.tasks.get("alpaca_eval")
    if asked and (asked.prompt_set == "bactrian") != (params.prepare.template == "bactrian"):
        raise MapleError(
            f"{path}: prepare.template is {params.prepare.template}, evaluation.tasks.alpaca_eval.prompt_set {asked.prompt_set}",
            why="a model is asked in the template that it was finetuned with",
            do="set both to bactrian, or template to alpaca and prompt_set to english",
        )
    _check_methods(params, path)
    if path in (Path("params.yaml"), PROFILES / params.profile / "params.yaml"):
        _check_place(params, path)


def _check_methods(params: Params, path: Path) -> None:
    """A method that its bit width, or in the grid its other settings, cannot be combined with."""
    cell, recipe = params.cell_of(EXPERIMENT)
    methods.check(recipe.method, cell.base.bits, f"{path}: method")
    for base in params.bases:
        methods.check(params.recipe.method, base.bits, f"{path}: recipe.method")
    # The experiment's recipe is fitted to its method; what a grid is trained with stands in its file.
    given, fitted = params.recipe, params.recipe.fitted()
    for key, said, wanted in (
        ("path", given.path, fitted.path),
        ("gradient_checkpointing", given.gradient_checkpointing, fitted.gradient_checkpointing),
        ("lora.dropout", given.lora.dropout, fitted.lora.dropout),
    ):
        if said != wanted:
            raise MapleError(
                f"{path}: 'recipe.{key}' is {said} with recipe.method {given.method}",
                why=f"{methods.METHODS[given.method].label} would not be what is trained",
                do=f"set recipe.{key}: {str(wanted).lower()}",
            )


def _check_place(params: Params, path: Path) -> None:
    """`root` and `params_file` lead from a profile's dvc.yaml to the repository and back."""
    root = "." if params.profile == "smoke" else "../.."
    for key, value, wanted in (("root", params.root, root), ("params_file", params.params_file, str(path))):
        if value != wanted:
            raise MapleError(
                f"{path}: '{key}' is {value!r}",
                why="DVC would read, run or write outside of the repository",
                do=f"set {key}: {wanted}",
            )


def _known(path: Path, key: str, noun: str, name: Any, known: Iterable[str]) -> None:
    if name not in known:
        raise MapleError(
            f"{path}: unknown {noun} '{name}' in '{key}'", why=f"no such {noun} is described", do=nearest(name, known)
        )
