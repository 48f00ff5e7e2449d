"""The plain way to answers: transformers' own forward pass and `generate`, one row at a time.

Slow, and right for every causal model that transformers knows: nothing of the model is replaced. `evaluation.path:
plain` takes it, so a new model can be asked on the first day; the record says so.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from maple.answering import encoding, forward
from maple.answering.generate import cut, end_tokens
from maple.answering.loglikelihood import Failed, OptionScore, Request, Usage, context_length, sequences
from maple.core.errors import MapleError


@torch.inference_mode()
def score(
    model: Any, tokeniser: Any, requests: Sequence[Request], done: Collection[int] = (), usage: Usage | None = None
) -> Iterator[dict[int, list[OptionScore]]]:
    """Yield {place of a request: scores of its options}, all but those in `done`. Raises Failed."""
    usage = usage or Usage()
    for index, options in enumerate(sequences(tokeniser, requests, context_length(model))):
        if index in done:
            continue
        found = []
        for option in options:
            tokens = torch.tensor([option.tokens], device=model.device)
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits[0, -option.answer :].float()
            answer = tokens[0, -option.answer :]
            logprobs = torch.log_softmax(logits, -1).gather(1, answer[:, None])[:, 0].tolist()
            greedy = bool((logits.argmax(-1) == answer).all())
            found.append(OptionScore(math.fsum(logprobs), option.answer, option.bytes, greedy))
            usage.asked += len(option.tokens) - 1
            usage.computed += len(option.tokens) - 1
        if not all(math.isfinite(option.logprob) for option in found):
            raise Failed(index, "its log-likelihood is not a number")
        yield {index: found}


@torch.inference_mode()
def generate_batches(
    model: Any,
    tokeniser: Any,
    prompts: Sequence[str],
    max_new_tokens: int,
    stop: Sequence[str],
    done: Collection[int] = (),
    usage: Usage | None = None,
) -> Iterator[dict[int, str]]:
    """Yield {place of a prompt: greedy text before the first stop string}, all but those in `done`. Raises Failed."""
    usage = usage or Usage()
    room = context_length(model) - max_new_tokens
    if room <= 0:
        raise MapleError(
            f"answers of {max_new_tokens} tokens leave no room for a prompt",
            why=f"the model's context is {room + max_new_tokens} tokens, prompt and answer together",
            do="lower max_new_tokens, or use a model with a longer context",
        )
    ends = sorted(end_tokens(model, tokeniser))
    settings = {
        "max_new_tokens": max_new_tokens,
        "do_sample": False,
        "eos_token_id": ends,
        "pad_token_id": ends[0],
        # transformers stops where a stop string is in the text; `cut` then says where the answer ends.
        **({"stop_strings": list(stop), "tokenizer": tokeniser} if stop else {}),
    }
    for index, prompt in enumerate(prompts):
        if index in done:
            continue
        tokens = torch.tensor([encoding.encode(tokeniser, prompt)[-room:]], device=model.device)
        if not tokens.numel():
            raise Failed(index, "its prompt has no tokens")
        with _without_its_own_settings(model):
            found = model.generate(tokens, attention_mask=torch.ones_like(tokens), **settings)
        usage.asked += found.shape[1]
        usage.computed += found.shape[1]
        yield {index: cut(tokeniser.decode(found[0, tokens.shape[1] :], skip_special_tokens=True), stop)}


@contextmanager
def _without_its_own_settings(model: Any) -> Iterator[None]:
    """What a checkpoint's generation_config.json asks for beside end tokens (a penalty for repetition, a least length)
    also acts on greedy answers, and transformers takes it for all that a call leaves at its default."""
    owners = [one for one in (model, forward.causal(model)) if hasattr(one, "generation_config")]
    own = [one.generation_config for one in owners]
    for one in owners:
        one.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for one, settings in zip(owners, own):
            one.generation_config = settings
