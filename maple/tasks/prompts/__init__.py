"""Prompt texts, one TOML file per task: <prompt set>/<task>.toml, or <task>.<language>.toml where they differ by
language.

Comments at the top say where the text comes from. A file holds:

    prompt = '''...'''       the text before the answer, verbatim
    options = ["...", ...]    the answers to compare, leading space included; absent for free text
    answer = "..."            the right answer as a shot shows it; only for free text
    stop = ["...", ...]       what ends a generated answer, in place of the task's own
    [words]                   words that the task chooses between, as {cause} or {effect}
    [generation]              a prompt and options that replace those above where an answer is generated

{name} is filled with a field of the example. Texts of the data are inserted as they are, braces included.
"""

import itertools
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from maple.core.errors import MapleError, nearest

FOLDER = Path(__file__).parent
_TEXT, _TEXTS, _BLOCK = "a text", "a list of texts", "a table of texts"
_KEYS = {"prompt": _TEXT, "options": _TEXTS, "answer": _TEXT, "stop": _TEXTS, "words": _BLOCK, "generation": "a table"}


@dataclass(frozen=True)
class PromptFile:
    name: str
    provenance: str
    text: str
    options: tuple[str, ...]
    answer: str | None
    generation_text: str | None
    generation_options: tuple[str, ...] | None
    words: dict[str, str] = field(hash=False)
    stop: tuple[str, ...] | None = None

    def sections(self, scoring: str) -> tuple[str, tuple[str, ...], str | None]:
        """Prompt, options and answer for a way of scoring."""
        if scoring == "generation":
            text = self.text if self.generation_text is None else self.generation_text
            options = self.options if self.generation_options is None else self.generation_options
            return text, options, self.answer
        return self.text, self.options, self.answer


def sets() -> list[str]:
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and not path.name.startswith("_"))


def available(prompt_set: str, task: str) -> list[str]:
    """Languages that a set has this task in; ["*"] where one text serves all."""
    if (FOLDER / prompt_set / f"{task}.toml").exists():
        return ["*"]
    return sorted(path.name.split(".")[1] for path in (FOLDER / prompt_set).glob(f"{task}.*.toml"))


@cache
def load(prompt_set: str, task: str, language: str) -> PromptFile:
    """The file for a task and language. Nothing is borrowed from another set or language: that would not be the set."""
    if prompt_set not in sets():
        raise MapleError(
            f"no prompt set '{prompt_set}'",
            why=f"{FOLDER.name}/{prompt_set} does not exist",
            do=nearest(prompt_set, sets()),
        )
    known = available(prompt_set, task)
    if known == ["*"]:
        return parse(FOLDER / prompt_set / f"{task}.toml")
    if language in known:
        return parse(FOLDER / prompt_set / f"{task}.{language}.toml")
    if not known:
        do = "it is in: " + ", ".join(name for name in sets() if available(name, task))
        raise MapleError(f"prompt set '{prompt_set}' has no prompt for {task}", why="no file of that name", do=do)
    raise MapleError(
        f"prompt set '{prompt_set}' has no {task} prompt in '{language}'",
        why="label words that nobody checked make scores meaningless, so no other language steps in",
        do=f"choose among {', '.join(known)}, or add maple/tasks/prompts/{prompt_set}/{task}.{language}.toml",
    )


def parse(path: Path) -> PromptFile:
    """Read one prompt file; an error names the key, or the line where it is no TOML."""
    text = path.read_text(encoding="utf-8")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _malformed(path, str(error)) from error
    _check(path, found, _KEYS)
    generation = found.get("generation", {})
    _check(path, generation, {key: _KEYS[key] for key in ("prompt", "options")})
    if "prompt" not in found:
        raise _malformed(path, "there is no prompt")
    comments = [line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())]
    return PromptFile(
        name=f"{path.parent.name}/{path.stem}",
        provenance=" ".join(comments),
        text=found["prompt"],
        options=tuple(found.get("options", ())),
        answer=found.get("answer"),
        generation_text=generation.get("prompt"),
        generation_options=tuple(generation["options"]) if "options" in generation else None,
        words=found.get("words", {}),
        stop=tuple(found["stop"]) if "stop" in found else None,
    )


def _check(path: Path, found: dict[str, Any], keys: dict[str, str]) -> None:
    for key, value in found.items():
        if key not in keys:
            raise _malformed(path, f"unknown key '{key}': {nearest(key, keys)}")
        texts = {_TEXT: [value], _TEXTS: value if isinstance(value, list) else [None]}
        texts |= {_BLOCK: list(value.values()) if isinstance(value, dict) else [None], "a table": []}
        if not all(isinstance(text, str) for text in texts[keys[key]]) or (
            keys[key] == "a table" and not isinstance(value, dict)
        ):
            raise _malformed(path, f"'{key}' must be {keys[key]}")


def fill(text: str, values: dict[str, Any], name: str) -> str:
    """`text` with each {field} replaced once, so braces inside the data stay as they are.

    >>> fill("{a} or {b}", {"a": "{b}", "b": 2}, "")
    '{b} or 2'
    """

    def value(match: re.Match) -> str:
        if match[1] not in values:
            raise MapleError(
                f"prompt {name}: no field '{match[1]}'",
                why="the task does not provide it",
                do=nearest(match[1], values),
            )
        return str(values[match[1]])

    return re.sub(r"\{(\w+)\}", value, text)


def _malformed(path: Path, why: str) -> MapleError:
    return MapleError(
        f"{path}: malformed prompt file", why=why, do="maple/tasks/prompts/__init__.py explains the format"
    )
