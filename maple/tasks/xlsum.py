"""XLSum (Hasan et al. 2021): summarise a BBC article in its own language; ROUGE against BBC's summary.

Files are named by English language name, as in languages.csv. Chinese and Serbian have two variants each; both are
read, and the language's score is over both. metrics/rouge.py states the segmentation per script.
"""

from pathlib import Path

from maple.core.errors import MapleError
from maple.tasks import rows
from maple.tasks.base import Example, Task

_SCHEMA = {"id": str, "title": str, "text": str, "summary": str}


class Xlsum(Task):
    name = source = "xlsum"
    parallel = False
    size, tokens = (
        4000,
        2000,
    )  # assumed: sizes differ by language and most exceed the paper profile's limit. Long articles
    splits = ("validation", "test")
    rule = "rouge"
    long_field = "text"
    shots_from = {"test": ("xlsum", "validation"), "validation": ("xlsum", "train")}

    def read(self, folder: Path, language: str, name: str, split: str, repair: bool) -> list[Example]:
        paths = sorted((folder / name / split).glob("*.parquet"))
        if not paths:
            raise MapleError(
                f"{folder / name / split} holds no parquet file",
                why="the source is not downloaded for this language and split",
                do="run the download stage",
            )
        return [
            Example(row["id"], language, {key: row[key] for key in ("title", "text", "summary")}, row["summary"])
            for _, _, row in rows.read(paths, _SCHEMA)
        ]
