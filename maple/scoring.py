"""Log-likelihoods of answers after a prompt, equal to lm-evaluation-harness's to 1e-3 in fp32.

As the harness does it: prompt and answer are tokenised together and cut where the prompt alone would end, spaces at
the end of the prompt belong to the answer, an empty prompt stands for the beginning-of-text token, and what
exceeds the model's context is cut off from the left.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

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


def causal(model: Any) -> Any:
    """The transformers model inside a PEFT model (its adapter's layers included), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def context_length(model: Any) -> int:
    """The most tokens that a prompt and its answer can have."""
    return getattr(model.config, "max_position_embeddings", None) or 2048


def first_token(tokeniser: Any) -> int:
    """What an empty prompt is scored after: beginning of text, or end of text where a tokeniser has only that."""
    return tokeniser.eos_token_id if tokeniser.bos_token_id is None else tokeniser.bos_token_id


def encode(tokeniser: Any, text: str) -> list[int]:
    """Tokens with what the tokeniser puts before a text, but for one that begins with it already."""
    begins = text.startswith(tokeniser.decode([first_token(tokeniser)]))
    return tokeniser.encode(text, add_special_tokens=not begins)


def pair(tokeniser: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Tokens of the prompt and of the answer.

        pair(tokeniser, "Yes or no? ", "No")        # as "Yes or no?" and " No"
    """
    if not context:
        answer = tokeniser.encode(continuation, add_special_tokens=False)
        first = first_token(tokeniser)
        return ([first], answer) if answer[:1] != [first] else (answer[:1], answer[1:])
    stripped = context.rstrip()
    whole = encode(tokeniser, context + continuation)
    # A prompt of nothing but white space leaves what the tokeniser puts before a text.
    start = len(encode(tokeniser, stripped))
    return whole[:start], whole[start:]


def sequences(tokeniser: Any, requests: Sequence[Request], limit: int) -> list[list[Sequenced]]:
    """The options of each request as tokens, at most `limit` + 1 of them (the last is never read). Raises Failed."""
    found = []
    for index, (context, continuations) in enumerate(requests):
        options = []
        for continuation in continuations:
            before, answer = pair(tokeniser, context, continuation)
            if not before or not answer:
                raise Failed(index, f"the answer {continuation!r} has no tokens of its own after the prompt")
            if len(answer) > limit:
                raise Failed(index, f"an answer has {len(answer)} tokens, the model's context {limit}")
            size = len(continuation.removeprefix(" ").encode("utf-8"))
            options.append(Sequenced(tuple((before + answer)[-(limit + 1) :]), len(answer), size))
        found.append(options)
    return found


@torch.inference_mode()
def score(
    model: Any, tokeniser: Any, requests: Sequence[Request], batch_tokens: int, done: Collection[int] = (), usage: Usage | None = None
) -> Iterator[dict[int, list[OptionScore]]]:
    """Yield {place of a request: scores of its options} batch by batch, all but those in `done`. Raises Failed."""
    usage = usage or Usage()
    for index, options in enumerate(sequences(tokeniser, requests, context_length(model))):
        if index in done:
            continue
        scores = []
        for option in options:
            tokens = torch.tensor([option.tokens], device=model.device)
            logits = model(tokens[:, :-1]).logits[0, -option.answer :].float()
            answer = tokens[0, -option.answer :]
            logprob = torch.log_softmax(logits, -1).gather(1, answer[:, None]).sum().item()
            if not math.isfinite(logprob):
                raise Failed(index, f"its log-likelihood is {logprob}")
            scores.append(OptionScore(logprob, option.answer, option.bytes, bool((logits.argmax(-1) == answer).all())))
            usage.asked += len(option.tokens) - 1
            usage.computed += len(option.tokens) - 1
        yield {index: scores}


def loglikelihoods(model: Any, tokeniser: Any, requests: Sequence[Request], batch_tokens: int) -> list[list[OptionScore]]:
    """The scores of each request's options, in the order of the requests; `batch_tokens` per forward pass."""
    found: dict[int, list[OptionScore]] = {}
    for batch in score(model, tokeniser, requests, batch_tokens):
        found |= batch
    return [found[index] for index in range(len(requests))]
