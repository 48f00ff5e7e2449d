"""Pretrain the smoke profile's two tiny bases again, and say whether the shipped bytes came out.

    python -m stages.smoke_models
    python -m stages.smoke_models --device cuda --steps 200 --out work/smoke-models

No run needs it: the bases lie in maple/smoke/bases, pinned in sources.yaml. The same functions with these settings made
them on two cores of a CPU; docs/SMOKE.md says which, how long it took and what was compared. A seed decides every number,
so the same kind of processor and libraries should give the same bytes; another one rounds differently. `--steps` shortens
the run and gives a worse model.
"""

import argparse
import dataclasses
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from maple.config import catalogue, command
from maple.core import storage
from maple.core.errors import MapleError
from maple.core.progress import Progress


def main(params, arguments):
    import torch

    from maple.smoke import pretraining

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise MapleError("no GPU to pretrain on", why="torch sees none", do="leave --device out: a CPU will do")
    if not shutil.which("g++"):
        raise MapleError("no C++ compiler", why="torch.compile calls g++", do="install g++ (Debian: apt install g++)")
    # A process for each base, on one core: the sums, and so the bytes, do not depend on how many cores there are.
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(pretraining.RECIPES), mp_context=spawned) as pool:
        for told in pool.map(partial(make, arguments.device, arguments.steps, arguments.out), pretraining.RECIPES):
            print(told)


def make(device, steps, out, key):
    """Pretrain one base into out/key; what to tell of it."""
    import torch
    from torch.utils.data import DataLoader

    from maple.smoke import pretraining, tokeniser
    from maple.smoke.batches import Batches

    torch.set_num_threads(1)
    text, recipe, folder = tokeniser.make(), pretraining.RECIPES[key], out / key
    vocabulary, recipe = pretraining.vocabulary(text), dataclasses.replace(recipe, steps=steps or recipe.steps)
    start = time.monotonic()
    # The text of a step is written beside it, and depends on its number alone.
    loader = DataLoader(Batches(text, recipe.steps, recipe.rows), batch_size=None, num_workers=1)
    with Progress(recipe.steps, f"pretrain {key}", "steps") as bar:
        model = pretraining.pretrain(
            recipe, vocabulary, loader, device, lambda step, loss: bar.advance(100, f"loss {loss:.3f}")
        )
    pretraining.write(folder, model, text)
    tokens = recipe.steps * recipe.rows * pretraining.ROW_TOKENS
    said = f"{key}: {tokens:,} tokens in {time.monotonic() - start:.0f} s: {folder}"
    return f"{said}\n{compared(folder, catalogue.models()[key].stand_in.sha256)}"


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
        device={"choices": ("cpu", "cuda"), "default": "cpu", "help": "what to pretrain on (default: cpu)"},
        steps={"type": steps, "help": "steps for both bases (default: those of the shipped ones)"},
        out={"type": Path, "default": Path("work/smoke-models"), "help": "where the two folders go"},
    )
