"""Finetuning: packed rows, loss on the answer tokens only, resumable, the same bytes twice on a CPU.

The loss of an optimiser step is the mean negative log-likelihood (nats) over the answer tokens of its rows. But for
what dropout draws, it does not depend on how the rows are packed, on the micro-batch, or on the number of processes:
each forward pass adds its sum divided by the step's total.
"""

import contextlib
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from maple.config.params import Recipe
from maple.core.errors import MapleError
from maple.models.architectures import PACKED
from maple.training import batches, checkpoint, fused_blocks, output_head, row_attention
from maple.training.batches import Packed, Rows


@dataclass
class Outcome:
    """`curve` has one row per step: step, loss (nats per answer token), learning_rate, answer_tokens, tokens."""

    curve: list[dict[str, float]] = field(default_factory=list)
    resumed_at: int = 0
    micro_batch_tokens: int = 0
    seconds: float = 0.0


def answer_loss(model, packed: Packed, path: str = "fused") -> torch.Tensor:
    """Summed loss (nats) over the answer tokens of one packed forward pass.

    Rows see only themselves: positions restart at each, and attention runs row by row. The output head, the largest
    matrix of a small model, is applied to the A predicting positions only. `path` is recipe.path: params.yaml.
    """
    if path == "plain":
        return _plain_loss(model, packed)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids, positions, predicts, labels = (
        torch.from_numpy(part).to(model.device)
        for part in (packed.input_ids, packed.position_ids, packed.predicts, packed.labels)
    )
    layout = row_attention.RowLayout.of(packed.lengths, model.device)
    if path != "stock":
        wide = torch.promote_types(torch.float32, causal.dtype) if path == "fused" else causal.dtype
        hidden = fused_blocks.hidden_states(causal, ids, positions, layout, wide, predicts)
    else:
        if causal.config.model_type not in PACKED:
            raise MapleError(
                f"a {causal.config.model_type} model cannot be finetuned",
                why=f"packed rows were compared with transformers' loss for {', '.join(PACKED)} only",
                do="add it to PACKED in maple/models/architectures.py if the test of its name passes with it",
            )
        # Not set back afterwards: gradient checkpointing runs the blocks again during the backward pass.
        if causal.config._attn_implementation != row_attention.NAME:
            causal.set_attn_implementation(row_attention.NAME)
        hidden = causal.model(
            input_ids=ids[None], position_ids=positions[None], use_cache=False, layout=layout
        ).last_hidden_state[0, predicts]
    return output_head.loss(hidden, causal.lm_head.weight, labels)


def _plain_loss(model, packed: Packed) -> torch.Tensor:
    """`answer_loss` by the model's own forward pass, one row at a time: for any model, and for what is trained beside
    or instead of its layers. Weights that are trained themselves are in float32 and multiplied in bfloat16.
    """
    whole = not hasattr(model, "peft_config")
    ids, labels = (torch.from_numpy(part).to(model.device) for part in (packed.input_ids, packed.labels))
    ends = np.cumsum(packed.lengths)
    answers = np.diff(np.searchsorted(packed.predicts, ends), prepend=0)
    total = torch.zeros((), device=model.device)
    # One context for all rows, which keeps the weights' bfloat16 copies between them.
    with torch.autocast(model.device.type, torch.bfloat16, enabled=whole):
        for row, label in zip(ids.split(packed.lengths.tolist()), labels.split(answers.tolist())):
            # Counted from the end, since virtual tokens may stand before a row.
            logits = model(input_ids=row[None], use_cache=False, logits_to_keep=len(label) + 1).logits[0, :-1]
            total = total + F.cross_entropy(logits.float(), label, reduction="sum")
    return total


@torch.no_grad()
def heldout_loss(model, rows: Rows, micro_batch_tokens: int, path: str = "fused") -> float:
    """Mean loss (nats per answer token) over held-out rows, without dropout.

    Only dropout is switched off, and the model is left in training mode: on a CPU, a forward pass in evaluation
    mode (in which `from_pretrained` returns it) makes bitsandbytes repack the 4-bit weights, and training after
    that gets wrong gradients without an error.
    """
    model.train()
    indices = list(range(len(rows)))
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    with without_dropout(model):
        for group in batches.pack({i: int(rows.lengths[i]) for i in indices}, micro_batch_tokens):
            total += answer_loss(model, batches.join(rows, group), path)
    return total.item() / rows.answer_tokens(indices)


@contextlib.contextmanager
def without_dropout(model) -> Iterator[None]:
    dropouts = [module for module in model.modules() if isinstance(module, torch.nn.Dropout) and module.training]
    for module in dropouts:
        module.eval()
    try:
        yield
    finally:
        for module in dropouts:
            module.train()


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate of a step (counted from 0): linear warm-up, then constant, linear to 0, or cosine to 0."""
    warmup = math.ceil(recipe.warmup * steps)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    factor = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[recipe.schedule]
    return recipe.learning_rate * factor


def finetune(
    model,
    rows: Rows,
    recipe: Recipe,
    seed: int,
    settings: dict[str, Any],
    checkpoint_path: Path,
    report: Callable[[dict[str, float]], None] = lambda row: None,
    processes: "Processes | None" = None,
    resumed: Callable[[int], None] = lambda steps: None,
) -> Outcome:
    """Train the model's trainable parameters; `report` is called after each step with that step's row of the curve.

    `resumed` is called before the first step with the number of steps that an earlier run took. A checkpoint is there
    when this returns, so that nothing is lost of a run that is stopped before its record stands.

    `settings` identify the run: a checkpoint of other settings is refused. Raises MapleError on divergence, and
    when SIGINT or SIGTERM arrives (exit code 130 or 143), after saving a checkpoint.
    """
    processes = processes or Processes()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = _optimiser(recipe, list(parameters.values()))
    _ready(model, recipe)
    plan = batches.steps(len(rows), recipe.batch_rows, recipe.epochs, recipe.max_steps, seed)
    outcome = _resume(checkpoint.load(checkpoint_path, settings), recipe, parameters, optimiser)
    resumed(outcome.resumed_at)
    trend = Trend()
    for row in outcome.curve:
        trend.add(row["loss"])
    with _signals() as received:
        for step in range(outcome.resumed_at, len(plan)):
            started = time.perf_counter()
            rate = learning_rate(recipe, step, len(plan))
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = _step(
                model, rows, plan[step], optimiser, parameters, recipe, outcome, seed * 1_000_003 + step, processes
            )
            outcome.seconds += time.perf_counter() - started
            trend.add(loss)
            _check_divergence(loss, trend, recipe, step, rows, plan[step])
            outcome.curve.append(
                {
                    "step": step + 1,
                    "loss": loss,
                    "learning_rate": rate,
                    "answer_tokens": rows.answer_tokens(plan[step]),
                    "tokens": int(rows.lengths[plan[step]].sum()),
                }
            )
            report(outcome.curve[-1])
            number = processes.largest(received[0] if received else 0)
            due = (step + 1) % recipe.checkpoint_steps == 0 or step + 1 == len(plan)
            if (number or due) and processes.rank == 0:
                checkpoint.save(checkpoint_path, settings, _state(outcome, parameters, optimiser))
            if number:
                raise MapleError(
                    f"training stopped after step {step + 1} of {len(plan)}",
                    why=f"{signal.Signals(number).name} was received",
                    do="run the same command again; it goes on from the checkpoint",
                    code=128 + number,
                )
    return outcome


def _ready(model, recipe: Recipe) -> None:
    """The model in training mode, with gradient checkpointing if asked for."""
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    _refuse_packed(model)


def _state(outcome: Outcome, parameters: dict[str, torch.nn.Parameter], optimiser) -> dict[str, Any]:
    """All that the next step depends on; what `_resume` takes back."""
    return {
        "adapter": {name: p.detach() for name, p in parameters.items()},
        "optimiser": optimiser.state_dict(),
        "curve": outcome.curve,
        "seconds": outcome.seconds,
    }


def _resume(
    state: dict[str, Any] | None, recipe: Recipe, parameters: dict[str, torch.nn.Parameter], optimiser
) -> Outcome:
    """What an earlier run reached, put back into parameters and optimiser; an empty outcome where there is none."""
    outcome = Outcome(micro_batch_tokens=recipe.micro_batch_tokens)
    if state:
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(state["adapter"][name])
        optimiser.load_state_dict(state["optimiser"])
        outcome.curve, outcome.seconds = state["curve"], state["seconds"]
        outcome.resumed_at = len(outcome.curve)
    return outcome


def _step(model, rows, indices, optimiser, parameters, recipe, outcome, seed, processes) -> float:
    """One optimiser step; returns its loss. Out of memory halves the micro-batch and does the step again."""
    total = rows.answer_tokens(indices)
    while True:
        optimiser.zero_grad(set_to_none=True)
        torch.manual_seed(seed + 7_919 * processes.rank)
        groups = batches.pack({i: int(rows.lengths[i]) for i in indices}, outcome.micro_batch_tokens)
        # Added up where the model is: to read a number off a GPU is to wait for it.
        loss = torch.zeros((), dtype=torch.float64, device=model.device)
        try:
            for group in groups[processes.rank :: processes.count]:
                part = answer_loss(model, batches.join(rows, group), recipe.path) / total
                part.backward()
                loss += part.detach()
            break
        except torch.OutOfMemoryError as error:
            longest = int(rows.lengths[indices].max())
            if outcome.micro_batch_tokens <= longest or processes.count > 1:
                raise MapleError(
                    f"out of GPU memory with {outcome.micro_batch_tokens} tokens per forward pass",
                    why=f"the longest row of the step has {longest} tokens",
                    do="set recipe.gradient_checkpointing: true, or lower prepare.max_length",
                ) from error
            outcome.micro_batch_tokens = max(outcome.micro_batch_tokens // 2, longest)
            halved = f"micro-batch halved to {outcome.micro_batch_tokens} tokens"
            print(f"out of memory: {halved}; still {recipe.batch_rows} rows a step")
            torch.cuda.empty_cache()
    processes.add_up(list(parameters.values()), loss)
    torch.nn.utils.clip_grad_norm_(parameters.values(), recipe.max_grad_norm)
    optimiser.step()
    return loss.item()


class Processes:
    """The data-parallel processes of an `accelerate launch`; one process when there is no launcher."""

    def __init__(self) -> None:
        from os import environ

        self.count, self.rank = int(environ.get("WORLD_SIZE", 1)), int(environ.get("RANK", 0))
        if self.count > 1:
            from accelerate import PartialState

            self._state = PartialState(cpu=not torch.cuda.is_available())

    def add_up(self, parameters: list[torch.nn.Parameter], loss: torch.Tensor) -> None:
        """Sum the gradients and the loss over all processes, in place. A process that had no rows adds zero."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)
        torch.distributed.all_reduce(loss)

    def largest(self, number: int) -> int:
        """The largest that any process has, so that all stop after the same step for a signal that reached one."""
        if self.count == 1:
            return number
        found = torch.tensor(number, device=self._state.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found)


def _optimiser(recipe: Recipe, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if recipe.optimiser == "paged_adamw":
        if not torch.cuda.is_available():
            raise MapleError(
                "paged_adamw needs a GPU",
                why="its state is paged between GPU and host memory",
                do="set recipe.optimiser: adamw",
            )
        from bitsandbytes.optim import PagedAdamW32bit

        return PagedAdamW32bit(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


@dataclass
class Trend:
    """Exponential mean of the loss over about ten steps, and the lowest it has been."""

    smoothed: float | None = None
    lowest: float | None = None

    def add(self, loss: float) -> None:
        self.smoothed = loss if self.smoothed is None else 0.9 * self.smoothed + 0.1 * loss
        self.lowest = self.smoothed if self.lowest is None else min(self.lowest, self.smoothed)


def _refuse_packed(model) -> None:
    """4-bit weights that an evaluation pass repacked for the CPU give wrong gradients; nothing else would notice."""
    for name, module in model.named_modules():
        if fused_blocks.repacked(module.__dict__.get("_parameters", {}).get("weight")):
            raise MapleError(
                f"{name} cannot be trained on",
                why="an evaluation pass has repacked its 4-bit weights",
                do="load the base anew before training",
            )


def _check_divergence(loss: float, trend: Trend, recipe: Recipe, step: int, rows: Rows, indices: list[int]) -> None:
    if math.isfinite(loss) and trend.smoothed <= trend.lowest + recipe.divergence_bound:
        return
    names = ", ".join(map(rows.name, indices))
    raise MapleError(
        f"training diverged at step {step + 1}: loss {loss:.3g}",
        why=f"smoothed loss {trend.smoothed:.3g} against a lowest of {trend.lowest:.3g}; rows of the step: {names}",
        do=f"lower recipe.learning_rate (now {recipe.learning_rate:g}) or raise recipe.warmup, and look at those rows",
    )


def forget(checkpoint_path: Path) -> None:
    """Remove a finished run's checkpoint: its record stands now."""
    shutil.rmtree(checkpoint_path.parent, ignore_errors=True)


@contextlib.contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """SIGINT and SIGTERM are noted, so that the running step can end and be saved."""
    received: list[signal.Signals] = []
    before = {
        number: signal.signal(number, lambda n, frame: received.append(signal.Signals(n)))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
