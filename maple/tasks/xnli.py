"""XNLI (Conneau et al. 2018): does a premise entail a hypothesis, contradict it, or neither?

Options stand in upstream's label order: 0 entailment, 1 neutral, 2 contradiction. Rows are parallel across
languages (a public study reports Russian test rows 2805 and 2806 as misaligned; they are scored as they are).
Non-English training text is machine-translated; only few-shot examples for the validation split come from it.
"""

from pathlib import Path
from typing import Any

from maple.tasks import rows
from maple.tasks.base import ChoiceTask, Example

_LABEL = rows.one_of(0, 1, 2)


class Xnli(ChoiceTask):
    name = source = "xnli"
    size, tokens = 5010, 70
    splits = ("validation", "test")
    shots_from = {"test": ("xnli", "validation"), "validation": ("xnli", "train")}

    def read(self, folder: Path, language: str, name: str, split: str, repair: bool) -> list[Example]:
        if not (folder / name).is_dir() and (folder / "all_languages").is_dir():
            found = rows.read(rows.shards(folder / "all_languages", split), _nested_schema(name))
            pairs = [(_pick(row, name), row["label"]) for _, _, row in found]
        else:
            schema = {"premise": str, "hypothesis": str, "label": _LABEL}
            found = rows.read(rows.shards(folder / name, split), schema)
            pairs = [({key: row[key] for key in ("premise", "hypothesis")}, row["label"]) for _, _, row in found]
        # Upstream has no ids; the row number is the same sentence pair in every language.
        return [Example(str(number), language, fields, label) for number, (fields, label) in enumerate(pairs)]


def _nested_schema(name: str) -> rows.Schema:
    """The `all_languages` config: premise by language, hypothesis as two parallel lists."""

    def premise(value: Any) -> str | None:
        pairs = value if isinstance(value, dict) else dict(value or ())
        return None if pairs.get(name) else f"has no text in '{name}'"

    def hypothesis(value: Any) -> str | None:
        right = (
            isinstance(value, dict)
            and name in (value.get("language") or ())
            and len(value["language"]) == len(value["translation"])
        )
        return None if right else f"must hold parallel lists language and translation with '{name}'"

    return {"premise": premise, "hypothesis": hypothesis, "label": _LABEL}


def _pick(row: dict, name: str) -> dict[str, str]:
    hypothesis = row["hypothesis"]
    return {
        "premise": dict(row["premise"])[name],
        "hypothesis": hypothesis["translation"][list(hypothesis["language"]).index(name)],
    }
