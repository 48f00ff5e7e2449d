"""Finetune one adapter: a cell of the grid, or the experiment.

    python -m stages.train --name mistral-7b-8bit.alpaca.r8.s42
    python -m stages.train --name experiment
"""

import dataclasses
import logging
import sys
import time

from maple.config import catalogue, command, environment
from maple.core import progress, storage
from maple.models import loading, shapes
from maple.training import adapter_folder, batches, loop


def main(params, arguments):
    cell, recipe = params.cell_of(arguments.name)
    source = catalogue.models()[cell.base.model]
    weights = source.folder(params.artifacts / "sources")
    prepared = params.artifacts / "prepared" / cell.dataset / "tokens" / cell.base.model
    rows, validation = (batches.Rows(prepared / f"{part}.arrow") for part in ("train", "validation"))
    shape = shapes.Shape.of_config(storage.read_json(weights / "config.json"))
    settings = {
        "profile": params.profile,
        "name": arguments.name,
        "model": cell.base.model,
        "bits": cell.base.bits,
        "dataset": cell.dataset,
        "rank": cell.rank,
        "seed": cell.seed,
        "alpha": loading.lora_alpha(recipe, cell.rank),
        "recipe": dataclasses.asdict(recipe),
        "rows": {"train": storage.sha256(prepared / "train.arrow"), "validation": storage.sha256(prepared / "validation.arrow")},
        "base": source.card(),
    }

    bill = environment.Bill()
    environment.settle(params)
    import torch

    torch.manual_seed(cell.seed)
    base = loading.load_base(weights, cell.base.bits, recipe.quantisation, loading.device())
    tuned = loading.add_lora(base, recipe, cell.rank)
    processes = loop.Processes()
    checkpoint = params.work / "checkpoints" / arguments.name / "state.pt"
    before = loop.heldout_loss(tuned, validation, recipe.micro_batch_tokens, recipe.path)
    plan = batches.steps(len(rows), recipe.batch_rows, recipe.epochs, recipe.max_steps, cell.seed)
    names = [cell.name for cell in params.cells]
    place = progress.place_in_grid(params.artifacts / "adapters", names, arguments.name, settings["recipe"])
    label = f"{place}: train {arguments.name}" if place else f"train {arguments.name}"
    if processes.rank == 0:
        print(", ".join(filter(None, [label, place.left(0) if place else ""])), file=sys.stderr)
    with progress.Progress(len(plan), label, "steps") as bar:
        stamps = [time.perf_counter()]

        def report(row):
            stamps.append(time.perf_counter())
            speed = row["tokens"] / (stamps[-1] - stamps[-2])
            logging.info("step %d loss %.4f, %.0f tokens/s", row["step"], row["loss"], speed)
            left = place.left(stamps[-1] - stamps[0]) if place else ""
            bar.advance(1, ", ".join(filter(None, [f"loss {row['loss']:.3f}", f"{speed:,.0f} tokens/s", left])))

        outcome = loop.finetune(tuned, rows, recipe, cell.seed, settings, checkpoint, report, processes, bar.start_at)
    after = loop.heldout_loss(tuned, validation, recipe.micro_batch_tokens, recipe.path)
    if processes.rank:
        return

    tokens = sum(row["tokens"] for row in outcome.curve)
    result = settings | {
        "schema": adapter_folder.SCHEMA,
        "trainable_parameters": shape.lora_parameters(cell.rank, recipe.lora.targets),
        "trainable_percent": shape.trainable_percent(cell.rank, recipe.lora.targets),
        "steps": len(outcome.curve),
        "tokens": {"all": tokens, "answer": sum(row["answer_tokens"] for row in outcome.curve)},
        "heldout_loss": {"before": before, "after": after, "rows": len(validation)},
        "loss": [row["loss"] for row in outcome.curve],
        "versions": environment.versions(),
    }
    with storage.folder(params.artifacts / "adapters" / arguments.name) as folder:
        adapter_folder.save(tuned, folder, source)
        storage.write_csv(folder / "curve.csv", outcome.curve, list(outcome.curve[0]))
        storage.write_text(folder / "README.md", adapter_folder.card(result, source.card()))
        storage.write_json(
            folder / "bill.json",
            bill.total(
                training_seconds=round(outcome.seconds, 3),
                tokens_per_second=round(tokens / outcome.seconds, 1),
                micro_batch_tokens=outcome.micro_batch_tokens,
                resumed_at_step=outcome.resumed_at,
                processes=processes.count,
            ),
        )
        storage.write_json(folder / "record.json", result)
    loop.forget(checkpoint)
    print(f"{arguments.name}: held-out loss {before:.3f} -> {after:.3f}, {len(outcome.curve)} steps, {outcome.seconds:.0f} s")


if __name__ == "__main__":
    command.run(__doc__, main, name="name of a cell, or experiment")
