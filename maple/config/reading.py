"""YAML files into checked dataclasses: each wrong key is one error in three lines, with the nearest right word."""

import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
import pydantic.dataclasses
import yaml

from maple.core.errors import MapleError, nearest

T = TypeVar("T")
Text = Annotated[pydantic.StrictStr, pydantic.Field(min_length=1)]
# What pydantic calls a key that no field has.
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


def block(cls):
    """A block of keys as a checked dataclass: none unknown, none changed afterwards; those without a default
    required.
    """
    return pydantic.dataclasses.dataclass(cls, frozen=True, config=pydantic.ConfigDict(extra="forbid"))


class _Loader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys without a word; here the second is an error."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' stands there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[str, Any]:
    """The keys of a YAML file."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise MapleError(f"{path} is not UTF-8 text", why=str(error), do="save it as UTF-8") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        why = f"line {mark.line + 1}: {problem}" if mark else " ".join(problem.split())
        raise MapleError(f"{path} is not valid YAML", why=why, do="mend that line") from error
    if not isinstance(content, dict):
        raise MapleError(
            f"{path} holds no keys", why="it is empty, or one value", do="restore it: git checkout " + str(path)
        )
    return content


def checked(kind: type[T], path: Path) -> T:
    """A YAML file as `kind`, a pydantic dataclass; raises MapleError that names the first wrong key."""
    return build(kind, read(path), str(path))


def build(kind: type[T], content: dict[str, Any], where: str) -> T:
    """As `checked`, of what a file held; `where` names it in messages."""
    try:
        return pydantic.TypeAdapter(kind).validate_python(content)
    except pydantic.ValidationError as error:
        # A misspelt key is missing under its right name too: the misspelling says more.
        first = min(error.errors(), key=lambda found: found["type"] not in UNKNOWN)
        raise _error(kind, first, where) from error


def _error(kind: Any, found: dict[str, Any], where: str) -> MapleError:
    trail, held = _followed(kind, found["loc"])
    key = _dotted(trail)
    if found["type"] in UNKNOWN:
        known = list(typing.get_type_hints(held)) if isinstance(held, type) else []
        return MapleError(
            f"{where}: unknown key '{key}'",
            why="no code reads it, so its value would change nothing",
            do=nearest(str(trail[-1]), known),
        )
    if found["type"] == "missing":
        return MapleError(
            f"{where}: key '{key}' is missing",
            why="every value stands in the file, so that a reader sees what ran",
            do=f"add it; the file's comments explain '{trail[-1]}'",
        )
    value = found["input"]
    if isinstance(value, (list, dict)) and found["type"] == "value_error":
        return MapleError(
            f"{where}: '{key}' cannot be taken",
            why=str(found["ctx"]["error"]),
            do="correct it; the file's comments explain each key",
        )
    choices = _choices(held)
    if choices and not isinstance(value, (bool, list, dict)):
        accepted = "one of " + ", ".join(map(repr, choices))
        return MapleError(
            f"{where}: '{key}' is {value!r}",
            why=f"it must be {accepted}",
            do=nearest(value, choices) if isinstance(value, str) else "choose one of them",
        )
    return MapleError(
        f"{where}: '{key}' is {value!r}",
        why=f"it must be {describe(held)}",
        do="correct the value; the file's comments explain each key",
    )


def _followed(kind: Any, loc: tuple) -> tuple[list, Any]:
    """The keys that `loc` passes through, and the type of the last one's value (of the block, for a key it lacks)."""
    trail, held = [], kind
    for step in loc:
        inner = _bare(held)
        if isinstance(inner, type) and hasattr(inner, "__pydantic_fields__"):
            hints = typing.get_type_hints(inner, include_extras=True)
            trail.append(step)
            if step not in hints:
                return trail, inner
            held = hints[step]
        elif typing.get_origin(inner) is list and isinstance(step, int):
            trail.append(step)
            held = typing.get_args(inner)[0]
        elif typing.get_origin(inner) is dict:
            # pydantic names a wrong key as the path ("datasets", "/x", "[key]").
            trail.append(step)
            held = typing.get_args(inner)["[key]" not in loc]
    return trail, held


def _bare(kind: Any) -> Any:
    """Without Annotated, and of an optional type the other one."""
    while typing.get_origin(kind) is typing.Annotated or hasattr(kind, "__metadata__"):
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        others = [option for option in typing.get_args(kind) if option is not type(None)]
        if len(others) == 1:
            return _bare(others[0])
    return kind


def _choices(kind: Any) -> tuple:
    inner = _bare(kind)
    return typing.get_args(inner) if typing.get_origin(inner) is Literal else ()


def describe(kind: Any) -> str:
    """In words what a type accepts: the description that it carries, else its own name."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(option) for option in typing.get_args(kind)))
    described = [part.description for part in getattr(kind, "__metadata__", ()) if getattr(part, "description", None)]
    if described:
        return described[-1]
    if hasattr(kind, "__metadata__"):
        return describe(typing.get_args(kind)[0])
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is list:
        return "a list that is not empty"
    if typing.get_origin(kind) is dict or hasattr(kind, "__pydantic_fields__"):
        return "a block of keys"
    names = {
        int: "a whole number",
        float: "a number",
        str: "text that is not empty",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(kind, str(kind))


def _dotted(trail: list) -> str:
    text = ""
    for step in trail:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
