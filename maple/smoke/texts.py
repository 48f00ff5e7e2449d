"""The texts of the smoke inputs: one file per language in texts/, en.yaml explains the keys; names.yaml by script."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from maple.upstream import languages

FOLDER = Path(__file__).with_name("texts")
# Upstream's names of Traditional Chinese; every other upstream name is its language's own file.
VARIANTS = {"zho_Hant": "zh-hant", "chinese_traditional": "zh-hant"}


@cache
def load(name: str) -> Any:
    """The content of texts/<name>.yaml: a language code, `zh-hant` or `names`."""
    # Everything is text: the plain loader would read Turkish `on` (ten) as true.
    return yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


@cache
def names(name: str) -> dict[str, Any]:
    """Given and family names in the script of a text."""
    script = "Hant" if name == "zh-hant" else languages.table()[name].script.split("/")[0]
    return load("names")[script]


def languages_with(section: str) -> list[str]:
    """Codes of the languages whose file has a section, sorted.

    >>> languages_with("events")
    ['ar', 'de', 'en', 'es', 'hi', 'ja', 'ru', 'sw', 'ta', 'th', 'tr', 'zh']
    """
    codes = sorted(path.stem for path in FOLDER.glob("??.yaml"))
    return [code for code in codes if section in load(code)]


def is_unspaced(name: str) -> bool:
    """Whether sentences follow each other without a space, as words do."""
    return not load(name)["gap"] or name == "th"


def lexicon(name: str) -> list[str]:
    """Words and names that stand in slots of a text: what a question may ask for, or an exercise."""
    text = load(name)
    lists = [fact["values"] for fact in text["facts"]] + [names(name)["given"], names(name)["family"]]
    lists += [text.get(key, []) for key in ("animals", "colours", "foods")]
    pairs = [pair for key in ("opposites", "capitals") for pair in text.get(key, {}).items()]
    return [word for words in [*lists, *pairs] for word in words]
