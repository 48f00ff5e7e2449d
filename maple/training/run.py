"""One cell from its base and training set to an adapter (or, fully finetuned, a model): all that decides the adapter's numbers.

`stages/train.py` reads, prints and writes around it, so that a word on the screen never trains a model again.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maple.config import environment
from maple.config.cell import Cell
from maple.config.methods import METHODS
from maple.config.params import Recipe
from maple.core import storage
from maple.models import loading
from maple.models.shapes import Shape
from maple.training import batches, loop

SCHEMA = "maple.adapter/1"
PARTS = ("train", "heldout")


@dataclass(frozen=True)
class Watch:
    """How a run is followed: `report` gets each step's row of the curve, `resumed` the number of steps taken before."""

    report: Callable[[dict[str, float]], None]
    resumed: Callable[[int], None]


@dataclass(frozen=True)
class Trained:
    """The model with its adapter, the record to be written last, and what happened on the way.

    `start` is the folder with the adapter as it began, of a method that begins by changing the base.
    """

    model: Any
    record: dict[str, Any]
    outcome: loop.Outcome
    processes: loop.Processes
    start: Path | None = None


def settings_of(
    name: str, cell: Cell, recipe: Recipe, tokens: Path, base: dict[str, Any], profile: str
) -> dict[str, Any]:
    """What identifies a run: a checkpoint of other settings is refused, and the record begins with them."""
    return {
        "profile": profile,
        "name": name,
        "model": cell.base.model,
        "bits": cell.base.bits,
        "dataset": cell.dataset,
        # Whose size no rank decides has neither.
        "rank": cell.rank if METHODS[recipe.method].ranked else None,
        "seed": cell.seed,
        "alpha": loading.lora_alpha(recipe, cell.rank) if METHODS[recipe.method].ranked else None,
        "recipe": dataclasses.asdict(recipe),
        "rows": {part: storage.sha256(tokens / f"{part}.arrow") for part in PARTS},
        "base": base,
    }


def train(
    settings: dict[str, Any],
    cell: Cell,
    recipe: Recipe,
    weights: Path,
    tokens: Path,
    checkpoint: Path,
    watch: Callable[[int, loop.Processes], contextlib.AbstractContextManager[Watch]],
) -> Trained:
    """Finetune the base in `weights` on the rows in `tokens`; `watch(steps, processes)` is entered before the first
    step.
    """
    rows, heldout = (batches.Rows(tokens / f"{part}.arrow") for part in PARTS)
    torch.manual_seed(cell.seed)
    base = loading.load_base(weights, cell.base.bits, recipe.quantisation, loading.device(), recipe.unpack_4bit)
    tuned = loading.make_trainable(base, recipe, cell.rank)
    processes = loop.Processes()
    start = None
    if recipe.method == "pissa":
        # What it began as, from which adapter_folder.save works out what it has become beside the base as it was.
        start = checkpoint.parent / "start"
        if processes.rank == 0:
            tuned.save_pretrained(start, save_embedding_layers=False)
    before = loop.heldout_loss(tuned, heldout, recipe.micro_batch_tokens, recipe.path)
    steps = len(batches.steps(len(rows), recipe.batch_rows, recipe.epochs, recipe.max_steps, cell.seed))
    with watch(steps, processes) as watched:
        outcome = loop.finetune(
            tuned, rows, recipe, cell.seed, settings, checkpoint, watched.report, processes, watched.resumed
        )
    after = loop.heldout_loss(tuned, heldout, recipe.micro_batch_tokens, recipe.path)
    shape = Shape.of_config(storage.read_json(weights / "config.json"))
    record = settings | {
        "schema": SCHEMA,
        "trainable_parameters": shape.trainable_parameters(recipe, cell.rank),
        "trainable_percent": shape.trainable_percent(recipe, cell.rank),
        "steps": len(outcome.curve),
        "tokens": {
            key: sum(row[column] for row in outcome.curve)
            for key, column in (("all", "tokens"), ("answer", "answer_tokens"))
        },
        "heldout_loss": {"before": before, "after": after, "rows": len(heldout)},
        "loss": [row["loss"] for row in outcome.curve],
        "versions": environment.versions(),
    }
    return Trained(tuned, record, outcome, processes, start)
