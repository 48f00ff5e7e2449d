"""The two tiny base models and their tokeniser, shortly pretrained on maple/smoke/corpus.py: about 10 s.

Shaped like the paper's models (Llama; Mistral with shared key-value heads and a sliding window that some rows
exceed), every width divisible by 32 as 4-bit layers need on a CPU. The same bytes at every run on one kind of CPU,
whatever the number of threads.
"""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from maple.smoke import corpus

VOCABULARY = 2048
BOS, EOS = "<s>", "</s>"
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
DOCUMENTS = 1600
STEPS = 100
BATCH_ROWS, ROW_TOKENS = 16, 96
LEARNING_RATE = 4e-3


def write(root: Path) -> None:
    """Write root/models/<org>/<name>/{config.json, model.safetensors, tokenizer.json, ...} of both models."""
    tokeniser = make_tokeniser()
    for hub_id, model in make_models().items():
        pretrain(model, tokeniser)
        folder = root / "models" / hub_id
        tokeniser.save_pretrained(folder)
        model.to(torch.bfloat16).config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})


def make_tokeniser() -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text in any script, no unknown token. Like Llama's it puts <s> before a text."""
    tokeniser = Tokenizer(BPE())
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokeniser.train_from_iterator(corpus.tokeniser_texts(), trainer)
    tokeniser.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0), (EOS, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokeniser, bos_token=BOS, eos_token=EOS, model_max_length=SHAPE["max_position_embeddings"]
    )


def make_models() -> dict[str, PreTrainedModel]:
    """Hub id -> model with random weights, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        llama = LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=4))
        mistral = MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=64))
    return {"meta-llama/Llama-2-7b-hf": llama, "mistralai/Mistral-7B-v0.1": mistral}


@contextlib.contextmanager
def _one_thread_and_deterministic() -> Iterator[None]:
    """Sums over threads depend on their number, and weights must not."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


@_one_thread_and_deterministic()
def pretrain(model: PreTrainedModel, tokeniser: PreTrainedTokenizerFast, steps: int = STEPS) -> None:
    """Train in place on the corpus, in float32; the learning rate falls to zero."""
    rows = token_rows(tokeniser, corpus.documents(DOCUMENTS))
    order = random.Random(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    model.train()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / 10) * (1 - step / steps)
        batch = rows[order.sample(range(len(rows)), BATCH_ROWS)]
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()


def token_rows(tokeniser: PreTrainedTokenizerFast, documents: list[str]) -> torch.Tensor:
    """The documents end to end, each between <s> and </s>, cut into rows: shape [rows, ROW_TOKENS]."""
    stream = [token for text in documents for token in tokeniser(text).input_ids + [tokeniser.eos_token_id]]
    return torch.tensor(stream[: len(stream) // ROW_TOKENS * ROW_TOKENS]).view(-1, ROW_TOKENS)
