"""The corpus as rows of tokens."""

import random

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from maple.smoke import corpus
from maple.smoke.pretraining import ROW_TOKENS

# The answer after a mark counts as much as that many other tokens: the rest of a document is mostly chance.
ANSWER_WEIGHT = 4.0
# One token in three is predicted, the answers first: the output layer is a third of the work of so small a model.
PREDICTED = 3


class Batches(Dataset):
    """Step -> tokens [rows, ROW_TOKENS], and which of them are predicted and how much each counts, both [predicted].

    Documents stand end to end, each between <s> and </s>. A step's documents depend on its number only. A predicted token
    is given as its place in the flattened rows.
    """

    def __init__(self, text: PreTrainedTokenizerFast, steps: int, rows: int):
        self.text, self.steps, self.rows = text, steps, rows
        self.mark = text.encode(corpus.MARK.rstrip(), add_special_tokens=False)[0]
        self.line = text.encode("\n", add_special_tokens=False)[0]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rng, size = random.Random(f"step {step}"), self.rows * ROW_TOKENS
        stream: list[int] = []
        while len(stream) < size:
            for tokens in self.text(corpus.documents(rng, 64)).input_ids:
                stream += [*tokens, self.text.eos_token_id]
        answers, others, in_answer = [], [], False
        for place, token in enumerate(stream[:size]):
            # The first token of a row has nothing before it.
            if place % ROW_TOKENS:
                (answers if in_answer else others).append(place)
            if token in (self.line, self.text.eos_token_id):
                in_answer = False
            elif token == self.mark:
                in_answer = True
        rng.shuffle(others)
        chosen = [(place, ANSWER_WEIGHT) for place in answers] + [(place, 1.0) for place in others]
        places, weights = zip(*sorted(chosen[: size // PREDICTED]))
        return torch.tensor(stream[:size]).view(self.rows, ROW_TOKENS), torch.tensor(places), torch.tensor(weights)
