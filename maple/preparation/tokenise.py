"""Instruction rows as token ids: beginning of text, prompt, answer, end of text; the answer's tokens carry the loss."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maple.core.errors import MapleError


@dataclass(frozen=True)
class Tokeniser:
    """What the preparing processes need of a model's tokeniser; `bos` is None where it has none."""

    definition: str
    bos: int | None
    eos: int

    def open(self):
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.definition)


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
    """The tokeniser in a model's folder, exactly as training and evaluation load it, without its Python side."""
    from transformers import AutoTokenizer

    try:
        tokeniser = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise MapleError(f"no tokeniser in {folder}", why=str(error).splitlines()[0], do="run the download stage") from error
    if tokeniser.eos_token_id is None:
        raise MapleError(f"the tokeniser in {folder} has no end-of-text token", why="an answer could not end", do="use another model")
    backend = tokeniser.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return Tokeniser(backend.to_str(), tokeniser.bos_token_id, tokeniser.eos_token_id)


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
                ids, start = before + backend.encode(answer, add_special_tokens=False).ids, len(before)
            else:
                start = found
        ids = np.array(head + ids + [tokeniser.eos], dtype=np.int32)
        start += len(head)
        kept = ids[:max_length] if start < max_length else None
        result.append(Tokens(kept, start, len(ids), len(ids) - start - 1, spans))
    return result
