"""Greedy generation: the same text as one prompt at a time through transformers' generate, many at a time."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from maple.answering import encoding, forward, prefix_tree, writing
from maple.answering.decode_attention import Decoding
from maple.answering.loglikelihood import Failed, Usage, context_length
from maple.answering.prefix_tree import Group, Row
from maple.answering.tree_attention import Prefix
from maple.core.errors import MapleError

# Prompts are read `batch_tokens` at a time, and answered together in batches of this many times as many tokens: an
# answer takes one small forward pass per token, so it pays to write many answers at once.
ANSWERED = 8
# Bytes that their keys and values may take, those of what will be written too: without a bound, Llama-2-7B's for
# 8 x 32,768 tokens would be 137 GB.
KEPT = 16 << 30
# Dropping finished answers moves memory, so it waits until no more than this share is still being written.
DROP = 0.75


@dataclass(frozen=True)
class Ending:
    """When an answer ends: at one of the `tokens`, before one of the `stop` strings, or after `limit` tokens."""

    tokeniser: Any
    tokens: frozenset[int]
    stop: tuple[str, ...]
    limit: int
    # Whether a stop string may end with a token: to decode a thousand answers at every step would take longer than
    # the step.
    _known: dict[int, bool] = field(default_factory=dict)

    def text(self, written: list[int]) -> str | None:
        """The answer, or None while it goes on."""
        over = written[-1] in self.tokens or len(written) >= self.limit
        if not over and not self._may_stop(written[-1]):
            return None
        text = self.tokeniser.decode(written, skip_special_tokens=True)
        return cut(text, self.stop) if over or any(word in text for word in self.stop) else None

    def _may_stop(self, token: int) -> bool:
        """Also for a token that alone is no whole character. One that is missed here costs time, and no text: an
        answer is cut before its first stop string whenever it ends."""
        if not self.stop:
            return False
        if token not in self._known:
            piece = self.tokeniser.decode([token])
            self._known[token] = not piece.strip() or "\ufffd" in piece or any(word[-1] in piece for word in self.stop)
        return self._known[token]


def end_tokens(model: Any, tokeniser: Any) -> frozenset[int]:
    """Tokens that end a text: those of the model's generation settings, and the tokeniser's."""
    of_model = forward.causal(model).generation_config.eos_token_id
    return frozenset(of_model if isinstance(of_model, list) else [of_model]) | {tokeniser.eos_token_id} - {None}


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
    """Yield {place of a prompt: text} batch by batch, all but those in `done`. Raises Failed.

    A prompt longer than the context less `max_new_tokens` is cut off from the left. As in scoring, batches are
    planned over all prompts.
    """
    forward.check(model)
    context = context_length(model)
    if max_new_tokens >= context:
        raise MapleError(
            f"answers of {max_new_tokens} tokens leave no room for a prompt",
            why=f"the model's context is {context} tokens, prompt and answer together",
            do="lower max_new_tokens, or use a model with a longer context",
        )
    usage = usage or Usage()
    ending = Ending(tokeniser, end_tokens(model, tokeniser), tuple(stop), max_new_tokens)
    encoded = [
        tokens[max_new_tokens - context :]
        for (tokens,) in encoding.encode_groups(tokeniser, [[prompt] for prompt in prompts])
    ]
    for index, tokens in enumerate(encoded):
        if not tokens:
            raise Failed(index, "its prompt has no tokens")
    ready = forward.Ready.of(model)
    prefixes = forward.Prefixes(ready, read=False)
    # One more group is one more pass for each of its tokens.
    for group in _plan(encoded, forward.balance(model), prefix_tree.PASS * max_new_tokens):
        prefixes.keep_only(group)
        for rows in group.batches(_answered(model, batch_tokens), written=max_new_tokens):
            if any(index not in done for row in rows for _, index in row.marks):
                for texts in _answer_or_halve(ready, rows, prefixes.of(group)[0], batch_tokens, encoded, ending, usage):
                    yield {index: text for index, text in sorted(texts.items()) if index not in done}


def _answered(model: Any, batch_tokens: int) -> int:
    """Tokens, read and written, of prompts that are answered together. It depends on the model only, not on what a machine has free."""
    config = forward.causal(model).config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * width * forward.causal(model).dtype.itemsize
    return min(ANSWERED * batch_tokens, KEPT // per_token)


def _plan(encoded: list[list[int]], balance: float, overhead: float) -> list[Group]:
    """Groups whose rows' marks say where prompts end, all but their last token, which is the first to be decoded."""
    marks = [[(len(tokens) - 2, index)] if len(tokens) > 1 else [] for index, tokens in enumerate(encoded)]
    groups = prefix_tree.plan([np.array(tokens[:-1], dtype=np.int64) for tokens in encoded], marks, balance, overhead)
    # Prompts of one token leave an empty row behind.
    groups[0].rows = [row for row in groups[0].rows if len(row)]
    groups[0].rows += [_nothing(index) for index, mark in enumerate(marks) if not mark]
    for group in groups:
        if group.prefix is not None:
            group.rows += [_nothing(index) for _, index in group.prefix.marks]
    return groups


def _nothing(index: int) -> Row:
    """For a prompt that ends with its group's prefix: a row of one token, which the prompt does not see."""
    return Row(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1, np.int64), [(-1, index)])


def _answer_or_halve(model, rows, prefix, batch_tokens, encoded, ending, usage) -> Iterator[dict[int, str]]:
    """One batch of answers; two smaller ones where a GPU's memory does not hold it."""
    try:
        texts = _answer(model, rows, prefix, batch_tokens, encoded, ending, usage)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
        texts = None
    if texts is not None:
        yield texts
        return
    torch.cuda.empty_cache()
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        yield from _answer_or_halve(model, half, prefix, batch_tokens, encoded, ending, usage)


def _answer(
    model: forward.Ready,
    rows: list[Row],
    prefix: Prefix,
    batch_tokens: int,
    encoded: list[list[int]],
    ending: Ending,
    usage: Usage,
) -> dict[int, str]:
    """{place of a prompt: text} for the prompts that end in the rows (longest row first)."""
    leaves = [(number, place) for number, row in enumerate(rows) for place, _ in row.marks]
    alive = [index for row in rows for _, index in row.marks]
    depths = [len(encoded[index]) - 1 for index in alive]
    kept = _read(model, rows, prefix, batch_tokens, usage)
    decoding = Decoding(rows, prefix, kept, leaves, depths, model.device, steady=writing.can_be_recorded(model))
    usage.asked += sum(len(encoded[index]) for index in alive)
    steps = writing.Writing(model, decoding, [encoded[index][-1] for index in alive])
    written: dict[int, list[int]] = {index: [] for index in alive}
    texts: dict[int, str] = {}
    waiting: deque[writing.Found] = deque()
    behind, begun = writing.behind(model.device), 0

    def note(found: writing.Found) -> None:
        for index, token in zip(alive, found.tokens()):
            if index not in texts:
                if token == writing.NOT_A_NUMBER:
                    raise Failed(index, "the model's output for it is not a number")
                usage.asked += 1
                written[index].append(token)
                text = ending.text(written[index])
                if text is not None:
                    texts[index] = text

    while len(texts) < len(written):
        if begun < ending.limit:
            waiting.append(steps.next())
            usage.computed += len(alive)
            begun += 1
            if len(waiting) <= behind:
                continue
        note(waiting.popleft())
        if len(alive) - sum(index in texts for index in alive) <= DROP * len(alive):
            while waiting:
                note(waiting.popleft())
            going = [place for place, index in enumerate(alive) if index not in texts]
            if going:
                steps.keep(going)
                alive = [alive[place] for place in going]
    return texts


def _read(model: forward.Ready, rows: list[Row], prefix: Prefix, batch_tokens: int, usage: Usage) -> list[Prefix]:
    """Keys and values of the rows, batch by batch."""
    kept = []
    for part in Group(None, None, rows).batches(batch_tokens):
        kept += forward.hidden(model, part, prefix, keep=True, read=False)[1].kept
        usage.computed += sum(map(len, part))
    return kept


def generate(
    model: Any, tokeniser: Any, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str], batch_tokens: int
) -> list[str]:
    """The greedy continuation of each prompt, cut before the first stop string."""
    found: dict[int, str] = {}
    for batch in generate_batches(model, tokeniser, prompts, max_new_tokens, stop, batch_tokens):
        found |= batch
    return [found[index] for index in range(len(prompts))]
