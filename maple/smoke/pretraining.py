"""How the two tiny bases came to be: trained on maple/smoke/corpus.py from random weights, once; `make smoke-models`.

Shaped like the paper's (Llama; Mistral with shared key-value heads and a sliding window that some rows exceed), every
width divisible by 32 as 4-bit weights need. The Mistral-shaped one is deeper, wider and reads more. What came of
it lies in maple/smoke/bases and is pinned in sources.yaml: a run of the pipeline pretrains nothing.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

ROW_TOKENS = 160
CONTEXT = 1024
WARMUP_STEPS = 100


@dataclass(frozen=True)
class Recipe:
    """`rows`: rows of ROW_TOKENS in a step."""

    make: Callable[[int], PreTrainedModel]
    steps: int
    rows: int
    learning_rate: float


def _shape(vocabulary: int) -> dict:
    return {
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def _llama(vocabulary: int) -> PreTrainedModel:
    layers = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3}
    return LlamaForCausalLM(LlamaConfig(**_shape(vocabulary), **layers, num_attention_heads=3, num_key_value_heads=3))


def _mistral(vocabulary: int) -> PreTrainedModel:
    layers = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "sliding_window": 128}
    return MistralForCausalLM(
        MistralConfig(**_shape(vocabulary), **layers, num_attention_heads=4, num_key_value_heads=2)
    )


RECIPES = {
    "llama-2-7b": Recipe(_llama, steps=2400, rows=64, learning_rate=2e-3),
    "mistral-7b": Recipe(_mistral, steps=3000, rows=64, learning_rate=2e-3),
}


def vocabulary(text: PreTrainedTokenizerFast) -> int:
    """Rows of the embedding: the pieces, and unused ones up to a number that 32 divides."""
    return -(-len(text) // 32) * 32


def pretrain(
    recipe: Recipe,
    vocabulary: int,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    device: str,
    report: Callable[[int, float], None] = lambda step, loss: None,
    compiled: bool = True,
) -> PreTrainedModel:
    """A base from random weights, trained in float32 with products in bfloat16, returned in bfloat16 on the CPU.

    `batches`: for each step what maple/smoke/batches.py gives. `compiled`: by torch.compile, a quarter faster on a CPU.
    """
    torch.manual_seed(0)
    model = recipe.make(vocabulary).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)

    def loss_of(tokens: torch.Tensor, places: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state.flatten(0, 1)
            logits = model.lm_head(hidden[places - 1])
        losses = torch.nn.functional.cross_entropy(logits.float(), tokens.flatten()[places], reduction="none")
        return (losses * weights).sum() / weights.sum()

    loss_of = torch.compile(loss_of) if compiled else loss_of
    for step, batch in enumerate(batches):
        falling = (1 + math.cos(math.pi * step / recipe.steps)) / 2
        optimiser.param_groups[0]["lr"] = recipe.learning_rate * min(1, (step + 1) / WARMUP_STEPS) * falling
        loss = loss_of(*(part.to(device) for part in batch))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 99:
            report(step + 1, loss.item())
    return model.eval().to("cpu", torch.bfloat16)


def write(folder: Path, model: PreTrainedModel, text: PreTrainedTokenizerFast) -> None:
    """folder/{config.json, model.safetensors, tokenizer.json, ...} as on the Hub."""
    folder.mkdir(parents=True, exist_ok=True)
    text.save_pretrained(folder)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
