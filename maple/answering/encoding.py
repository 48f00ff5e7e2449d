"""Texts as tokens, to the letter as lm-evaluation-harness splits prompt and answer, but what texts share only once.

Tokenising is most of the time that a small model's evaluation takes when shots are in front of every prompt. A
text may be cut at a space between two letters and its pieces tokenised one by one, if no token of the vocabulary
goes on beyond the end of a word: so it is with byte-level and SentencePiece tokenisers. Some texts of each call are
tokenised both ways; where that makes a difference, nothing is cut.
"""

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

# A letter of any script and then a space, in the spellings that vocabularies have for it. In a byte-level vocabulary a
# space or line break before the space is spelled as a letter too (\u0120, \u010a, \u0109, \u010d): such a token cuts no
# word.
_ACROSS_WORDS = re.compile("(?![\u0120\u010a\u0109\u010d])[^\\W\\d_][ \u0120\u2581]")


def first_token(tokeniser: Any) -> int:
    """What an empty prompt is scored after: beginning of text, or end of text where a tokeniser has only that."""
    return tokeniser.eos_token_id if tokeniser.bos_token_id is None else tokeniser.bos_token_id


def encode(tokeniser: Any, text: str) -> list[int]:
    """Tokens with what the tokeniser puts before a text, but for one that begins with it already."""
    return tokeniser.encode(text, add_special_tokens=not text.startswith(_first_text(tokeniser)), verbose=False)


def encode_groups(tokeniser: Any, groups: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """`encode` of each text. Texts of a group begin alike (a prompt, the prompt with each answer), and often all do."""
    found = _in_pieces(tokeniser, groups) if sum(map(len, groups)) > 1 else None
    if found is None:
        first = _first_text(tokeniser)
        flat = [text for group in groups for text in group]
        plain = iter(_batch(tokeniser, [t for t in flat if not t.startswith(first)], True))
        special = iter(_batch(tokeniser, [t for t in flat if t.startswith(first)], False))
        found = [[next(special if text.startswith(first) else plain) for text in group] for group in groups]
    return found


def pairs(tokeniser: Any, requests: Sequence[tuple[str, Sequence[str]]]) -> list[list[tuple[list[int], list[int]]]]:
    """(tokens of the prompt, of the answer) for each answer of each request.

    The answer's tokens are those of prompt and answer together after as many as the prompt has alone. The prompt
    keeps those that it has alone, also where its last letters and the answer's first would merge into one token.
    Spaces at the end of the prompt belong to the answer; an empty prompt stands for `first_token`.
    """
    groups = [
        [context.rstrip(), *(context + answer for answer in answers)] if context else []
        for context, answers in requests
    ]
    first, found = first_token(tokeniser), []
    for (context, answers), encoded in zip(requests, encode_groups(tokeniser, groups), strict=True):
        if context:
            before, *whole = encoded
            # A prompt of nothing but white space leaves what the tokeniser puts before a text, if anything.
            found.append([(before or [first], tokens[len(before) :]) for tokens in whole])
        else:
            alone = _batch(tokeniser, answers, False)
            found.append([([first], tokens[1:] if tokens[:1] == [first] else tokens) for tokens in alone])
    return found


def _in_pieces(tokeniser: Any, groups: Sequence[Sequence[str]]) -> list[list[list[int]]] | None:
    """`encode_groups` by pieces, or None where that is not the same."""
    if _has_tokens_across_words(tokeniser):
        return None
    cuts = _cuts(groups)
    some = sorted({0, len(groups) // 2, len(groups) - 1})
    # A tokeniser that puts a space before each text wants the pieces without their own.
    for space in (0, 1):
        sample = _joined(tokeniser, [groups[i] for i in some], [cuts[i] for i in some], space)
        if all(
            tokens == encode(tokeniser, text)
            for i, found in zip(some, sample)
            for text, tokens in zip(groups[i], found)
        ):
            return _joined(tokeniser, groups, cuts, space)
    return None


def _cuts(groups: Sequence[Sequence[str]]) -> list[list[int]]:
    """Where the texts of each group may be cut: at the end of what all texts share, and of what the group shares."""
    shared = [os.path.commonprefix(group) for group in groups]
    of_all = _last_cut(os.path.commonprefix([text for text in shared if text]), 0)
    found = []
    for text in shared:
        start = [of_all] if of_all and text else []
        own = _last_cut(text, of_all or 0)
        found.append(start + ([own] if own else []))
    return found


def _last_cut(text: str, after: int) -> int | None:
    """The last space between two letters beyond `after`."""
    place = len(text) - 1
    while (place := text.rfind(" ", after + 1, place)) > 0:
        if text[place - 1].isalpha() and text[place + 1].isalpha():
            return place
    return None


def _joined(
    tokeniser: Any, groups: Sequence[Sequence[str]], cuts: list[list[int]], space: int
) -> list[list[list[int]]]:
    first = _first_text(tokeniser)
    # Pieces by (text, whether it stands at the beginning), each tokenised once.
    keys: dict[tuple[str, bool], list[int]] = {}
    pieces = []
    for group, of_group in zip(groups, cuts):
        pieces.append([])
        for text in group:
            places = [0, *of_group, len(text)]
            own = [(text[a + space if a else 0 : b], a == 0) for a, b in zip(places, places[1:])]
            pieces[-1].append(own)
            keys.update(dict.fromkeys(own, []))
    for begins in (True, False):
        chosen = [key for key in keys if (key[1] and not key[0].startswith(first)) == begins]
        keys.update(zip(chosen, _batch(tokeniser, [text for text, _ in chosen], begins)))
    return [[[token for piece in own for token in keys[piece]] for own in group] for group in pieces]


def _batch(tokeniser: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    if not texts:
        return []
    # Not verbose: that a text is longer than the context is dealt with where it is cut.
    return tokeniser(
        list(texts), add_special_tokens=special, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )["input_ids"]


def _first_text(tokeniser: Any) -> str:
    return tokeniser.decode([first_token(tokeniser)])


@lru_cache(maxsize=4)
def _has_tokens_across_words(tokeniser: Any) -> bool:
    return any(map(_ACROSS_WORDS.search, tokeniser.get_vocab()))
