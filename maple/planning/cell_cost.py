"""What a cell costs before it runs: steps, tokens, memory, time, money. From shapes alone: no weights, no torch.

Memory counts tensors, as torch's allocator sees them. tests/planning/test_cell_cost.py compares it with the peaks of
real training passes on a CPU, at every bit width, within 15 %; a GPU adds its context, which GPU_CONTEXT_GB stands
for.
"""

import csv
import dataclasses
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maple.config import catalogue
from maple.config.methods import METHODS
from maple.config.params import Recipe
from maple.models.shapes import Shape
from maple.training.limits import HEAD_LOGITS, HEAD_LOGITS_ON_GPU, QUERIES

TABLES = Path(__file__).parents[2] / "benchmarks"

# Bits per quantised weight: NF4 in blocks of 64 with a float32 scale, or with scales in 8 bits and a float32 per 256.
BITS_NF4 = {False: 4 + 32 / 64, True: 4 + 8 / 64 + 32 / (64 * 256)}
# Bytes of a logit: in bfloat16, and as a probability in float32.
HEAD_BYTES = 2 + 4

# -- Assumed, until measured (benchmarks/throughput.csv) or known (prepared statistics) --
# Share of the peak rate of bfloat16 products that useful work reaches: dequantising costs at 4 bits, more at 8.
ASSUMED_MFU = {16: 0.40, 4: 0.33, 8: 0.22}
# Tokens of a row as a share of prepare.max_length, and the share of them that are answer.
ASSUMED_FILL, ASSUMED_ANSWER_SHARE = 0.35, 0.55
# CUDA's context and the allocator's gaps.
GPU_CONTEXT_GB = 1.0


@dataclass(frozen=True)
class Device:
    """One line of benchmarks/devices.csv."""

    name: str
    memory_gb: float
    bf16_tflops: float
    fp32_tflops: float
    price_per_hour: float


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    weights: float
    adapter: float
    gradients: float
    optimiser: float
    activations: float

    @property
    def peak(self) -> float:
        return self.weights + self.adapter + self.gradients + self.optimiser + self.activations


@dataclass(frozen=True)
class RowCounts:
    """A training set as far as it is known: rows, mean tokens per row, and the share that carries loss."""

    rows: int
    tokens_per_row: float
    answer_share: float
    assumed: bool

    @classmethod
    def of(cls, rows: Any) -> "RowCounts":
        """A tokenised set (batches.RowCounts) as its memory goes: attention's with the length of the row that a token
        is in.
        """
        lengths = rows.lengths
        mean = float((lengths**2).sum() / lengths.sum())
        return cls(len(rows), mean, rows.answer_tokens(list(range(len(rows)))) / lengths.sum(), assumed=False)


def weight_bytes(shape: Shape, bits: int, double_4bit: bool = True) -> float:
    """Frozen weights: the block linears at the bit width, embedding, head and norms in bfloat16."""
    per_weight = {4: BITS_NF4[double_4bit] / 8, 8: 1.0, 16: 2.0}[bits]
    return shape.block_parameters * per_weight + 2 * (shape.embedding_parameters + shape.norm_parameters)


def memory(shape: Shape, bits: int, rank: int, recipe: Recipe, rows: RowCounts, on_gpu: bool) -> Memory:
    """Peak of a training step whose forward pass is filled up to recipe.micro_batch_tokens."""
    if recipe.unpack_4bit and bits == 4:
        bits = 16
    tokens = max(recipe.micro_batch_tokens, rows.tokens_per_row)
    whole = recipe.method == "full"
    trained = 4 * shape.trainable_parameters(recipe, rank)
    block = activation_bytes(shape, bits, rank, recipe, rows.tokens_per_row, on_gpu) * tokens
    # The backward pass of the widest linear: its weight unpacked, gradients in and out, their copies in `wide`, and
    # dropout's mask and what it leaves.
    wide = 2 if recipe.path == "fused_bfloat16" else 4
    widest = max(shape.linears.values(), key=sum)
    copies = 2 * 2 + 2 * wide * (wide > 2) + (wide + 1) * (recipe.lora.dropout > 0)
    working = 2 * widest[0] * widest[1] * (bits < 16) + copies * max(widest) * tokens
    answers = tokens * rows.answer_share
    head = 2 * 2 * shape.hidden * answers + HEAD_BYTES * min(
        HEAD_LOGITS_ON_GPU if on_gpu else HEAD_LOGITS, shape.vocabulary * answers
    )
    if recipe.method == "dora":
        # The matrix that the low-rank pair makes, its sum with the weights, and their norm, in float32.
        working += 3 * 4 * widest[0] * widest[1]
    if recipe.path == "plain":
        # All rows' logits at once, with their float32 copy and its logarithms.
        head = (HEAD_BYTES + 4) * shape.vocabulary * answers
    if recipe.gradient_checkpointing:
        # Each block keeps its input; one at a time makes the rest again, after the head is done.
        activations = 2 * shape.layers * shape.hidden * tokens + max(block + working, head)
    else:
        activations = shape.layers * block + max(working, head)
    return Memory(
        # Trained weights are in float32, and a pass multiplies with a copy of them in bfloat16.
        weights=1.5 * trained if whole else weight_bytes(shape, bits, recipe.quantisation.double_4bit),
        adapter=0 if whole else trained,
        gradients=trained,
        optimiser=2 * trained,
        activations=activations if whole else max(activations, trained),
    )


def activation_bytes(shape: Shape, bits: int, rank: int, recipe: Recipe, row_tokens: float, on_gpu: bool) -> float:
    """Bytes that one block keeps per token for its backward pass."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    wide = 2 if recipe.path == "fused_bfloat16" else 4
    rounded = math.ceil(row_tokens / 64) * 64
    padded = (row_tokens + 32) / row_tokens
    attention = 2 * padded * (queries + 2 * keys)
    seen = rounded if rounded <= QUERIES else (rounded + QUERIES) / 2
    attention += (
        2 * padded * queries + 4 * shape.heads if on_gpu or recipe.path == "plain" else 2 * shape.heads * padded * seen
    )
    targets = recipe.lora.targets if METHODS[recipe.method].ranked else ()
    low_rank = wide * rank * len(targets)
    if recipe.path in ("stock", "plain"):
        # PEFT keeps each target's input in float32 and what dropout multiplied it with; transformers each norm's
        # input, and gate, silu(gate) and up.
        entry = 4 + (recipe.lora.dropout > 0) * (1 if on_gpu else 4)
        kept = entry * sum(shape.linears[name][0] for name in targets)
        kept += 2 * 4 * shape.hidden + 6 * shape.intermediate
        if recipe.method == "dora":
            # The outputs of the base and of the low-rank pair, in float32.
            kept += sum(8 * shape.linears[name][1] for name in targets)
        if recipe.method == "ia3":
            kept += 4 * (2 * keys + shape.intermediate)
        if bits == 8:
            # bitsandbytes holds on to each linear's input.
            kept += 2 * (2 * shape.hidden + queries + shape.intermediate)
    else:
        # Both norms' inputs and outputs, the output of attention, gate, up, and their product.
        kept = 2 * (4 * shape.hidden + queries + 3 * shape.intermediate)
    return kept + attention + low_rank


def saved_bytes(shape: Shape, recipe: Recipe, rank: int) -> float:
    """What training leaves on disk: float32 adapters (PiSSA's as a LoRA of twice the rank), a whole model in bfloat16."""
    each = {"full": 2, "pissa": 8}.get(recipe.method, 4)
    return each * shape.trainable_parameters(recipe, rank)


def steps(rows: int, recipe: Recipe) -> int:
    """Optimiser steps of a cell, as maple/training/batches.py makes them: each epoch's last step may be short.

    Ten rows, four a step, in two epochs are six steps.
    """
    wanted = round(rows * recipe.epochs)
    whole, part = divmod(wanted, rows)
    count = whole * math.ceil(rows / recipe.batch_rows) + math.ceil(part / recipe.batch_rows)
    return min(count, recipe.max_steps or count)


def tokens(rows: RowCounts, recipe: Recipe) -> float:
    """Tokens that a cell is trained on."""
    seen = rows.rows * recipe.epochs
    return rows.tokens_per_row * (seen if recipe.max_steps is None else min(recipe.max_steps * recipe.batch_rows, seen))


def training_flops(shape: Shape, rank: int, recipe: Recipe, rows: RowCounts) -> tuple[float, float]:
    """FLOPs of training per token, in bfloat16 and in float32.

    Frozen matrices forward and towards the input (the head for answer tokens only), attention over half the row;
    what is trained with both gradients; the forward pass once more with gradient checkpointing. Virtual tokens before
    a row are tokens like its own.
    """
    block = shape.block_parameters + shape.layers * shape.heads * shape.head_dim * rows.tokens_per_row
    head = shape.vocabulary * shape.hidden * rows.answer_share
    again = 2 if recipe.gradient_checkpointing else 0
    if recipe.method == "full":
        return (6 + again) * block + 6 * head, 0.0
    longer = 1 + (recipe.method == "prompt") * recipe.virtual_tokens / rows.tokens_per_row
    frozen = (4 + again) * block * longer + 4 * head
    if not METHODS[recipe.method].ranked:
        return frozen, 0.0
    low_rank = (6 + again) * shape.lora_parameters(rank, recipe.lora.targets)
    return (frozen + low_rank, 0.0) if recipe.path == "fused_bfloat16" else (frozen, low_rank)


def _table(path: Path) -> list[dict[str, str]]:
    return _table_at(path, path.stat().st_mtime_ns)


@cache
def _table_at(path: Path, changed: int) -> list[dict[str, str]]:
    """The rows of a table, read once: a plan asks for them at every model."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def devices() -> list[Device]:
    """The smallest memory first."""
    numbers = [field for field in Device.__annotations__ if field != "name"]
    found = [Device(row["device"], *(float(row[key]) for key in numbers)) for row in _table(TABLES / "devices.csv")]
    return sorted(found, key=lambda device: device.memory_gb)


def device_named(gpu: str) -> Device | None:
    """The line of benchmarks/devices.csv that a driver's name for a GPU belongs to.

    >>> device_named("NVIDIA A100-SXM4-80GB").name, device_named("NVIDIA GeForce GTX 970")
    ('A100-80GB', None)
    """
    words = lambda device: device.name.replace("-", " ").replace("GB", "").split()  # noqa: E731
    return next((device for device in devices() if all(word in gpu for word in words(device))), None)


@dataclass(frozen=True)
class Speed:
    """Tokens per second of training, and where that comes from: `this grid`, `measured`, `scaled` or `assumed`.

    `scaled`: measured on another card, model type, path or with the other choice of checkpointing, and brought over by
    the FLOPs of a token and the peaks of the cards.
    """

    tokens_per_second: float
    origin: str

    def hours(self, tokens: float) -> float:
        return tokens / self.tokens_per_second / 3600

    @property
    def range(self) -> tuple[float, float]:
        """Factors between which the hours are expected to lie."""
        return RANGES[self.origin]


# Assumed: how far hours may be off, as factors. A short measurement moved by a quarter from run to run; nobody has
# checked what is scaled or assumed.
RANGES = {"this grid": (0.9, 1.1), "measured": (0.75, 1.25), "scaled": (0.6, 1.6), "assumed": (0.5, 2.0)}


def speeds(work: str, bits: int) -> list[dict[str, str]]:
    """Rows of benchmarks/throughput.csv; `work` is train, read or write."""
    return [row for row in _table(TABLES / "throughput.csv") if row["work"] == work and int(row["bits"]) == bits]


def speed(device: Device, model: str, shape: Shape, bits: int, rank: int, recipe: Recipe, rows: RowCounts) -> Speed:
    """From the nearest row of benchmarks/throughput.csv at this bit width; without one, from an assumed share of the
    peak.
    """
    half, single = training_flops(shape, rank, recipe, rows)
    seconds = half / (device.bf16_tflops * 1e12) + single / (device.fp32_tflops * 1e12)
    wanted = (device.name, model, recipe.path, recipe.gradient_checkpointing)
    known = speeds("train", bits)
    cards = {one.name: one for one in devices()}
    shapes = {name: Shape(**source.shape) for name, source in catalogue.models().items() if source.shape} | {
        model: shape
    }
    known = [
        row
        for row in known
        if row["device"] in cards and row["shape"] in shapes and (row["device"] == "CPU") == (device.name == "CPU")
    ]

    def distance(row: dict[str, str]) -> tuple:
        have = (row["device"], row["shape"], row["path"], row["checkpointing"] == "yes")
        return (*(a != b for a, b in zip(have, wanted)), abs(math.log2(int(row["rank"]) / rank)))

    nearest = min(known, key=distance, default=None)
    if nearest is None:
        return Speed(ASSUMED_MFU[bits] / seconds, "assumed")
    found = float(nearest["tokens_per_second"])
    if not any(distance(nearest)[:-1]):
        return Speed(found, "measured")
    card = cards[nearest["device"]]
    its = dataclasses.replace(recipe, path=nearest["path"], gradient_checkpointing=nearest["checkpointing"] == "yes")
    half, single = training_flops(shapes[nearest["shape"]], rank, its, rows)
    its_seconds = half / (card.bf16_tflops * 1e12) + single / (card.fp32_tflops * 1e12)
    return Speed(found * its_seconds / seconds, "scaled")
