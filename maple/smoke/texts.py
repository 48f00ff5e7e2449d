"""The texts of the smoke inputs: one file per language in texts/; en.yaml explains the keys."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).with_name("texts")
# Upstream's names of Traditional Chinese; every other upstream name is its language's own file.
VARIANTS = {"zho_Hant": "zh-hant", "chinese_traditional": "zh-hant"}


@cache
def load(name: str) -> Any:
    """The content of texts/<name>.yaml: a language code, `zh-hant` or `alpaca_eval`."""
    # Everything is text: the plain loader would read Turkish `on` (ten) as true.
    return yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def languages_with(section: str) -> list[str]:
    """Codes of the languages whose file has a section, sorted.

    >>> languages_with("events")
    ['sw', 'ta', 'th', 'tr', 'zh']
    """
    codes = sorted(path.stem for path in FOLDER.glob("??.yaml"))
    return [code for code in codes if section in load(code)]
