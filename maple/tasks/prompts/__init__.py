"""Prompt texts, one file per task: <prompt set>/<task>.txt, or <task>.<language>.txt where they differ by language.

A file holds sections. Lines that begin with # before the first section say where the text comes from.

    [prompt]                  the text before the answer, verbatim but for the last line break
    [options]                 one quoted string a line, leading space included; absent for free text
    [answer]                  one quoted string: the right answer as a shot shows it; only for free text
    [words]                   name = "quoted string": words that the task chooses between, as {cause} or {effect}
    [prompt for generation]   these two replace [prompt] and [options] where an answer is generated
    [options for generation]

{name} is filled with a field of the example. Texts of the data are inserted as they are, braces included.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from maple.core.errors import MapleError, nearest

FOLDER = Path(__file__).parent
_SECTIONS = ("prompt", "options", "answer", "words", "prompt for generation", "options for generation")


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
    if (FOLDER / prompt_set / f"{task}.txt").exists():
        return ["*"]
    return sorted(path.name.split(".")[1] for path in (FOLDER / prompt_set).glob(f"{task}.*.txt"))


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
        return parse(FOLDER / prompt_set / f"{task}.txt")
    if language in known:
        return parse(FOLDER / prompt_set / f"{task}.{language}.txt")
    if not known:
        do = "it is in: " + ", ".join(name for name in sets() if available(name, task))
        raise MapleError(f"prompt set '{prompt_set}' has no prompt for {task}", why="no file of that name", do=do)
    raise MapleError(
        f"prompt set '{prompt_set}' has no {task} prompt in '{language}'",
        why="label words that nobody checked make scores meaningless, so no other language steps in",
        do=f"choose among {', '.join(known)}, or add maple/tasks/prompts/{prompt_set}/{task}.{language}.txt",
    )


def parse(path: Path) -> PromptFile:
    """Read one prompt file; an error names the line."""
    provenance, sections, current = [], {}, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        heading = re.fullmatch(r"\[([a-z ]+)\]", line)
        if heading and heading[1] in _SECTIONS:
            current = sections.setdefault(heading[1], [])
        elif current is None:
            if not line.startswith("#"):
                raise _malformed(path, number, "text before the first section must begin with #")
            provenance.append(line.lstrip("# "))
        else:
            current.append((number, line))

    def strings(name: str) -> tuple[str, ...] | None:
        if name not in sections:
            return None
        return tuple(_string(path, number, line) for number, line in sections[name] if line)

    def text(name: str) -> str | None:
        return "\n".join(line for _, line in sections[name]) if name in sections else None

    words = {}
    for number, line in sections.get("words", []):
        if line:
            name, _, quoted = line.partition(" = ")
            words[name] = _string(path, number, quoted)
    if text("prompt") is None:
        raise _malformed(path, 1, "there is no [prompt] section")
    answer = strings("answer")
    return PromptFile(
        name=f"{path.parent.name}/{path.stem}",
        provenance=" ".join(provenance),
        text=text("prompt"),
        options=strings("options") or (),
        answer=answer[0] if answer else None,
        generation_text=text("prompt for generation"),
        generation_options=strings("options for generation"),
        words=words,
    )


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


def _string(path: Path, number: int, line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, str):
        raise _malformed(path, number, f"{line!r} is not a quoted string")
    return value


def _malformed(path: Path, number: int, why: str) -> MapleError:
    return MapleError(
        f"{path}, line {number}: malformed prompt file", why=why, do="maple/tasks/prompts/__init__.py explains the format"
    )
