"""The benchmarks run: evaluation takes no made row for a real one, and the plan reads what training measured."""

import argparse
import csv
import dataclasses
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import upstream

from benchmarks import evaluate
from maple.answering.questions import sheet
from maple.config import params
from maple.core.errors import MapleError
from maple.models import shapes
from maple.planning import cell_cost

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    upstream.write(folder / "datasets")
    return folder


def asked(sources, language: str = "zh", only: str | None = "XCOPA,XQuAD written", shots: int = 0) -> dict:
    return evaluate.workloads(5, shots, argparse.Namespace(sources=str(sources), language=language, only=only))


def test_the_benchmark_of_evaluation_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate", "--ours-only", "--rows", "4", "--shots", "0", "--rounds", "1"])
    evaluate.main()
    logging.disable(logging.NOTSET)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:18].strip() for line in lines[2:]] == [
        "XCOPA",
        "XNLI words",
        "Belebele letters",
        "Belebele texts",
        "XQuAD written",
    ]


def test_real_rows_are_the_first_of_their_file_so_that_passages_are_shared(sources):
    for task, (name, questions) in zip(("xcopa", "xquad"), asked(sources).items(), strict=True):
        assert name.endswith(" zh")
        options = dataclasses.replace(params.load().evaluation.tasks[task], limit=None, shots=0)
        assert [q.example for q in questions] == sheet(task, "zh", options, sources / "datasets", 42).examples[:5]


def test_rows_that_sources_lacks_are_an_error_with_the_command_that_fetches_them(sources, tmp_path):
    with pytest.raises(MapleError, match="xcopa/vi/test-.*is not there") as error:
        asked(sources, "vi")
    assert "python -m stages.verify_rows --profile paper --task xcopa --languages vi" in error.value.do
    with pytest.raises(MapleError, match="xquad/xquad.vi/validation-.*is not there"):
        asked(sources, "vi", only="XQuAD written")
    with pytest.raises(MapleError, match="xcopa has no language 'xx'"):
        asked(sources, "xx")
    with pytest.raises(MapleError, match="is not there"):
        asked(tmp_path)
    # XQuAD's shots would come from elsewhere, and Belebele has none: with shots their rows are made ones.
    assert list(asked(sources, only="XQuAD written,Belebele letters", shots=2)) == ["Belebele letters", "XQuAD written"]


def test_the_training_benchmark_s_speed_is_the_one_that_the_plan_takes(tmp_path, monkeypatch):
    table = tmp_path / "throughput.csv"
    heading = (ROOT / "benchmarks" / "throughput.csv").read_text().splitlines()[0]
    before = "CPU,tiny,train,4,8,stock,no,,0.5,,,,an earlier run,2026-01-01"  # its place is taken
    table.write_text(f"{heading}\n{before}\n")
    command = [sys.executable, "benchmarks/train.py", "--self-check", "--bits", "4", "--systems", "stock"]
    done = subprocess.run([*command, "--throughput", str(table)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(table.open())
    shutil.copy(cell_cost.TABLES / "devices.csv", tmp_path)
    monkeypatch.setattr(cell_cost, "TABLES", tmp_path)
    recipe, rows = params.load("smoke").recipe, cell_cost.RowCounts(100, 50.0, 0.5, assumed=False)
    (cpu,) = [device for device in cell_cost.devices() if device.name == "CPU"]
    shape = shapes.Shape(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, intermediate=192, vocabulary=2048)
    measured = cell_cost.speed(cpu, "tiny", shape, 4, 8, dataclasses.replace(recipe, path="stock"), rows)
    assert measured == cell_cost.Speed(float(row["tokens_per_second"]), "measured") and measured.tokens_per_second > 1
    assert cell_cost.speed(cpu, "tiny", shape, 4, 8, recipe, rows).origin == "scaled"
    assert "ours, packing alone" in done.stdout


def test_every_aim_for_a_gpu_is_printed_with_the_least_that_was_measured_of_it():
    from benchmarks import gpu

    table = gpu.aims({"training, TRL's best": [(3.2, "16 bits, rank 8"), (2.1, "4 bits, rank 8")]}).splitlines()
    lines = {line[:40].strip(): line[40:].split() for line in table[1:-1]}
    assert list(lines) == list(gpu.AIMS)
    assert lines.pop("training, TRL's best") == "2.5 x 2.1 4 bits, rank 8, the least of 2".split()
    assert all(line[-2:] == ["not", "run"] for line in lines.values())


def test_the_benchmark_of_decoding_counts_fewer_operations_on_a_gpu_s_way(monkeypatch, capsys):
    from benchmarks import decoding

    monkeypatch.setattr(decoding, "LAYERS", 2)
    monkeypatch.setattr(sys, "argv", ["decoding", "--rounds", "1"])
    decoding.main()
    counts = [float(line.split("PU")[1].split()[0]) for line in capsys.readouterr().out.splitlines()[2:]]
    base, base_on_gpu, adapter, adapter_on_gpu = counts
    assert base_on_gpu < 0.6 * base and adapter_on_gpu < 0.6 * adapter
