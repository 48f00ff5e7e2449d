"""Finetune one cell of the grid, or the experiment.

python -m stages.train --name mistral-7b-8bit.alpaca.r8.s42
python -m stages.train --name experiment
"""

import contextlib
import logging
import sys
import time

from maple.config import bills, catalogue, command, environment
from maple.core import storage
from maple.core.progress import Progress
from maple.models.shapes import Shape
from maple.planning import auto, memory
from maple.planning.cell_cost import RowCounts
from maple.planning.place import place_in_grid


def main(params, arguments):
    memory.check_address_space()
    from maple.models import loading
    from maple.training import adapter_folder, batches, loop, run

    name = arguments.name
    cell, asked = params.cell_of(name)
    source = catalogue.models()[cell.base.model]
    weights = source.folder(params.artifacts / "sources")
    tokens = params.artifacts / "prepared" / cell.dataset / "tokens" / cell.base.model
    settings = run.settings_of(name, cell, asked, tokens, source.card(), params.profile)
    checkpoint = params.work / "checkpoints" / name / "state.pt"

    bill = bills.Bill()
    environment.settle(params)
    shape = Shape.of_config(storage.read_json(weights / "config.json"))
    rows = RowCounts.of(batches.Rows(tokens / "train.arrow"))
    recipe = auto.recipe(asked, shape, cell.base.bits, cell.rank, rows, loading.memory_bytes())
    trained = run.train(settings, cell, recipe, weights, tokens, checkpoint, watching(params, name, settings["recipe"]))
    if trained.processes.rank:
        return
    outcome, record = trained.outcome, trained.record
    with storage.folder(params.artifacts / "adapters" / name) as folder:
        adapter_folder.save(trained.model, folder, source, trained.start)
        storage.write_csv(folder / "curve.csv", outcome.curve, list(outcome.curve[0]))
        storage.write_json(folder / "record.json", record)
    spent = bill.total(
        training_seconds=round(outcome.seconds, 3),
        tokens_per_second=round(record["tokens"]["all"] / outcome.seconds, 1),
        micro_batch_tokens=outcome.micro_batch_tokens,
        gradient_checkpointing=recipe.gradient_checkpointing,
        unpack_4bit=recipe.unpack_4bit,
        resumed_at_step=outcome.resumed_at,
        processes=trained.processes.count,
    )
    bills.write(params, "train", name, spent)
    loop.forget(checkpoint)
    before, after = (record["heldout_loss"][when] for when in ("before", "after"))
    print(f"{name}: held-out loss {before:.3f} -> {after:.3f}, {len(outcome.curve)} steps, {outcome.seconds:.0f} s")


def watching(params, name, recipe):
    """What a person sees while a cell trains: its place in the grid, loss, speed and the time left."""
    from maple.training.run import Watch

    @contextlib.contextmanager
    def watch(steps, processes):
        names = [cell.name for cell in params.cells]
        place = place_in_grid(params.artifacts / "adapters", bills.known(params), names, name, recipe)
        label = f"{place}: train {name}" if place else f"train {name}"
        if processes.rank == 0:
            print(", ".join(filter(None, [label, place.left(0) if place else ""])), file=sys.stderr)
        stamps = [time.perf_counter()]
        with Progress(steps, label, "steps") as bar:

            def report(row):
                stamps.append(time.perf_counter())
                speed = row["tokens"] / (stamps[-1] - stamps[-2])
                logging.info("step %d loss %.4f, %.0f tokens/s", row["step"], row["loss"], speed)
                left = place.left(stamps[-1] - stamps[0]) if place else ""
                bar.advance(1, ", ".join(filter(None, [f"loss {row['loss']:.3f}", f"{speed:,.0f} tokens/s", left])))

            yield Watch(report, bar.start_at)

    return watch


if __name__ == "__main__":
    command.run(__doc__, main, name="name of a cell, or experiment")
