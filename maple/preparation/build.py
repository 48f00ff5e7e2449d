"""Building a training set: scan the rows, choose by seed instruction, tokenise once per base model, measure.

    prepared/<training set>/tokens/<model>/{train,heldout}.arrow    rows of all ranks and bit widths of that model
    prepared/<training set>/statistics.json    the record; examples.md is its page
    prepared/<training set>/overlap.csv        each pair of training row and evaluation item

Only hashes of all rows stand in memory; text goes through in batches, twice. Batches do not depend on the number of
processes, and neither does a byte of the result.
"""

import contextlib
import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from maple.config import catalogue
from maple.config.catalogue import Source
from maple.config.params import Params, Prepare, TrainingSet
from maple.core import parallel, storage
from maple.core.errors import MapleError
from maple.core.progress import Progress
from maple.preparation import instructions, measure, overlap, page, scan, select, tokenise, training_prompt
from maple.preparation.instructions import Instruction
from maple.preparation.scan import Scan
from maple.preparation.select import PARTS, Selection

SCHEMA = "maple.prepared/1"
BATCH_ROWS = 512
ARROW = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("answer_start", pa.int32()), ("language", pa.string()), ("id", pa.string())]
)


@dataclass(frozen=True)
class Batch:
    """Chosen rows of one language, each with its part (TRAIN or HELDOUT)."""

    language: str
    rows: list[Instruction]
    parts: list[int]


@dataclass(frozen=True)
class Prepared:
    """A batch as a process returns it: model -> part -> Arrow rows, what was measured, and overlapping pairs."""

    tables: dict[str, dict[str, pa.RecordBatch]]
    measured: measure.Measured
    overlap: list[tuple[str, ...]]


def prepare(params: Params, name: str) -> dict[str, Any]:
    """Write artifacts/<profile>/prepared/<name>; returns the record."""
    training_set, settings = params.datasets[name], params.prepare
    source = catalogue.datasets()[training_set.source]
    root = params.artifacts / "sources"
    fetched = storage.read_json(root / "record.json")
    models = {model: tokenise.load(catalogue.models()[model].folder(root)) for model in params.models}

    scans, original = scan_all(source, source.folder(root), training_set.languages, settings)
    chosen = select.select(scans, original, settings, training_set)
    target = params.artifacts / "prepared" / name
    with storage.scratch(params.work) as index, storage.folder(target) as folder, _disk(target):
        items = index_evaluation(params, training_set.languages, index)
        totals, hits = tokenise_all(
            source, root, training_set, settings, models, chosen, index, folder, f"prepare {name}"
        )
        result = {
            "schema": SCHEMA,
            "profile": params.profile,
            "dataset": name,
            "source": source.card() | {"label": source.label, "commit": fetched["datasets"][source.key]["commit"]},
            "settings": {
                "prepare": {k: v for k, v in vars(settings).items() if k != "processes"},
                "training_set": vars(training_set),
            },
        } | statistics(source, scans, chosen, totals, hits, items)
        result["overlap_across"] = overlap_across(params, hits)
        _write_overlap(folder / "overlap.csv", hits)
        storage.write_text(folder / "examples.md", page.page(result, totals.examples))
        storage.write_json(folder / "statistics.json", result)
    return result


@contextlib.contextmanager
def _disk(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"{error}; nothing half-written is kept"
        raise MapleError(
            f"could not write {target}",
            why=why,
            do="free some space or fix the permissions, then run the command again",
        ) from error


def scan_all(source: Source, folder: Path, codes: list[str], settings: Prepare) -> tuple[list[Scan], Scan | None]:
    """A scan per language, and that of the language which the others were translated from."""
    wanted = list(codes) + [source.original] * (source.original is not None and source.original not in codes)
    one = functools.partial(_scan_one, source, folder, settings.unicode, settings.seed)
    found = {}
    with Progress(len(wanted), f"read {source.key}", "languages") as bar:
        for result in parallel.in_order(one, wanted, settings.processes):
            found[result.language] = result
            bar.advance(1, f"{result.language}: {len(result):,} rows")
    return [found[code] for code in codes], found.get(source.original)


def _scan_one(source: Source, folder: Path, form: str, seed: int, language: str) -> Scan:
    return scan.scan(source, folder, language, form, seed)


def index_evaluation(params: Params, codes: list[str], folder: Path) -> dict[str, dict[str, int]]:
    """Hash the evaluation items of each language into `folder`; returns language -> task -> number of items."""
    from maple import tasks

    counts: dict[str, dict[str, int]] = {}
    bar = Progress(len(codes), "evaluation items", "languages")
    for code in codes:
        items = []
        for name, options in params.evaluation.tasks.items():
            if code in options.languages:
                task = tasks.get(name)
                files = catalogue.datasets()[task.source].folder(params.artifacts / "sources")
                for example in task.examples(files, code, options.split, False):
                    texts = {key: value for key, value in example.fields.items() if isinstance(value, str)}
                    items.append(overlap.Item(name, example.id, texts))
                    counts.setdefault(code, {}).setdefault(name, 0)
                    counts[code][name] += 1
        if items:
            overlap.build(items, code, params.prepare.overlap_ngram, folder)
        bar.advance(1, f"{code}: {len(items):,} items")
    return counts


def batches(source: Source, folder: Path, codes: list[str], form: str, chosen: Selection) -> Iterator[Batch]:
    """The chosen rows in the order of languages and files; the second reading of the files."""
    for code in codes:
        parts = chosen.parts[code]
        rows: list[Instruction] = []
        for row in instructions.read(source, folder, [code]):
            if parts[row.row]:
                rows.append(scan.clean(row, form))
            if len(rows) == BATCH_ROWS:
                yield Batch(code, rows, [int(parts[r.row]) for r in rows])
                rows = []
        if rows:
            yield Batch(code, rows, [int(parts[r.row]) for r in rows])


def tokenise_all(source, root, training_set: TrainingSet, settings: Prepare, models, chosen, index, folder, label):
    """Write the Arrow files; returns (what was measured, overlapping pairs)."""
    totals = measure.Totals(settings.max_length)
    hits: list[tuple[str, str, str, str, str, str]] = []
    files = {}
    kept = {model: dict.fromkeys(PARTS, 0) for model in models}
    for model in models:
        (folder / "tokens" / model).mkdir(parents=True)
        files[model] = {
            part: pa.ipc.new_file(str(folder / "tokens" / model / f"{part}.arrow"), ARROW) for part in PARTS
        }
    given = batches(source, source.folder(root), training_set.languages, settings.unicode, chosen)
    total = sum(int((parts > 0).sum()) for parts in chosen.parts.values())
    with Progress(total, label, "rows") as bar:
        waiting: list[Batch] = []

        def noted() -> Iterator[Batch]:
            for batch in given:
                waiting.append(batch)
                yield batch

        results = parallel.in_order(_prepare_batch, noted(), settings.processes, _set_up, models, settings, index)
        for prepared in results:
            batch = waiting.pop(0)
            for model, tables in prepared.tables.items():
                for part, table in tables.items():
                    if table.num_rows:
                        files[model][part].write_batch(table)
                        kept[model][part] += table.num_rows
            totals.add(prepared.measured, batch)
            hits += prepared.overlap
            bar.advance(len(batch.rows), batch.language)
    for parts in files.values():
        for file in parts.values():
            file.close()
    for model, rows in kept.items():
        if not rows["train"]:
            raise MapleError(
                f"{source.key} leaves no row to train {model} on",
                why=f"of {total:,} rows chosen none has a token of its answer within prepare.max_length, {settings.max_length} tokens",
                do="raise prepare.max_length, prepare.rows, or look at the files of the source",
            )
    return totals, hits


_process: dict[str, Any] = {}


def _set_up(models: dict[str, tokenise.Tokeniser], settings: Prepare, index: Path) -> None:
    """What each process opens once."""
    backends = {model: (tokeniser.open(), tokeniser) for model, tokeniser in models.items()}
    _process.update(backends=backends, settings=settings, index=index, language=None, items=None)


def _prepare_batch(batch: Batch) -> Prepared:
    settings: Prepare = _process["settings"]
    pairs = [(training_prompt.prompt(settings.template, row.instruction, row.input), row.output) for row in batch.rows]
    tables, tokens = {}, {}
    for model, (backend, tokeniser) in _process["backends"].items():
        tokens[model] = tokenise.tokenise(backend, tokeniser, pairs, settings.max_length)
        tables[model] = {part: _table(batch, tokens[model], number) for part, number in PARTS.items()}
    hits = _overlap(batch, settings.overlap_ngram)
    backends = {model: backend for model, (backend, _) in _process["backends"].items()}
    return Prepared(tables, measure.measure(batch.language, batch.rows, batch.parts, tokens, backends), hits)


def _table(batch: Batch, tokens: list[tokenise.Tokens], part: int) -> pa.RecordBatch:
    rows = [(r, t) for r, t, p in zip(batch.rows, tokens, batch.parts) if p == part and t.ids is not None]
    lengths = [len(t.ids) for _, t in rows]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32))
    values = pa.array(np.concatenate([t.ids for _, t in rows]) if rows else np.zeros(0, np.int32))
    return pa.RecordBatch.from_arrays(
        [
            pa.ListArray.from_arrays(offsets, values),
            pa.array([t.answer_start for _, t in rows], pa.int32()),
            pa.array([r.language for r, _ in rows], pa.string()),
            pa.array([r.id for r, _ in rows], pa.string()),
        ],
        schema=ARROW,
    )


def _overlap(batch: Batch, n: int) -> list[tuple[str, ...]]:
    """Overlapping pairs as (language, task, item's id, kind, training id, part)."""
    if _process["language"] != batch.language:
        _process.update(language=batch.language, items=overlap.load(_process["index"], batch.language))
    if _process["items"] is None:
        return []
    names = {number: part for part, number in PARTS.items()}
    texts = [(row.instruction, row.input, row.output) for row in batch.rows]
    return [
        (batch.language, task, item, kind, batch.rows[i].id, names[batch.parts[i]])
        for i, task, item, kind in overlap.find(_process["items"], texts, batch.language, n)
    ]


def _write_overlap(path: Path, hits: list[tuple[str, ...]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["language", "task", "item", "overlap", "training_id", "part"])
        writer.writerows(hits)


def overlap_across(params: Params, hits: list[tuple[str, ...]]) -> dict[str, dict[str, int]]:
    """Task -> language -> its items that overlap in another language only: whose translation was trained on.

    For every language that is evaluated, whether the set has rows of it or not. Tasks whose ids say nothing of
    translations are left out.
    """
    from maple import tasks

    found: dict[str, dict[str, set[str]]] = {}
    for language, name, item, *_ in hits:
        found.setdefault(name, {}).setdefault(language, set()).add(item)
    counts: dict[str, dict[str, int]] = {}
    for name, by_language in sorted(found.items()):
        task, options = tasks.get(name), params.evaluation.tasks[name]
        files = catalogue.datasets()[task.source].folder(params.artifacts / "sources")
        for code in options.languages if task.parallel else ():
            ids = {example.id for example in task.examples(files, code, options.split, False)}
            elsewhere = set().union(*(items for other, items in by_language.items() if other != code))
            if across := len(ids & elsewhere - by_language.get(code, set())):
                counts.setdefault(name, {})[code] = across
    return counts


def statistics(
    source: Source, scans: list[Scan], chosen: Selection, totals: measure.Totals, hits, items
) -> dict[str, Any]:
    """The counts of the record."""
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for language, task, item, _, training_id, _ in hits:
        items_found, training_ids = found.setdefault((language, task), (set(), set()))
        items_found.add(item)
        training_ids.add(training_id)
    languages = {}
    for one in scans:
        code = one.language
        languages[code] = {
            "origin": source.origin_in(code),
            "read": len(one),
            **{part: int((chosen.parts[code] == number).sum()) for part, number in PARTS.items()},
            "found": chosen.found[code],
            "dropped": chosen.dropped[code],
            "scripts": totals.scripts(code),
            "outputs_in_other_script": totals.languages[code].foreign_outputs if code in totals.languages else 0,
            "models": totals.models(code),
        }
    return {
        "rows": {"read": sum(len(one) for one in scans)}
        | {part: sum(language[part] for language in languages.values()) for part in PARTS},
        "ids": chosen.ids,
        "languages_per_id": {
            part: {str(n): count for n, count in found.items()} for part, found in chosen.languages_per_id.items()
        },
        "languages": languages,
        "models": totals.models(None),
        "overlap": {
            code: {
                task: dict(zip(("items", "items_found", "rows"), (count, *map(len, found.get((code, task), ((), ()))))))
                for task, count in counts.items()
            }
            for code, counts in items.items()
        },
    }
