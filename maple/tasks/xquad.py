"""XQuAD (Artetxe et al. 2020): 1,190 SQuAD questions, professionally translated; parallel over its languages.

Scored as upstream does, by SQuAD v1.1's script: English articles and ASCII punctuation in every language, words by
white space. For Chinese and Thai that is nearly exact match. MEGA takes its shots from SQuAD's training split;
ours come from MLQA's validation split, the nearest among the sources of this project.
"""

from pathlib import Path

from maple.tasks import rows
from maple.tasks.base import Example
from maple.tasks.reading import SCHEMA, ReadingTask


class Xquad(ReadingTask):
    name = source = "xquad"
    size, tokens = 1190, 150  # a fifth of a passage: five questions share one
    splits = ("validation",)
    rule = "squad"
    shots_from = {"validation": ("mlqa", "validation")}

    def read(self, folder: Path, language: str, name: str, split: str, repair: bool) -> list[Example]:
        return self.from_rows(language, rows.read(rows.shards(folder / name, split), SCHEMA))
