"""A model's answers to some of the tasks and languages that it was asked."""

import shutil
from pathlib import Path

from maple.config.params import Evaluation
from maple.core import storage
from maple.core.errors import MapleError
from maple.scoring.score_record import ANSWERS


def take(whole: Path, evaluation: Evaluation, destination: Path) -> None:
    """Write the answer folder that asking `evaluation` alone would have given, from one that has more."""
    record = storage.read_record(whole / "record.json", ANSWERS)
    sheets = {(sheet["task"], sheet["language"]): sheet for sheet in record["sheets"]}
    wanted = [(task, code) for task, options in evaluation.tasks.items() for code in options.languages]
    missing = [key for key in wanted if key not in sheets]
    if missing:
        raise MapleError(
            f"{whole} has no answers for {' '.join(missing[0])}",
            why="it was asked under other parameters",
            do="run `dvc repro`, which asks the model again",
        )
    with storage.folder(destination) as folder:
        for task, code in wanted:
            shutil.copyfile(whole / f"{task}-{code}.jsonl.gz", folder / f"{task}-{code}.jsonl.gz")
        storage.write_json(folder / "record.json", record | {"sheets": [sheets[key] for key in wanted]})
