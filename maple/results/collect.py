"""Everything that was scored, in three files: scores.csv, cells.json, examples.parquet.

scores.csv has one row per name, task, language and metric, values unrounded from 0 to 1. cells.json holds what
was asked for, what is missing, and each record. examples.parquet has the primary score of every example, one
row group per task and language, for tests that compare cells on the same examples. `collect` writes the folder,
`load` reads it; tables, figures, comparison and report read nothing else.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from maple import tasks
from maple.config.params import EXPERIMENT, Params
from maple.core import storage
from maple.core.errors import MapleError, is_out_of_memory

# What maple/scoring/score_record.py and maple/training/run.py write.
SCORES, ADAPTER = "maple.scores/2", "maple.adapter/1"
# A score further than this from the mean of its examples was not computed from them.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Score:
    """One row of scores.csv. `chance` is None where guessing has no meaning."""

    name: str
    kind: str
    model: str
    bits: int
    dataset: str | None
    rank: int | None
    seed: int | None
    task: str
    language: str
    metric: str
    primary: bool
    value: float
    n: int
    chance: float | None
    signature: str


@dataclass(frozen=True)
class Examples:
    """Primary scores of one task and language: `scores` has shape (names, ids), NaN where a name lacks an example."""

    names: list[str]
    ids: list[str]
    scores: np.ndarray


@dataclass(frozen=True)
class Collected:
    folder: Path
    profile: str
    asked: list[str]
    missing: list[str]
    records: dict[str, dict[str, Any]]
    scores: list[Score]

    def primary(self) -> dict[tuple[str, str, str], Score]:
        """(name, task, language) -> its primary score."""
        return {(s.name, s.task, s.language): s for s in self.scores if s.primary}

    def languages(self, task: str) -> list[str]:
        return self._languages.get(task, [])

    @cached_property
    def _languages(self) -> dict[str, list[str]]:
        found: dict[str, set[str]] = {}
        for score in self.scores:
            found.setdefault(score.task, set()).add(score.language)
        return {task: sorted(codes) for task, codes in found.items()}

    def examples(self, task: str, language: str) -> Examples:
        return read_examples(self.folder / "examples.parquet", task, language)


# -- Collecting ----------------------------------------------------------------------------------------------------


def asked_for(params: Params) -> list[str]:
    """Names of the score folders that the tables need: the grid's cells, their bases, the experiment."""
    return [cell.name for cell in params.cells] + sorted({base.name for base in params.bases}) + [EXPERIMENT]


@dataclass(frozen=True)
class Folders:
    """Where score folders lie, by name, and judgements."""

    scores: Callable[[str], Path]
    judgements: Path

    @classmethod
    def of(cls, params: Params) -> "Folders":
        return cls(partial(params.folder, "scores"), params.artifacts / "judgements")


def collect(
    params: Params, destination: Path, asked: list[str] | None = None, folders: Folders | None = None
) -> Collected:
    """Write the three files from scores, judgements and the adapters' records; of the whole profile, unless `asked`
    names models and `folders` where their scores are.

    MapleError when anything asked for is missing and `tables.accept_missing` is false: an output folder that was
    silently recreated empty must not become a table of empty cells.
    """
    asked, folders = asked or asked_for(params), folders or Folders.of(params)
    judged = "alpaca_eval" in params.evaluation.tasks
    scores, records, missing = [], {}, []
    for name in asked:
        path = folders.scores(name) / "record.json"
        if not path.is_file():
            missing.append(name)
            continue
        found = storage.read_record(path, SCORES)
        if found["profile"] != params.profile:
            raise MapleError(
                f"{path} belongs to profile '{found['profile']}'",
                why=f"profile '{params.profile}' is being collected",
                do=f"delete {path.parent} and run the profile again",
            )
        rows = [_score(name, found, row) for row in found["scores"]]
        judgement = folders.judgements / f"{name}.json"
        if judged and judgement.is_file():
            rows.append(_win_rate(name, found, storage.read_json(judgement)))
        elif judged:
            missing.append(f"{name}/alpaca_eval")
        have = {(row.task, row.language) for row in rows}
        for task, options in params.evaluation.tasks.items():
            if task != "alpaca_eval":
                missing += [f"{name}/{task}/{code}" for code in options.languages if (task, code) not in have]
        records[name] = _record(params, name, found)
        scores += rows
    if missing and not params.tables.accept_missing:
        raise MapleError(
            f"{len(missing)} of the scores asked for are missing, first {missing[0]}",
            why="answer has not finished for them, or a cached folder came back empty",
            do="run `dvc repro`; to go on without them set tables.accept_missing: true, and the tables print `missing`",
        )
    scores = _ordered(scores, asked)
    with storage.folder(destination) as part:
        write(part, params.profile, asked, missing, records, scores)
        groups = sorted({(s.task, s.language) for s in scores}, key=lambda g: (_place(g[0]), g[1]))
        write_examples(part / "examples.parquet", _example_groups(folders, groups, list(records), scores))
    return load(destination)


def _record(params: Params, name: str, found: dict) -> dict:
    """A score record without its scores, and its adapter's record."""
    kept = {key: value for key, value in found.items() if key != "scores"}
    adapter = params.artifacts / "adapters" / name / "record.json"
    return kept | {"adapter": storage.read_record(adapter, ADAPTER) if adapter.is_file() else None}


def _score(name: str, found: dict, row: dict) -> Score:
    coordinates = {key: found[key] for key in ("kind", "model", "bits", "dataset", "rank", "seed")}
    return Score(name=name, **coordinates, **{key: row[key] for key in _ROW})


def _win_rate(name: str, found: dict, judgement: dict) -> Score:
    row = {
        "task": "alpaca_eval",
        "language": "en",
        "metric": "winrate",
        "primary": True,
        "value": judgement["winrate"],
        "n": judgement["n"],
        "chance": None,
        "signature": "@".join(
            filter(None, [f"{judgement['annotator']}:{judgement['reference']}", judgement["endpoint"]])
        ),
    }
    return _score(name, found, row)


_ROW = ("task", "language", "metric", "primary", "value", "n", "chance", "signature")


def _ordered(scores: Iterable[Score], asked: list[str]) -> list[Score]:
    place = {name: i for i, name in enumerate(asked)}
    return sorted(scores, key=lambda s: (place[s.name], _place(s.task), s.language, not s.primary, s.metric))


def _place(task: str) -> int:
    """A task's place among all, by which tables and files are ordered."""
    return list(tasks.TASKS).index(task)


def _example_groups(
    folders: Folders, groups: list[tuple[str, str]], names: list[str], scores: list[Score]
) -> Iterator[tuple[str, str, dict[str, dict[str, float]]]]:
    """(task, language, {name: {id: score}}), one group in memory at a time."""
    primary = {(s.name, s.task, s.language): s for s in scores if s.primary}
    for task, language in groups:
        found = {}
        for name in names:
            score = primary.get((name, task, language))
            if score is None:
                continue
            found[name] = _examples_of(folders, score)
            _check_mean(score, found[name])
        yield task, language, found


def _examples_of(folders: Folders, score: Score) -> dict[str, float]:
    if score.task == "alpaca_eval":
        return storage.read_json(folders.judgements / f"{score.name}.json")["preferences"]
    path = folders.scores(score.name) / f"{score.task}-{score.language}.jsonl.gz"
    if not path.is_file():
        raise MapleError(
            f"{path} is missing",
            why="the record beside it lists its score",
            do="delete the folder and run `dvc repro`",
        )
    rows = storage.read_jsonl_gz(path)
    return {row["id"]: row["scores"][score.metric] for row in rows if score.metric in row["scores"]}


def _check_mean(score: Score, examples: dict[str, float]) -> None:
    mean = math.fsum(examples.values()) / len(examples) if examples else math.nan
    if not abs(mean - score.value) <= TOLERANCE or len(examples) != score.n:
        raise MapleError(
            f"{score.name}: {score.metric} of {score.task}/{score.language} does not follow from its examples",
            why=f"the record says {score.value} over {score.n}, the examples say {mean} over {len(examples)}",
            do="delete the score folder and run `dvc repro`",
        )


# -- Files ---------------------------------------------------------------------------------------------------------


def write(folder: Path, profile: str, asked: list[str], missing: list[str], records: dict, scores: list[Score]) -> None:
    """scores.csv and cells.json; the caller adds examples.parquet."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in dataclasses.fields(Score)])
    table.writerows([_text(value) for value in dataclasses.astuple(score)] for score in scores)
    storage.write_text(folder / "scores.csv", text.getvalue())
    cells = {"schema": "maple.collected/1", "profile": profile, "asked": asked, "missing": missing, "records": records}
    storage.write_json(folder / "cells.json", cells)


_GROUPS = "row groups"


def write_examples(path: Path, groups: Iterable[tuple[str, str, dict[str, dict[str, float]]]]) -> None:
    """One row group per task and language; within it by name in the order given, then by example."""
    label = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema([("name", label), ("task", label), ("language", label), ("id", label), ("score", pa.float32())])
    written = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for task, language, found in groups:
            count = sum(map(len, found.values()))
            place = {}
            ids = [place.setdefault(id, len(place)) for examples in found.values() for id in examples]
            names = np.repeat(np.arange(len(found)), [len(examples) for examples in found.values()])
            columns = [
                _labels(names, list(found)),
                _labels(np.zeros(count), [task]),
                _labels(np.zeros(count), [language]),
                _labels(np.array(ids), list(place)),
                pa.array([score for examples in found.values() for score in examples.values()], pa.float32()),
            ]
            if count:
                writer.write_table(pa.table(columns, schema=schema), row_group_size=count)
                written.append(f"{task} {language}")
        # Finding a group by filtering on its columns would read the whole file each time.
        writer.add_key_value_metadata({_GROUPS: "\n".join(written)})


def _labels(codes: np.ndarray, words: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words, pa.string()))


def read_examples(path: Path, task: str, language: str) -> Examples:
    """Empty lists when the file has no such task and language."""
    try:
        return _examples_in(path, task, language)
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise MapleError(
            f"{path} is damaged or cut short", why=str(error), do="delete it and run `dvc repro`"
        ) from error


def _examples_in(path: Path, task: str, language: str) -> Examples:
    with pq.ParquetFile(path, read_dictionary=["name", "id"]) as file:
        groups = file.metadata.metadata[_GROUPS.encode()].decode().split("\n")
        if f"{task} {language}" not in groups:
            return Examples([], [], np.empty((0, 0), dtype=np.float32))
        table = file.read_row_group(groups.index(f"{task} {language}"), columns=["name", "id", "score"])
    (names, rows), (ids, columns) = _encoded(table["name"]), _encoded(table["id"])
    scores = np.full((len(names), len(ids)), np.nan, dtype=np.float32)
    scores[rows, columns] = table["score"].to_numpy()
    return Examples(names, ids, scores)


def _encoded(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """A text column as its distinct values in order of first use and, per row, the place among them."""
    whole = column.unify_dictionaries().combine_chunks()
    codes, words = whole.indices.to_numpy(), whole.dictionary
    # The dictionary may hold words of other row groups. Of several writes to one place the last wins: going
    # backwards leaves the first use, without sorting a million rows.
    first = np.full(len(words), -1)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    used = np.flatnonzero(first >= 0)
    used = used[np.argsort(first[used])]
    places = np.zeros(len(words), dtype=np.int64)
    places[used] = np.arange(len(used))
    return words.take(pa.array(used)).to_pylist(), places[codes]


def load(folder: Path) -> Collected:
    """Read a folder that `collect` wrote."""
    cells = storage.read_json(folder / "cells.json")
    kinds = {field.name: field.type for field in dataclasses.fields(Score)}
    rows = storage.read_csv(folder / "scores.csv")
    try:
        scores = [Score(**{key: _value(kinds[key], text) for key, text in row.items()}) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise MapleError(
            f"{folder / 'scores.csv'} holds something else", why=repr(error), do="delete it and run `dvc repro`"
        ) from error
    return Collected(folder, cells["profile"], cells["asked"], cells["missing"], cells["records"], scores)


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _value(kind: Any, text: str) -> Any:
    if kind is bool:
        return text == "true"
    if kind in (str, int, float):
        return kind(text)
    return {str | None: str, int | None: int, float | None: float}[kind](text) if text else None
