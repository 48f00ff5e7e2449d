"""The steps in which answers are written: one token more for every prompt.

A step reads and writes tensors that stay where they are, so a GPU records it once (a CUDA graph) and replays it until
the tensors are others; then the host starts one thing a step instead of a thousand. And nobody waits for a step's
tokens before the next one is begun: they come to the host while it runs.
"""

import logging
from collections.abc import Callable, Sequence

import torch

from maple.answering import decoder_layer, forward
from maple.answering.decode_attention import Decoding

# In place of a token where the logits are not numbers.
NOT_A_NUMBER = -1


def behind(device: torch.device) -> int:
    """How many steps are begun before the first one's tokens are looked at: on a CPU there is nothing to wait for. A fixed
    number, so that the same prompts stand together in every run."""
    return 1 if decoder_layer.is_lean(device) else 0


def can_be_recorded(model: forward.Ready) -> bool:
    """On a GPU, where a pass is products of plain matrices: what quantised layers do on the host is not known here."""
    lean = decoder_layer.is_lean(model.device)
    return lean and model.layers is not None and all(layer.is_joined for layer in model.layers)


class Found:
    """A step's tokens on their way to the host."""

    def __init__(self, tokens: torch.Tensor):
        self._tokens, self._arrived = tokens.to("cpu", non_blocking=True, copy=True), None
        if tokens.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def tokens(self) -> list[int]:
        """One for each prompt; NOT_A_NUMBER where there is none."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tokens.tolist()


class Writing:
    """`tokens`: each prompt's last, which the first step reads."""

    def __init__(self, model: forward.Ready, decoding: Decoding, tokens: Sequence[int]):
        self._model, self._decoding = model, decoding
        self._tokens = torch.tensor(tokens, device=model.device)
        self._found = torch.empty_like(self._tokens)
        self._replay: Callable[[], None] | None = None
        self._records = can_be_recorded(model)

    def next(self) -> Found:
        alike = self._decoding.begin()
        if not alike:
            self._replay = None
        elif self._replay is None and self._records:
            # The last step was the same and was computed, so all that it needs has been made.
            self._replay = recorded(self._step)
            self._records = self._replay is not None
        (self._replay or self._step)()
        return Found(self._found)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these prompts only."""
        self._replay = None
        self._decoding.keep(places)
        self._tokens = self._tokens[torch.tensor(places, device=self._tokens.device)]
        self._found = torch.empty_like(self._tokens)

    def _step(self) -> None:
        self._decoding.see()
        states = forward.states(self._model, self._tokens, self._decoding.depths, self._decoding)
        begin = 0
        for logits in forward.logits(self._model, states):
            values, best = logits.max(-1)
            here = slice(begin, begin := begin + len(best))
            self._tokens[here] = best
            self._found[here] = best.masked_fill(~values.isfinite(), NOT_A_NUMBER)
        self._decoding.advance()


def recorded(step: Callable[[], None]) -> Callable[[], None] | None:
    """`step` as a CUDA graph, to be replayed; None where it cannot be recorded. Recording computes nothing."""
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        logging.info("steps are not recorded: %s", error)
        return None
    return graph.replay
