"""Instruction rows as token ids: beginning of text, prompt, answer, end of text; the answer's tokens carry the loss."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maple.core.errors import MapleError
from maple.models import tokeniser_check


@dataclass(frozen=True)
class Tokeniser:
    """What the preparing processes need of a model's tokeniser; `bos` is None where it puts nothing before a text."""

    definition: str
    bos: int | None
    eos: int

    def open(self):
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self.definition)
        # A row may speak of "</s>": that is text, and no end of its answer. The only special tokens of a row are ours.
        backend.encode_special_tokens = True
        return backend


@dataclass(frozen=True)
class Tokens:
    """A row's ids cut to the maximal length; None where nothing of the answer is left.

    `full` is the length before cutting; `answer` counts the answer's tokens before cutting, without the end of text.
    """

    ids: np.ndarray | None
    answer_start: int
    full: int
    answer: int
    spans: bool


def load(folder: Path) -> Tokeniser:
    """The tokeniser in a model's folder, exactly as training and evaluation load it, without its Python side.

    A training row begins as an evaluated prompt does: with what the tokeniser itself puts before a text.
    Raises MapleError for one that is missing, cut or cannot be scored with (maple/models/tokeniser_check.py).
    """
    tokeniser = tokeniser_check.load(folder)
    if getattr(tokeniser, "backend_tokenizer", None) is None:
        raise MapleError(
            f"the tokeniser in {folder} has no tokenizer.json",
            why="rows are tokenised in several processes, by the tokenizers library",
            do="save it with a version of transformers that converts it (save_pretrained writes tokenizer.json)",
        )
    backend = tokeniser.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    first = tokeniser_check.before_a_text(tokeniser)
    return Tokeniser(backend.to_str(), first[0] if first else None, tokeniser.eos_token_id)


def tokenise(backend, tokeniser: Tokeniser, pairs: list[tuple[str, str]], max_length: int) -> list[Tokens]:
    """Tokens of (prompt, answer) pairs.

    Both are encoded together, as a model that goes on writing has them, and parted at the token where the answer
    begins. Where one token spans prompt and answer, they are encoded apart.
    """
    head = [] if tokeniser.bos is None else [tokeniser.bos]
    result = []
    encodings = backend.encode_batch([prompt + answer for prompt, answer in pairs], add_special_tokens=False)
    for (prompt, answer), encoding in zip(pairs, encodings):
        ids, start, spans = encoding.ids, len(encoding.ids), False
        if answer:
            found = encoding.char_to_token(len(prompt))
            spans = found is None or encoding.token_to_chars(found)[0] != len(prompt)
            if spans:
                before = backend.encode(prompt, add_special_tokens=False).ids
                ids, start = before + _apart(backend, answer), len(before)
            else:
                start = found
        ids = np.array(head + ids + [tokeniser.eos], dtype=np.int32)
        start += len(head)
        kept = ids[:max_length] if start < max_length else None
        result.append(Tokens(kept, start, len(ids), len(ids) - start - 1, spans))
    return result


def _apart(backend, answer: str) -> list[int]:
    """The answer's tokens without the prompt, and without the space that some tokenisers put before a text.

    Behind a line break, from which no token goes on into a letter or a space, an answer begins as it is written.
    """
    encoding = backend.encode("\n" + answer, add_special_tokens=False)
    found = encoding.char_to_token(1)
    if found is not None and encoding.token_to_chars(found)[0] == 1:
        return encoding.ids[found:]
    return backend.encode(answer, add_special_tokens=False).ids
