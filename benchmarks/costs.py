"""Wall time and peak memory of the verbs, each in a fresh clone of HEAD, written to benchmarks/costs.csv.

    python benchmarks/costs.py /tmp/scratch

Peak memory is that of the largest single process. Run it on a quiet machine; it takes about fifteen minutes.
"""

import csv
import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# In this order, in one clone: each line finds what the lines before it left. Beside each, what the table says of it.
VERBS = {
    "make setup": "",
    "make reproduce": "",
    "dvc repro": "nothing changed",
    "dvc exp run -S lora.r=32": "",
    "make test": "with the packages that only tests need; the container test ran too",
}
COSTS = ROOT / "benchmarks" / "costs.csv"

# Runs a command and prints the peak memory of its largest descendant, in kilobytes.
MEASURE = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"


def main() -> None:
    clone = Path(sys.argv[1]) / "maple-repro"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment["PATH"] = f"{clone / '.venv' / 'bin'}:{environment['PATH']}"
    for verb, note in VERBS.items():
        seconds, peak_gb = measure(verb.split(), clone, environment)
        row = {"command": verb, "seconds": round(seconds), "peak_gb": round(peak_gb, 2), "cores": os.cpu_count()}
        replace(row | {"date": datetime.date.today().isoformat(), "note": note})
        print(row, flush=True)


def replace(row: dict) -> None:
    """Put the row in its command's place in the table; what an ended run had measured stays."""
    with open(COSTS, newline="") as file:
        rows = {known["command"]: known for known in csv.DictReader(file)} | {row["command"]: row}
    half = COSTS.with_name(COSTS.name + ".tmp")
    with open(half, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[verb] for verb in VERBS if verb in rows)
    half.replace(COSTS)


def measure(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak GB of the largest process of a command; ends the script if the command fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return time.perf_counter() - started, int(done.stdout.split()[-1]) / 1e6


if __name__ == "__main__":
    main()
