"""Every example's scores in one long table: a row per model, task, language, example and metric.

pandas.read_parquet("examples.parquet").groupby(["name", "task", "metric"]).score.mean()
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maple.core import storage
from maple.exchange.scored import Scored

OF_MODEL = ("name", "kind", "model", "bits", "evaluated_bits", "dataset", "rank", "seed")
COLUMNS = (*OF_MODEL, "task", "language", "id", "metric", "score", "prediction", "reference")

# Parquet compresses group by group: small ones hardly at all, large ones take memory.
GROUP_ROWS = 100_000


def tables(models: list[Scored]) -> Iterator[list[dict[str, Any]]]:
    """The rows of one task and language of one model at a time: the whole may not fit into memory."""
    for model in models:
        described = {key: model.answers[key] for key in OF_MODEL}
        for sheet in model.answers["sheets"]:
            yield [
                described
                | {
                    "task": sheet["task"],
                    "language": sheet["language"],
                    "id": row["id"],
                    "metric": metric,
                    "score": score,
                }
                | {"prediction": str(row["prediction"]), "reference": _text(row["reference"])}
                for row in model.rows(sheet)
                for metric, score in row["scores"].items()
            ]


def write_csv(models: list[Scored], path: Path) -> None:
    with storage.replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for rows in tables(models):
            writer.writerows(rows)
        text.flush()
        text.detach()


def write_parquet(models: list[Scored], path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    whole, number, word = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    types = {"bits": whole, "evaluated_bits": whole, "rank": whole, "seed": whole, "score": number}
    schema = pyarrow.schema([(name, types.get(name, word)) for name in COLUMNS])
    with storage.replacing(path) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        waiting: list[dict[str, Any]] = []
        for rows in tables(models):
            waiting += rows
            if len(waiting) >= GROUP_ROWS:
                writer.write_table(pyarrow.Table.from_pylist(waiting, schema))
                waiting = []
        writer.write_table(pyarrow.Table.from_pylist(waiting, schema))


def _text(reference: Any) -> str:
    """Several right answers become one text, as a cell holds one."""
    return " | ".join(map(str, reference)) if isinstance(reference, list) else str(reference)
