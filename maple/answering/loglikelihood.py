"""Log-likelihoods of answers after a prompt, equal to lm-evaluation-harness's to 1e-3 in fp32.

As the harness does it, prompt and answer are split as maple/answering/encoding.py says, and what exceeds the model's
context is cut off from the left. What prompts share is computed once (maple/answering/prefix_tree.py).
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from maple.answering import encoding, forward, prefix_tree
from maple.answering.prefix_tree import Group, Row
from maple.answering.tree_attention import Prefix

Request = tuple[str, Sequence[str]]


@dataclass(frozen=True)
class OptionScore:
    """`logprob` in nats, summed over `tokens` tokens; `bytes` of the answer in UTF-8 without its one leading space
    (both are what it can be normalised by); `greedy`: each of its tokens was the likeliest one."""

    logprob: float
    tokens: int
    bytes: int
    greedy: bool


class Failed(Exception):
    """A request that could not be answered: its place in the list, and why."""

    def __init__(self, index: int, why: str):
        super().__init__(index, why)
        self.index, self.why = index, why


@dataclass
class Usage:
    """Tokens of all prompts and answers as they were asked, and those that the model had to compute."""

    asked: int = 0
    computed: int = 0


@dataclass(frozen=True)
class Sequenced:
    """An option as tokens: the model reads `tokens[:-1]`, and the last `answer` of `tokens` are scored."""

    tokens: tuple[int, ...]
    answer: int
    bytes: int


def context_length(model: Any) -> int:
    """The most tokens that a prompt and its answer can have, beside the virtual ones of prompt and prefix tuning."""
    virtual = getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", 0)
    return (getattr(model.config, "max_position_embeddings", None) or 2048) - virtual


def sequences(tokeniser: Any, requests: Sequence[Request], limit: int) -> list[list[Sequenced]]:
    """The options of each request as tokens, at most `limit` + 1 of them (the last is never read). Raises Failed."""
    found = []
    for index, ((_, answers), encoded) in enumerate(zip(requests, encoding.pairs(tokeniser, requests), strict=True)):
        options = []
        for text, (before, answer) in zip(answers, encoded, strict=True):
            if not answer:
                raise Failed(index, f"the answer {text!r} has no tokens of its own after the prompt")
            if len(answer) > limit:
                raise Failed(index, f"an answer has {len(answer)} tokens, the model's context {limit}")
            size = len(text.removeprefix(" ").encode("utf-8"))
            options.append(Sequenced(tuple((before + answer)[-(limit + 1) :]), len(answer), size))
        found.append(options)
    return found


@torch.inference_mode()
def score(
    model: Any,
    tokeniser: Any,
    requests: Sequence[Request],
    batch_tokens: int,
    done: Collection[int] = (),
    usage: Usage | None = None,
) -> Iterator[dict[int, list[OptionScore]]]:
    """Yield {place of a request: scores of its options} batch by batch, all but those in `done`. Raises Failed.

    Batches are planned over all requests, `done` or not, so one that was interrupted is computed as it would have
    been: at 8 bits a token's result depends on its neighbours.
    """
    forward.check(model)
    usage = usage or Usage()
    by_request = sequences(tokeniser, requests, context_length(model))
    options = [option for found in by_request for option in found]
    owner = [index for index, found in enumerate(by_request) for _ in found]
    first = np.cumsum([0] + [len(found) for found in by_request])
    marks = []
    for place, option in enumerate(options):
        read = len(option.tokens) - 1
        marks.append([(depth, (place, depth, option.tokens[depth + 1])) for depth in range(read - option.answer, read)])
        usage.asked += read if owner[place] not in done else 0
    plan = prefix_tree.plan(
        [np.array(option.tokens[:-1]) for option in options], marks, forward.balance(model), prefix_tree.PASS
    )

    found: list[dict[int, tuple[float, bool]]] = [{} for _ in options]
    missing = [sum(option.answer for option in request) for request in by_request]
    ready = forward.Ready.of(model)
    for tokens, read, states in _passes(ready, plan, batch_tokens, lambda payload: owner[payload[0]] not in done):
        usage.computed += tokens
        touched = set()
        for (place, depth, _), value in zip(read, _read(ready, states, [token for _, _, token in read])):
            found[place][depth] = value
            missing[owner[place]] -= 1
            touched.add(owner[place])
        finished = sorted(index for index in touched if not missing[index] and index not in done)
        scores = {
            index: [_total(options[i], found[i]) for i in range(first[index], first[index + 1])] for index in finished
        }
        wrong = [index for index in finished if not all(math.isfinite(option.logprob) for option in scores[index])]
        if wrong:
            raise Failed(_culprit(model, tokeniser, requests, wrong), "its log-likelihood is not a number")
        yield scores


def _passes(
    model: forward.Ready, plan: list[Group], batch_tokens: int, wanted: Callable
) -> Iterator[tuple[int, list, torch.Tensor]]:
    """(tokens computed, payloads of the marks, hidden states there) of each forward pass in which a mark is wanted."""
    prefixes = forward.Prefixes(model)
    for group in plan:
        prefixes.keep_only(group)
        if group.prefix is not None and any(wanted(payload) for _, payload in group.prefix.marks):
            yield len(group.prefix), _payloads([group.prefix]), prefixes.of(group)[1]
        for rows in group.batches(batch_tokens):
            if any(wanted(payload) for payload in _payloads(rows)):
                yield from _halved(model, rows, prefixes.of(group)[0])


def _halved(model: forward.Ready, rows: list[Row], prefix: Prefix) -> Iterator[tuple[int, list, torch.Tensor]]:
    """One forward pass; two smaller ones where a GPU's memory does not hold it."""
    try:
        states, _ = forward.hidden(model, rows, prefix)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
        states = None
    if states is not None:
        yield sum(map(len, rows)), _payloads(rows), states
        return
    torch.cuda.empty_cache()
    yield from _halved(model, rows[: len(rows) // 2], prefix)
    yield from _halved(model, rows[len(rows) // 2 :], prefix)


def _payloads(rows: list[Row]) -> list:
    return [payload for row in rows for _, payload in row.marks]


def _read(model: forward.Ready, states: torch.Tensor, tokens: list[int]) -> list[tuple[float, bool]]:
    """Per state and token: its log-probability, and whether it is the likeliest."""
    found = []
    targets = torch.tensor(tokens, device=states.device)
    for part in forward.logits(model, states):
        target = targets[len(found) : len(found) + len(part)]
        of_target = part.gather(1, target[:, None])[:, 0]
        highest, likeliest = part.max(-1)
        logsum = part.sub_(highest[:, None]).exp_().sum(-1).log_().add_(highest)
        found += zip((of_target - logsum).tolist(), (likeliest == target).tolist())
    return found


def _total(option: Sequenced, found: dict[int, tuple[float, bool]]) -> OptionScore:
    logprobs, greedy = zip(*(found[depth] for depth in sorted(found)))
    return OptionScore(math.fsum(logprobs), option.answer, option.bytes, all(greedy))


def _culprit(model: Any, tokeniser: Any, requests: Sequence[Request], wrong: list[int]) -> int:
    """Which of some requests with scores that are not numbers has one alone: it spoils those computed beside it."""
    for index in wrong if len(requests) > 1 else []:
        try:
            list(score(model, tokeniser, [requests[index]], 1))
        except Failed:
            return index
    return wrong[0]


def loglikelihoods(
    model: Any, tokeniser: Any, requests: Sequence[Request], batch_tokens: int
) -> list[list[OptionScore]]:
    """The scores of each request's options, in the order of the requests; `batch_tokens` per forward pass."""
    found: dict[int, list[OptionScore]] = {}
    for batch in score(model, tokeniser, requests, batch_tokens):
        found |= batch
    return [found[index] for index in range(len(requests))]
