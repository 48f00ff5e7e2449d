"""Whether low-rank products in bfloat16 change what is learned: held-out losses by seed, beside those in float32.

    python benchmarks/low_rank.py                 a cell of the finished smoke run, 5 seeds, 3 epochs: 2 minutes
    python benchmarks/low_rank.py --seeds 10 --rank 32

Both paths start from the same adapter and see the same rows in the same order, so their difference is the products'
rounding; the spread over seeds is what another order of rows and another start would have done.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch

from maple.config import catalogue, params
from maple.models import loading
from maple.training import batches, loop

PATHS = ("fused", "fused_bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--bits", type=int, default=16)
    parser.add_argument("--dataset", default="bactrian-x-22")
    arguments = parser.parse_args()
    smoke = params.load("smoke")
    found: dict[str, list[float]] = {path: [] for path in PATHS}
    for seed in range(arguments.seeds):
        for path in PATHS:
            before, after = trained(smoke, arguments, seed, path)
            found[path].append(after)
            print(f"seed {seed} {path:15} held-out loss {before:.4f} -> {after:.4f}", flush=True)
    differences = [b - a for a, b in zip(*found.values())]
    mean, spread = statistics.mean, statistics.stdev
    for path, losses in found.items():
        print(f"{path:15} {mean(losses):.4f}, deviation over seeds {spread(losses):.4f}")
    print(f"difference      {mean(differences):+.4f}, deviation over seeds {spread(differences):.4f}")


def trained(smoke, arguments, seed: int, path: str) -> tuple[float, float]:
    """Held-out loss (nats per answer token) before and after finetuning Mistral's stand-in on a training set."""
    model = "mistral-7b"
    tokens = smoke.artifacts / "prepared" / arguments.dataset / "tokens" / model
    rows, heldout = (batches.Rows(tokens / f"{part}.arrow") for part in ("train", "heldout"))
    recipe = dataclasses.replace(smoke.recipe, path=path, epochs=arguments.epochs, max_steps=None)
    weights = catalogue.models()[model].folder(smoke.artifacts / "sources")
    torch.manual_seed(seed)
    base = loading.load_base(weights, arguments.bits, recipe.quantisation, loading.device())
    tuned = loading.make_trainable(base, recipe, arguments.rank)
    before = loop.heldout_loss(tuned, heldout, recipe.micro_batch_tokens, path)
    with tempfile.TemporaryDirectory() as folder:
        loop.finetune(tuned, rows, recipe, seed, {}, Path(folder) / "state.pt")
    return before, loop.heldout_loss(tuned, heldout, recipe.micro_batch_tokens, path)


if __name__ == "__main__":
    main()
