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
from maple.config.params import Evaluation
from maple.models.shapes import Shape
from maple.planning import fertility
from maple.planning.cell_cost import ASSUMED_MFU, Device

# Of max_new_tokens, what an answer takes where nothing was measured.
ASSUMED_WRITTEN = 0.5
# Share of the peak rate while answers are written one token at a time, some hundred answers together.
ASSUMED_WRITING_MFU = 0.1


@dataclass(frozen=True)
class Scoring:
    """One model's evaluation. `done`: its score folder is complete; `measured`: the hours are other models' of this
    grid.
    """

    name: str
    done: bool
    hours: float
    measured: bool


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


def work(evaluation: Evaluation, model: str, bits: int) -> float:
    """Tokens of one model's evaluation, each counted by how slowly it goes: passes over a token at the peak rate."""
    _, read, written = tokens(evaluation, model)
    return read / ASSUMED_MFU[bits] + written / ASSUMED_WRITING_MFU


def assumed_hours(evaluation: Evaluation, model: str, shape: Shape, bits: int, device: Device) -> float:
    peak = device.bf16_tflops * 1e12
    return shape.forward_flops * work(evaluation, model, bits) / peak / 3600


def hours_of(bills: Mapping[tuple[str, str], dict[str, Any]], base: str) -> float | None:
    """Median of what this grid's finished models on the same base took; None if there is none.

    Bills of a run that found answers stored already, killed before or scored again, say nothing and do not count.
    """
    found = [bill for (verb, name), bill in bills.items() if verb == "answer" and name.split(".")[0] == base]
    whole = [bill["seconds"] for bill in found if not any(task["reused"] for task in bill["tasks"].values())]
    return median(whole) / 3600 if whole else None
