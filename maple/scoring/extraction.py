"""The prediction in a stored answer: which option it names, or its text."""

import re
from typing import Any

# Scripts written without spaces: there a label may be followed directly by more letters.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
# After a label of one letter: nothing, a mark that closes or ends, or a space and a dash, bracket or the like.
_AFTER_LETTER = re.compile(
    r"""\s*$ | [)\]}.:,;*"”»،؛।] | ['’](?!\w) | [）］｝。．：，；、】」』〉》] | \s+[-‐-―=:|→()\[\]{}<>（［｛【「]""",
    re.VERBOSE,
)


def match_option(line: str, options: list[str]) -> int | None:
    """The option that a generated line begins with, whole words only; None if there is none.

    A label of one letter is easily a word of its own ("A group", "D'accord"). It counts only where nothing follows it,
    or a mark that closes or ends something, or a space and then a dash, a bracket or the like.

    >>> match_option("(B) because", [" A", " B"]), match_option("A.", [" A", " B"])
    (1, 0)
    >>> match_option("Another thing", [" A", " B"]) is None
    True
    >>> match_option("A group of people", [" A", " B"]) is None
    True
    """
    line = re.sub(r"^\W+", "", line).casefold()
    labels = [option.strip().casefold() for option in options]
    # Longest first, so that a label which begins with another ("not true") is not taken for it.
    for index in sorted(range(len(labels)), key=lambda i: -len(labels[i])):
        label = labels[index]
        if line.startswith(label):
            rest = line[len(label) :]
            ends = _AFTER_LETTER.match(rest) if len(label) == 1 else not re.match(r"\w", rest)
            if ends or _UNSPACED.match(label[-1]):
                return index
    return None


def choose(options: list[dict[str, Any]], normalisation: str) -> int:
    """The option with the highest log-likelihood (per byte or token if so asked); the first of equal ones.

    >>> choose([{"logprob": -4.0, "bytes": 2}, {"logprob": -5.0, "bytes": 10}], "bytes")
    1
    """

    def value(option: dict[str, Any]) -> float:
        return option["logprob"] if normalisation == "none" else option["logprob"] / option[normalisation]

    return max(range(len(options)), key=lambda place: value(options[place]))


def predict(row: dict[str, Any], part: str, normalisation: str) -> Any:
    """The prediction in one stored answer: the index of an option, or None where a generated text names none of them
    (a wrong answer, not a failure); for free text the text.

    `part` is the task's `answer_part`: `line` takes the first line of a generated text, `text` all of it.

    >>> predict({"output": " B\\nand more", "options": [{"text": " A"}, {"text": " B"}]}, "line", "none")
    1
    """
    if "output" not in row:
        return choose(row["options"], normalisation)
    text = row["output"].strip()
    if part == "line":
        text = text.split("\n")[0].strip()
    return match_option(text, [option["text"] for option in row["options"]]) if "options" in row else text
