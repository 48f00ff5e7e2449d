"""A model's stored answers with their scores, example by example, for the formats of other tools."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.config import bills
from maple.config.params import EXPERIMENT, Params
from maple.core import storage
from maple.core.errors import MapleError


@dataclass(frozen=True)
class Scored:
    """`time`: when it was asked, as 2026-01-31T12-00-00, so that exporting again gives the same names."""

    name: str
    answers: dict[str, Any]
    scores: dict[str, Any]
    folders: tuple[Path, Path]
    time: str

    def rows(self, sheet: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Each example of a task and language: id, prompt, options or output, reference, prediction, scores."""
        name = f"{sheet['task']}-{sheet['language']}.jsonl.gz"
        asked, scored = (storage.read_jsonl_gz(folder / name) for folder in self.folders)
        for answer, score in zip(asked, scored, strict=True):
            if answer["id"] != score["id"]:
                raise MapleError(
                    f"{self.folders[1] / name} is not of these answers",
                    why=f"it has example {score['id']} where they have {answer['id']}",
                    do="run `dvc repro`, which scores them again",
                )
            yield answer | score


def load(params: Params) -> list[Scored]:
    """Every model of the profile whose answers and scores are here, the experiment included."""
    known = bills.known(params)
    found = []
    for name in [*(model.name for model in [*params.bases, *params.cells]), EXPERIMENT]:
        folders = params.folder("answers", name), params.folder("scores", name)
        if all((folder / "record.json").is_file() for folder in folders):
            records = [storage.read_json(folder / "record.json") for folder in folders]
            started = known.get(("answer", name), {}).get("started", "1970-01-01T00:00:00Z")
            found.append(Scored(name, *records, folders, started.removesuffix("Z").replace(":", "-")))
    if not found:
        raise MapleError(
            f"nothing of the {params.profile} profile is answered and scored here",
            why=f"{params.artifacts}/answers and scores hold no complete pair",
            do=f"make pull PROFILE={params.profile} WHAT=answers, or make reproduce",
        )
    return found
