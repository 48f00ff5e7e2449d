"""`auto` settings: the largest passes that fit a card, by the estimate of maple/planning/cell_cost.py.

They decide how fast a run is, not what it gives: packing rows otherwise moves sums by rounding only, and at 8 bits,
where a token's answer depends on its neighbours, batches of questions stay at one fixed size. What was chosen stands
in the bill. Out of memory still halves a pass.
"""

import dataclasses
import itertools
from pathlib import Path

from maple.config.params import Evaluation, Recipe
from maple.core import storage
from maple.models.shapes import Shape
from maple.planning import cell_cost
from maple.planning.cell_cost import RowCounts

# Of a card's memory, what may be planned with. The estimate was 0.93 to 1.03 of the peak in 13 runs on an H100, and the
# allocator leaves gaps.
USABLE = 0.88
# Tokens of a pass that are tried, the largest first. More than a step has gains nothing.
PASSES = (65536, 49152, 32768, 24576, 16384, 12288, 8192, 6144, 4096, 3072, 2048, 1024)
# From this many tokens on, a pass is large enough for a card to be busy.
LARGE = 8192
# On a CPU a larger pass only leaves the cache.
CPU_TRAINING, CPU_ANSWERS = 2048, 4096
# Of every model on every card at 8 bits, so that the same questions stand together everywhere.
ANSWERS_AT_8_BITS = 32768
# Bytes that answering needs besides weights: keys and values of prompts being answered (maple/answering/generate.py),
# and in float32 the logits of a pass.
ANSWERING = 18e9


def recipe(given: Recipe, shape: Shape, bits: int, rank: int, rows: RowCounts, memory_bytes: float | None) -> Recipe:
    """`given` with a number for each `auto`; `memory_bytes` of the card, None on a CPU.

    Without checkpointing first, if it is left open: it costs a forward pass more. The smallest pass where none fits.
    """
    if "auto" not in (given.micro_batch_tokens, given.gradient_checkpointing, given.unpack_4bit):
        return given
    passes = PASSES if given.micro_batch_tokens == "auto" else (given.micro_batch_tokens,)
    checkpointing = (False, True) if given.gradient_checkpointing == "auto" else (given.gradient_checkpointing,)
    unpacking = (bits == 4, False) if given.unpack_4bit == "auto" else (given.unpack_4bit,)
    if memory_bytes is None:
        passes = (CPU_TRAINING,) if given.micro_batch_tokens == "auto" else passes
        return dataclasses.replace(
            given,
            micro_batch_tokens=passes[0],
            gradient_checkpointing=checkpointing[0],
            unpack_4bit=unpacking[-1],
        )
    # A step's rows, and a half more: rows are of unlike length.
    step = 1.5 * given.batch_rows * rows.tokens_per_row
    passes = [size for size in passes if size <= step] or passes[-1:]
    room = USABLE * memory_bytes - cell_cost.GPU_CONTEXT_GB * 1e9
    for again, unpacked in itertools.product(checkpointing, unpacking):
        last = (again, unpacked) == (checkpointing[-1], unpacking[-1])
        for size in passes:
            found = dataclasses.replace(
                given, micro_batch_tokens=size, gradient_checkpointing=again, unpack_4bit=unpacked
            )
            # A small pass is slower than a large one with checkpointing, or with weights that each pass unpacks.
            if last or size >= min(LARGE, passes[0]):
                if cell_cost.memory(shape, bits, rank, found, rows, on_gpu=True).peak <= room:
                    return found
    return found


def asked(given: Evaluation, weights: Path, bits: int) -> Evaluation:
    """`evaluation` for the model in a folder on this machine; torch is loaded only to ask for the card's memory."""
    if "auto" not in (given.batch_tokens, given.unpack_4bit):
        return given
    from maple.models import loading

    shape = Shape.of_config(storage.read_json(weights / "config.json"))
    return evaluation(given, shape, bits, loading.memory_bytes())


def evaluation(given: Evaluation, shape: Shape, bits: int, memory_bytes: float | None) -> Evaluation:
    """`given` with a number for `auto` batch tokens; `bits` are those that the model is asked on."""
    if "auto" not in (given.batch_tokens, given.unpack_4bit):
        return given
    passes = PASSES if given.batch_tokens == "auto" else (given.batch_tokens,)
    unpacking = (bits == 4, False) if given.unpack_4bit == "auto" else (given.unpack_4bit,)
    if memory_bytes is None or bits == 8:
        fixed = CPU_ANSWERS if memory_bytes is None else ANSWERS_AT_8_BITS
        tokens = fixed if given.batch_tokens == "auto" else given.batch_tokens
        return dataclasses.replace(given, batch_tokens=tokens, unpack_4bit=unpacking[-1])
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    # Of one block at a time, in bfloat16: its input and norm, queries, keys and values, gate, up and their product.
    per_token = 2 * (4 * shape.hidden + 2 * queries + 4 * keys + 3 * shape.intermediate)
    for unpacked in unpacking:
        weights = cell_cost.weight_bytes(shape, 16 if unpacked else bits)
        room = USABLE * memory_bytes - cell_cost.GPU_CONTEXT_GB * 1e9 - weights - ANSWERING
        fits = [size for size in passes if size * per_token <= room]
        if fits and fits[0] >= min(LARGE, passes[0]):
            break
    return dataclasses.replace(given, batch_tokens=fits[0] if fits else passes[-1], unpack_4bit=unpacked)
