"""MLQA (Lewis et al. 2020): questions about Wikipedia passages, question and passage in the same language.

Read from google/xtreme's parquet copy, because MLQA's own repository on the Hub is a loading script that no longer
runs. Scored by the official metric, its Arabic-article behaviour included; `repair` corrects that rule.
"""

from pathlib import Path

from maple.tasks import rows
from maple.tasks.base import Example
from maple.tasks.reading import SCHEMA, ReadingTask


class Mlqa(ReadingTask):
    name = source = "mlqa"
    size, tokens = 6035, 400  # the mean over the seven languages; a sample of them rarely shares a passage
    splits = ("validation", "test")
    rule = "mlqa"
    # MEGAVERSE evaluates the validation split; then shots come from the nearest other source.
    shots_from = {"test": ("mlqa", "validation"), "validation": ("xquad", "validation")}

    def read(self, folder: Path, language: str, name: str, split: str, repair: bool) -> list[Example]:
        # languages.csv has MLQA's own name, mlqa.de.de; the copy in xtreme writes MLQA.de.de.
        found = rows.read(rows.shards(folder / name.replace("mlqa", "MLQA"), split), SCHEMA)
        return self.from_rows(language, found)
