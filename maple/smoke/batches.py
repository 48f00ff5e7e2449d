"""The corpus as rows of tokens."""

import random

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from maple.smoke import corpus
from maple.smoke.pretraining import ROW_TOKENS

# The answer after a mark counts as much as that many other tokens: the rest of a document is mostly chance.
ANSWER_WEIGHT = 4.0
# Of the other tokens that share is drawn and counts for all: their logits are most of the work.
DRAWN = 0.2


class Batches(Dataset):
    """Step -> its rows of tokens, and how much each token counts (many 0): both [rows, ROW_TOKENS].

    Documents stand end to end, each between <s> and </s>. A step's documents depend on its number only.
    """

    def __init__(self, text: PreTrainedTokenizerFast, steps: int, rows: int):
        self.text, self.steps, self.rows = text, steps, rows
        self.mark = text.encode(corpus.MARK.rstrip(), add_special_tokens=False)[0]
        self.line = text.encode("\n", add_special_tokens=False)[0]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng, size = random.Random(f"step {step}"), self.rows * ROW_TOKENS
        stream: list[int] = []
        while len(stream) < size:
            for tokens in self.text(corpus.documents(rng, 64)).input_ids:
                stream += [*tokens, self.text.eos_token_id]
        weights, in_answer = [], False
        for token in stream[:size]:
            weights.append(ANSWER_WEIGHT if in_answer else (rng.random() < DRAWN) / DRAWN)
            if token in (self.line, self.text.eos_token_id):
                in_answer = False
            elif token == self.mark:
                in_answer = True
        shape = (self.rows, ROW_TOKENS)
        return torch.tensor(stream[:size]).view(shape), torch.tensor(weights).view(shape)
