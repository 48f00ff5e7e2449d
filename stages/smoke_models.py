"""Pretrain the smoke profile's two tiny bases again, and say whether the shipped bytes came out.

    python -m stages.smoke_models                                        # from random weights, on a GPU
    python -m stages.smoke_models --device cpu --start maple/smoke/bases # further steps of two bases, on a CPU

No run needs it: the bases lie in maple/smoke/bases, pinned in sources.yaml. docs/SMOKE.md says how those were made. A seed
decides every number, so the same processor and libraries should give the same bytes; another one rounds differently.
From random weights a CPU takes hours; `--steps` shortens the run and gives a worse model.
"""

import argparse
import dataclasses
import os
import time
from pathlib import Path

from maple.config import catalogue, command
from maple.core import storage
from maple.core.errors import MapleError
from maple.core.progress import Progress


def main(params, arguments):
    import torch
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM

    from maple.smoke import pretraining, tokeniser
    from maple.smoke.batches import Batches

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise MapleError("no GPU to pretrain on", why="torch sees none", do="use --device cpu, which takes hours")
    text = tokeniser.make()
    for key, recipe in pretraining.RECIPES.items():
        if arguments.start:
            recipe = dataclasses.replace(recipe, **pretraining.FURTHER)
            model = AutoModelForCausalLM.from_pretrained(arguments.start / key)
        else:
            model = pretraining.blank(recipe, text)
        recipe = dataclasses.replace(recipe, steps=arguments.steps or recipe.steps)
        start, folder = time.monotonic(), arguments.out / key
        # Each step's text depends on its number alone: how many processes write it changes nothing.
        loader = DataLoader(Batches(text, recipe.steps, recipe.rows), batch_size=None, num_workers=os.cpu_count() - 1)
        with Progress(recipe.steps, f"pretrain {key}", "steps") as bar:
            model = pretraining.pretrain(
                recipe, model, loader, arguments.device, lambda step, loss: bar.advance(50, f"loss {loss:.3f}")
            )
        pretraining.write(folder, model, text)
        tokens = recipe.steps * recipe.rows * pretraining.ROW_TOKENS
        print(f"{key}: {tokens:,} tokens in {time.monotonic() - start:.0f} s: {folder}")
        print(compared(folder, catalogue.models()[key].stand_in.sha256))


def compared(folder, pinned):
    """What a person should know of a base made here, beside the shipped one."""
    others = [name for name, known in pinned.items() if storage.sha256(folder / name) != known]
    if not others:
        return "the same bytes as the shipped base"
    return (
        f"not the shipped bytes: {', '.join(others)}\n"
        "  why: another processor, other libraries or --steps; sums round differently, or training was shorter\n"
        "  do:  keep the shipped base. Runs on this one may have other scores: use it only with its own sha256 in sources.yaml"
    )


def steps(text):
    """The type of --steps."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of steps, 1 or more")
    return int(text)


if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        device={"choices": ("cpu", "cuda"), "default": "cuda", "help": "what to pretrain on (default: cuda)"},
        start={"type": Path, "help": "folder with a base of each name to go on from (default: random weights)"},
        steps={"type": steps, "help": "steps for both bases (default: those of the shipped ones)"},
        out={"type": Path, "default": Path("work/smoke-models"), "help": "where the two folders go"},
    )
