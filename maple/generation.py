"""Greedy generation, the same text as one prompt at a time through transformers' generate."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch

from maple.scoring import Usage, context_length, encode


def end_tokens(model: Any, tokeniser: Any) -> set[int]:
    """Tokens that end a text: the model's generation settings and the tokeniser's own."""
    of_model = getattr(model.generation_config, "eos_token_id", None)
    found = set(of_model) if isinstance(of_model, list) else {of_model}
    return (found | {tokeniser.eos_token_id}) - {None}


def cut(text: str, stop: Sequence[str]) -> str:
    """`text` before the first of the stop strings.

    >>> cut("Paris\\nQ: Who", ["\\n", "Q:"])
    'Paris'
    """
    for word in stop:
        text = text.split(word)[0]
    return text


@torch.inference_mode()
def generate_batches(
    model: Any,
    tokeniser: Any,
    prompts: Sequence[str],
    max_new_tokens: int,
    stop: Sequence[str],
    batch_tokens: int,
    done: Collection[int] = (),
    usage: Usage | None = None,
) -> Iterator[dict[int, str]]:
    """Yield {place of a prompt: text} batch by batch, all but those in `done`."""
    usage = usage or Usage()
    ends = sorted(end_tokens(model, tokeniser))
    for index, prompt in enumerate(prompts):
        if index in done:
            continue
        tokens = encode(tokeniser, prompt)[-(context_length(model) - max_new_tokens) :]
        inputs = torch.tensor([tokens], device=model.device)
        found = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )[0, len(tokens) :]
        usage.asked += len(tokens) + len(found)
        usage.computed += len(tokens) + len(found)
        yield {index: cut(tokeniser.decode(found, skip_special_tokens=True), stop)}


def generate(
    model: Any, tokeniser: Any, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str], batch_tokens: int
) -> list[str]:
    """The greedy continuation of each prompt, cut before the first stop string."""
    found: dict[int, str] = {}
    for batch in generate_batches(model, tokeniser, prompts, max_new_tokens, stop, batch_tokens):
        found |= batch
    return [found[index] for index in range(len(prompts))]
