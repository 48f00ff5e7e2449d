"""benchmarks/throughput.csv: speeds that were measured, as `make plan` reads them (maple/planning/cell_cost.py)."""

import csv
from pathlib import Path

from maple.core import storage

# What a speed was measured of; the rest of a row is what was found, and when.
SETTING = ("device", "shape", "work", "bits", "rank", "path", "checkpointing", "settings")
COLUMNS = (*SETTING, "tokens_per_second", "share_of_peak", "peak_gb", "torch", "source", "date")


def remember(found: list[dict], path: Path) -> None:
    """Put rows into the table, in place of those measured before in the same setting. `work` is train, read or write."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    setting = lambda row: tuple(str(row.get(key) or "") for key in SETTING)
    table = {setting(row): row for row in [*rows, *found]}
    storage.write_csv(path, [{key: table[one].get(key, "") for key in COLUMNS} for one in sorted(table)], list(COLUMNS))
