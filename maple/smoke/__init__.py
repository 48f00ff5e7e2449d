"""The smoke profile's inputs: rows of a sample world in the Hub's layout, the same bytes at every run, and two tiny bases.

They go through the same download, readers and training as the real files; their numbers say nothing about the paper.
docs/SMOKE.md says what was planted. The bases lie in bases/; pretraining.py made them, which no run needs.
"""

from pathlib import Path

from maple.config import catalogue
from maple.config.params import Params
from maple.core.errors import MapleError
from maple.smoke import evaluation, instructions, texts


def write(root: Path, params: Params) -> None:
    """Write root/datasets/<org>/<name>/<upstream path>; takes some seconds.

    Every language that has texts is written. Raises MapleError if params ask for one that has none.
    """
    check_languages(params)
    evaluation.write(root)
    instructions.write(root)


def check_languages(params: Params) -> None:
    wanted = {f"datasets.{name}": (chosen.source, chosen.languages) for name, chosen in params.datasets.items()}
    wanted |= {f"evaluation.tasks.{name}": (name, chosen.languages) for name, chosen in params.evaluation.tasks.items()}
    sections = {"bactrian-x": "exercises", "multialpaca": "exercises", "alpaca": "exercises", "xcopa": "events"}
    for key, (source, codes) in wanted.items():
        if catalogue.datasets()[source].is_local:
            continue
        known = texts.languages_with(sections.get(source, "facts"))
        for code in codes:
            if code not in known:
                raise MapleError(
                    f"{key}.languages: the smoke profile has no {source} rows in '{code}'",
                    why=f"it has texts in {', '.join(known)}",
                    do=f"leave '{code}' out, or add its texts to maple/smoke/texts",
                )
