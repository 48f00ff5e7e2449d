"""What one model's answers will cost: examples, tokens and hours, before any data is there.

The examples are upstream's own counts. The tokens of each are measured where real rows were at hand
(maple/planning/fertility.py), else assumed with this project's sharing of prefixes in mind; what finished models of
the same grid took replaces both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from maple import tasks
from maple.config import catalogue
from maple.config.params import Evaluation
from maple.models.shapes import Shape
from maple.planning import auto, cell_cost, fertility
from maple.planning.cell_cost import ASSUMED_MFU, Device, Speed

# Of max_new_tokens, what an answer takes where nothing was measured.
ASSUMED_WRITTEN = 0.5
# Share of the peak rate while answers are written one token at a time, some hundred answers together.
ASSUMED_WRITING_MFU = 0.1


@dataclass(frozen=True)
class Scoring:
    """One model's evaluation. `done`: its answers are there; `pace` is None where the hours are other models' of this
    grid, or smoke's.
    """

    name: str
    done: bool
    hours: float
    range: tuple[float, float]
    measured: bool
    pace: "Pace | None" = None
    # Of the hours, those before the first question.
    start_hours: float = 0.0


def tokens(evaluation: Evaluation, model: str) -> tuple[int, float, float]:
    """(examples, tokens read, tokens written) of one model on all tasks and languages.

    >>> from maple.config import params
    >>> tokens(params.load("paper").evaluation, "mistral-7b")[0]
    151045
    """
    examples, read, written = 0, 0, 0.0
    for name, options in evaluation.tasks.items():
        task = tasks.get(name)
        count = len(options.languages) * min(task.size, options.limit or task.size)
        examples += count
        read += count * (fertility.tokens(model, name, "read") or task.tokens)
        if options.scoring == "generation":
            answer = fertility.tokens(model, name, "written") or ASSUMED_WRITTEN * options.max_new_tokens
            written += count * min(answer, options.max_new_tokens)
    return examples, read, written


@dataclass(frozen=True)
class Pace:
    """How fast one model reads prompts and writes answers."""

    reading: Speed
    writing: Speed

    def hours(self, read: float, written: float) -> float:
        return self.reading.hours(read) + self.writing.hours(written)

    def range(self, read: float, written: float) -> tuple[float, float]:
        """Hours between which it is expected to take."""
        parts = ((self.reading, read), (self.writing, written))
        return tuple(sum(speed.hours(tokens) * speed.range[end] for speed, tokens in parts) for end in (0, 1))


def pace(evaluation: Evaluation, shape: Shape, bits: int, device: Device) -> Pace:
    """From the rows of benchmarks/throughput.csv at this width; without one, from an assumed share of the peak.

    4-bit weights that are unpacked once are read at the speed of 16 bits.
    """
    settled = auto.evaluation(evaluation, shape, bits, device.memory_gb * 1e9)
    held = 16 if bits == 4 and settled.unpack_4bit is True else bits
    return Pace(
        _speed("read", shape, held, device, ASSUMED_MFU[bits]),
        _speed("write", shape, held, device, ASSUMED_WRITING_MFU),
    )


def _speed(work: str, shape: Shape, bits: int, device: Device, assumed_share: float) -> Speed:
    """The slowest of what was measured on this card, else on another: tasks differ, and a plan should not be short."""
    cards = {card.name: card for card in cell_cost.devices()}
    sources = catalogue.models()
    rows = [row for row in cell_cost.speeds(work, bits) if row["device"] in cards and row["shape"] in sources]
    own = [row for row in rows if row["device"] == device.name]

    def brought(row: dict[str, str]) -> float:
        there = Shape(**sources[row["shape"]].shape)
        peaks = device.bf16_tflops / cards[row["device"]].bf16_tflops
        return float(row["tokens_per_second"]) * peaks * there.forward_flops / shape.forward_flops

    if not rows:
        return Speed(assumed_share * device.bf16_tflops * 1e12 / shape.forward_flops, "assumed")
    same = bool(own) and all(Shape(**sources[row["shape"]].shape) == shape for row in own)
    return Speed(min(map(brought, own or rows)), "measured" if same else "scaled")


def hours_of(bills: Mapping[tuple[str, str], dict[str, Any]], base: str) -> float | None:
    """Median of what this grid's finished models on the same base took; None if there is none.

    Bills of a run that found answers stored already, killed before or scored again, say nothing and do not count.
    """
    found = [bill for (verb, name), bill in bills.items() if verb == "answer" and name.split(".")[0] == base]
    whole = [bill["seconds"] for bill in found if not any(task["reused"] for task in bill["tasks"].values())]
    return median(whole) / 3600 if whole else None
