"""A forward pass over rows of maple/answering/prefix_tree.py: no padding in the layers, shared prefixes once, logits
where they are read.

All rows of a batch stand end to end in one sequence for every layer but attention
(maple/answering/tree_attention.py). This works through transformers' own interface for attention functions, so the
layers, an adapter in them and quantised weights are what they always are; a model's sliding window is respected
because the window arrives with each call.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

from maple.answering import decoder_layer
from maple.answering.prefix_tree import Group, Row
from maple.answering.tree_attention import Prefix, TreeLayout
from maple.core.errors import MapleError
from maple.models.architectures import SHARED

NAME = "maple_packed"
# How many logits are made at a time: 64 MB of them in float32 on a GPU, and on a CPU as many as stay in its cache.
LOGITS, LOGITS_ON_CPU = 1 << 24, 1 << 20
# But those of at least this many positions: for fewer, the product with the output head is slow.
POSITIONS = 256


def causal(model: Any) -> Any:
    """The transformers model inside a PEFT model (its adapter's layers included), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass(frozen=True)
class Ready:
    """A model with its adapter as it is now, ready for many passes. `layers` is None where transformers' own are taken."""

    causal: Any
    layers: list[decoder_layer.Layer] | None

    @classmethod
    def of(cls, model: Any) -> "Ready":
        found = causal(model)
        if not all(map(decoder_layer.known, found.model.layers)):
            return cls(found, None)
        lean = decoder_layer.is_lean(found.device)
        return cls(found, [decoder_layer.Layer(layer, lean) for layer in found.model.layers])

    @property
    def device(self) -> torch.device:
        return self.causal.device


def check(model: Any) -> None:
    """Raises MapleError for a model whose log-likelihoods might come out wrong here without a sign of it."""
    config = causal(model).config
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise MapleError(
            "a model with virtual tokens cannot be asked by evaluation.path: shared",
            why="they stand before every prompt, and only the model's own forward pass puts them there",
            do="set evaluation.path: plain, which reads one row at a time",
        )
    if config.model_type not in SHARED:
        raise MapleError(
            f"a model of type {config.model_type} cannot be asked by evaluation.path: shared",
            why=f"attention is replaced, and only {', '.join(SHARED)} are known to give then what transformers gives",
            do="set evaluation.path: plain, which is slow and replaces nothing; docs/EXTENDING.md says how a type is compared",
        )
    rotary = causal(model).model.rotary_emb.rope_type
    for kind in rotary.values() if isinstance(rotary, dict) else [rotary]:
        if "dynamic" in kind or kind == "longrope":
            raise MapleError(
                f"a model with {kind} positions cannot be asked by evaluation.path: shared",
                why="they depend on the longest text of a forward pass, so a score would depend on its neighbours",
                do="set evaluation.path: plain, which reads one row at a time",
            )
    if getattr(config, "final_logit_softcapping", None) is not None:
        raise MapleError(
            f"a {config.model_type} model that caps its logits cannot be asked by evaluation.path: shared",
            why="logits are computed from the output head alone",
            do="set evaluation.path: plain, which takes the model's own logits",
        )


def balance(model: Any) -> float:
    """How many keys a token attends to when its attention costs as much as its matrix products (for trie.plan)."""
    return 6.0 * model.config.hidden_size


@contextlib.contextmanager
def attention(model: Any) -> Iterator[None]:
    """Inside, the layers of a transformers model call the `layout` that is passed to its forward pass for attention."""
    config = model.config
    usual = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual


def _attend(module, query, key, value, attention_mask, scaling=None, sliding_window=None, layout=None, **_):
    return layout.attend(module.layer_idx, query, key, value, scaling, sliding_window).unsqueeze(0), None


AttentionInterface.register(NAME, _attend)


def hidden(
    model: Ready, rows: Sequence[Row], prefix: Prefix, keep: bool = False, read: bool = True
) -> tuple[torch.Tensor, TreeLayout]:
    """Last hidden states at the rows' marks, in their order: (marks, width), none unless `read`; and the layout with
    what it kept."""
    layout = TreeLayout(rows, prefix, model.device, keep)
    starts = np.cumsum([0] + [len(row) for row in rows])
    places = [int(start) + place for start, row in zip(starts, rows) for place, _ in row.marks if read]
    tokens = torch.from_numpy(np.concatenate([row.tokens for row in rows])).to(model.device)
    places = torch.tensor(places, dtype=torch.long, device=model.device)
    return states(model, tokens, layout.depths, layout, places), layout


def states(
    model: Ready, tokens: torch.Tensor, depths: torch.Tensor, layout: Any, places: torch.Tensor | None = None
) -> torch.Tensor:
    """Last hidden states (width) of tokens at depths, which see what `layout.attend` lets them see; of all tokens, or
    at some places only."""
    inner = model.causal.model
    if model.layers is None:
        with attention(model.causal):
            found = inner(input_ids=tokens[None], position_ids=depths[None], use_cache=False, layout=layout)
        out = found.last_hidden_state[0]
        return out if places is None else out[places]
    out = inner.embed_tokens(tokens)
    rotary = [part[0] for part in inner.rotary_emb(out, position_ids=depths[None])]
    for layer in model.layers[:-1]:
        out = layer(out, rotary, layout)
    return decoder_layer.norm(inner.norm, model.layers[-1](out, rotary, layout, places))


def logits(model: Ready, states: torch.Tensor) -> Iterator[torch.Tensor]:
    """Logits in fp32 of (n, width) states, some at a time: (some, vocabulary)."""
    head = model.causal.lm_head
    numbers = LOGITS_ON_CPU if states.device.type == "cpu" else LOGITS
    for part in states.split(max(POSITIONS, numbers // model.causal.config.vocab_size)):
        yield head(part).float()


class Prefixes:
    """The prefixes of groups, computed when first asked for, dropped when no group after it continues them."""

    def __init__(self, model: Ready, read: bool = True):
        self._model, self._read = model, read
        self._known: dict[Group, tuple[Prefix, torch.Tensor | None]] = {}

    def of(self, group: Group) -> tuple[Prefix, torch.Tensor | None]:
        """Keys and values, and the last hidden states at the prefix's own marks; nothing for the outermost group."""
        if group.prefix is None:
            return Prefix(), None
        if group not in self._known:
            before, _ = self.of(group.parent)
            own, layout = hidden(self._model, [group.prefix], before, keep=True, read=self._read)
            self._known[group] = layout.kept[0].after(before), own
        return self._known[group]

    def keep_only(self, group: Group) -> None:
        """Drop all but those that `group` continues; the plan lists a group's descendants right after it."""
        path = []
        while group is not None:
            path.append(group)
            group = group.parent
        self._known = {known: value for known, value in self._known.items() if known in path}
