"""ROUGE-1, ROUGE-2 and ROUGE-L (F-measure) by the rouge-score package, with a tokeniser that knows every script.

The package's own tokeniser keeps a-z and 0-9 only, so identical Hindi, Thai, Arabic or Russian texts score 0. Ours,
on NFC text in lower case, without a stemmer:

    scripts with spaces      a token is a run of letters, marks and digits (marks: Devanagari vowel signs, Arabic
                             short vowels; joiners inside a word stay), which on ASCII text equals the package's
    Han, Kana                a token is one character
    Thai, Lao, Khmer,        a token is a letter with its marks: these scripts put no spaces between words, and a
    Burmese                  dictionary segmenter would make the score depend on its version
    anything else            symbols and punctuation are dropped; a text of nothing else falls back to its symbols

One character is less than a word, so scores of unspaced scripts are higher than word-level ones and comparable
only among systems, not among languages. MEGA's fork differs: it leaves Thai and Burmese phrases whole.
"""

import unicodedata
from functools import cache

# Code points of scripts without spaces between words.
_CHARACTERS = (  # one token each
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
_CLUSTERS = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))
# Thai and Lao "am": letters by category, but the second half of a written vowel.
_TRAILING = "\u0e33\u0eb3"
_JOINERS = "\u200c\u200d"


def rouge(prediction: str, reference: str) -> dict[str, float]:
    """{"rougeL", "rouge1", "rouge2"}, F-measures of 0 to 1.

    >>> rouge("यह हिन्दी है", "यह हिन्दी है")
    {'rougeL': 1.0, 'rouge1': 1.0, 'rouge2': 1.0}
    """
    scores = _scorer().score(reference, prediction)
    return {name: float(scores[name].fmeasure) for name in ("rougeL", "rouge1", "rouge2")}


def tokens(text: str) -> list[str]:
    """
    >>> tokens("The cat's 2 มานี 日本")
    ['the', 'cat', 's', '2', 'ม', 'า', 'นี', '日', '本']
    """
    found: list[str] = []
    # Whether the next letter or mark belongs to the last token.
    inside = False
    for character in unicodedata.normalize("NFC", text.lower()):
        kind = unicodedata.category(character)[0]
        if kind == "M" or character in _TRAILING or character in _JOINERS:
            if inside:
                found[-1] += character
            elif kind == "M":
                found.append(character)
                inside = True
        elif kind not in "LN":
            inside = False
        elif _within(character, _CHARACTERS) or _within(character, _CLUSTERS):
            found.append(character)
            inside = True
        elif inside and not _within(found[-1][0], _CHARACTERS) and not _within(found[-1][0], _CLUSTERS):
            found[-1] += character
        else:
            found.append(character)
            inside = True
    return found or text.split()


def _within(character: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    code = ord(character)
    return any(low <= code <= high for low, high in ranges)


class _Tokeniser:
    """The interface that rouge-score asks for."""

    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


@cache
def _scorer():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False, tokenizer=_Tokeniser())
