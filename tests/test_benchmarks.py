"""The training benchmark runs on the tiny model, and the plan reads what it measured."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

from maple import estimate, params

ROOT = Path(__file__).parents[1]


def test_the_training_benchmark_s_speed_is_the_one_that_the_plan_takes(tmp_path, monkeypatch):
    table = tmp_path / "throughput.csv"
    heading = (ROOT / "benchmarks" / "throughput.csv").read_text().splitlines()[0]
    before = "CPU,tiny,4,8,stock,no,0.5,an earlier run,2026-01-01"  # its place is taken
    table.write_text(f"{heading}\n{before}\n")
    command = [sys.executable, "benchmarks/train.py", "--self-check", "--bits", "4", "--systems", "stock", "trainer"]
    done = subprocess.run([*command, "--throughput", str(table)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(table.open())
    monkeypatch.setattr(estimate, "TABLES", tmp_path)
    recipe = params.load("smoke").recipe
    stock = dataclasses.replace(recipe, path="stock")
    assert estimate.measured("CPU", "tiny", 4, 8, stock) == float(row["tokens_per_second"]) > 1
    assert estimate.measured("CPU", "tiny", 4, 8, recipe) is None and "ours, packing alone" in done.stdout
