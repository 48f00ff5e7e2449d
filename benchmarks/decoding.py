"""What one decoding step asks of the host: operations that a GPU would launch as kernels, and time in Python and torch.

    python benchmarks/decoding.py                   32 narrow layers on a CPU: a minute
    python benchmarks/decoding.py --device cuda     the same layers on a GPU, where a recorded step is replayed

The layers are so narrow that computing is next to nothing: what is left is what the host does for a layer of any width.
On a CPU the GPU's way through a layer (maple/answering/decoder_layer.py) is switched on beside the CPU's own; a replay
of recorded steps exists on a GPU only. Views, which launch nothing, do not count.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MistralConfig, MistralForCausalLM

from maple.answering import decoder_layer, generate
from maple.config import params
from maple.models import loading
from maple.smoke import tokeniser as smoke

LAYERS = 32
# Tokens written, few and many: their difference is steps alone. All of them see one block of written keys.
FEW, MANY = 3, 27
# Questions on each passage, as uneven as XQuAD's, on passages of a few words: attention to long ones is no host's time.
QUESTIONS = (5, 5, 5, 4, 4, 3, 2, 1)
WORDS = [f"{word} valley and {word} river" for word in ("a", "be", "far", "near", "low", "dry", "old", "new")]
# What allocates or names memory, and launches nothing.
NOT_LAUNCHED = ("empty", "detach", "alias", "_unsafe_view", "is_pinned", "_local_scalar_dense")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokeniser = smoke.make()
    prompts = [
        f"{WORDS[passage]} {WORDS[0]} {question}" for passage, n in enumerate(QUESTIONS) for question in range(n)
    ]
    print(f"{LAYERS} layers, {len(prompts)} answers, torch {torch.__version__}, {arguments.device}, one thread")
    print(f"{'':34} operations of a layer   host microseconds of a layer   ms of a step")
    for rank in (0, 8):
        for name, way in ways(arguments.device).items():
            with way:
                model = narrow(len(tokeniser), rank, arguments.device)
                write = lambda limit: written(model, tokeniser, prompts, limit)  # noqa: B023, E731
                count = (counted(write, MANY) - counted(write, FEW)) / (MANY - FEW)
                seconds = min(timed(write, MANY) - timed(write, FEW) for _ in range(arguments.rounds)) / (MANY - FEW)
            print(
                f"{f'adapter of rank {rank}' if rank else 'base':18} {name:15} {count / LAYERS:22.1f}"
                f" {1e6 * seconds / LAYERS:29.0f} {1e3 * seconds:14.1f}",
                flush=True,
            )


def ways(device: str) -> dict:
    """Contexts in which a layer is gone through."""
    if device != "cpu":
        return {"on the GPU": contextlib.nullcontext()}
    return {
        "as on a CPU": contextlib.nullcontext(),
        "as on a GPU": mock.patch.object(decoder_layer, "is_lean", lambda device: True),
    }


def narrow(vocabulary: int, rank: int, device: str):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = MistralForCausalLM(config).to(device, torch.bfloat16).eval()
    # No answer ends early.
    model.generation_config.eos_token_id = []
    return loading.make_trainable(model, params.load("paper").recipe, rank).eval() if rank else model


def written(model, tokeniser, prompts: list[str], limit: int) -> None:
    for _ in generate.generate_batches(model, tokeniser, prompts, limit, [], 1 << 16):
        pass


class Counting(TorchDispatchMode):
    launched = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        self.launched += not (function.is_view or name in NOT_LAUNCHED)
        return function(*args, **kwargs or {})


def counted(write, limit: int) -> int:
    with Counting() as counting:
        write(limit)
    return counting.launched


def timed(write, limit: int) -> float:
    start = time.process_time()
    write(limit)
    return time.process_time() - start


if __name__ == "__main__":
    main()
