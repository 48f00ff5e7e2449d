"""Exact match and token F1 of extracted answers: SQuAD v1.1's script and MLQA's.

Both normalise prediction and gold, split them into tokens and take the best score over the golds. They differ in
what they remove:

    SQuAD v1.1   lower case; ASCII punctuation; the English articles; tokens by white space, in every language
    MLQA         lower case; ASCII punctuation and every Unicode P* character; the articles of the answer's
                 language; tokens by white space, in Chinese one token per Han character (mixed segmentation)

MLQA's Arabic rule removes the two letters of the article wherever they stand, inside words too. Published
numbers contain it, so it is the default; `repair` removes the article at the start of a word only.

Two texts that share no token have F1 0 even if both normalise to nothing (their EM is then 1). SQuAD v2's script,
which transformers 4 carried and lm-evaluation-harness's xquad calls, gives 1 there; elsewhere the two agree.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

from maple.core.errors import MapleError, nearest

_ASCII_PUNCTUATION = frozenset(string.punctuation)
_ENGLISH_ARTICLES = r"\b(a|an|the)\b"
_MLQA_ARTICLES = {
    "ar": "ال",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "en": _ENGLISH_ARTICLES,
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "hi": None,
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "zh": None,
}
# As lm-evaluation-harness (mlqa 0.1) repairs it. Not \b: an Arabic vowel mark is no word character to `re`.
_ARABIC_REPAIRED = r"(?:^|\s)ال"


def squad(prediction: str, golds: Iterable[str]) -> dict[str, float]:
    """SQuAD v1.1's F1 and exact match, each the best over the golds.

    >>> squad("The cat", ["a cat", "dog"])
    {'f1': 1.0, 'em': 1.0}
    """
    return _best(prediction, golds, squad_tokens)


def mlqa(prediction: str, golds: Iterable[str], language: str, repair: bool = False) -> dict[str, float]:
    """MLQA's F1 and exact match; `language` is that of the answer, hence of the passage.

    >>> mlqa("中国", ["中文"], "zh")
    {'f1': 0.5, 'em': 0.0}
    """
    return _best(prediction, golds, lambda text: mlqa_tokens(text, language, repair))


def squad_tokens(text: str) -> list[str]:
    text = "".join(c for c in text.lower() if c not in _ASCII_PUNCTUATION)
    return re.sub(_ENGLISH_ARTICLES, " ", text).split()


def mlqa_tokens(text: str, language: str, repair: bool = False) -> list[str]:
    if language not in _MLQA_ARTICLES:
        raise MapleError(
            f"MLQA's metric has no rules for '{language}'",
            why="its articles are not defined",
            do=nearest(language, _MLQA_ARTICLES),
        )
    text = "".join(c for c in text.lower() if not _is_punctuation(c))
    articles = _ARABIC_REPAIRED if repair and language == "ar" else _MLQA_ARTICLES[language]
    if articles:
        text = re.sub(articles, " ", text)
    if language == "zh":
        # The script's own range of Han characters; rarer ones (from U+9FA6, Extension A) stay inside words.
        text = re.sub("([\u4e00-\u9fa5])", r" \1 ", text)
    return text.split()


def _best(prediction: str, golds: Iterable[str], tokens: Callable[[str], list[str]]) -> dict[str, float]:
    predicted = tokens(prediction)
    scores = [(_f1(predicted, tokens(gold)), float(predicted == tokens(gold))) for gold in golds]
    return {"f1": max(f1 for f1, _ in scores), "em": max(em for _, em in scores)}


def _f1(predicted: list[str], gold: list[str]) -> float:
    same = sum((Counter(predicted) & Counter(gold)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(gold)
    return 2 * precision * recall / (precision + recall)


@cache
def _is_punctuation(character: str) -> bool:
    return character in _ASCII_PUNCTUATION or unicodedata.category(character).startswith("P")
