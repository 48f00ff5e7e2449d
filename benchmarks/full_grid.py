"""Tables, figures, comparison and report of a made-up grid of the paper's size: seconds, memory, size of the page.

    python benchmarks/full_grid.py [EXAMPLES]

120 cells, 6 bases and the experiment over 40 languages; EXAMPLES per task and language (default 900, Belebele's
number). Each stage runs as in the pipeline, in a process of its own. With Chromium installed the page is opened too.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import answers  # noqa: E402  (the tests' made-up grid)
import browser  # noqa: E402
import synthetic  # noqa: E402

from maple.config import params

STAGES = ("tables", "figures", "compare", "report")


def main(examples: int = 900) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for shared in ("paper_tables/published", "paper_tables/claims.yaml", "profiles", "docs", "sources.yaml"):
            Path(shared).parent.mkdir(parents=True, exist_ok=True)
            Path(shared).symlink_to(ROOT / shared)
        settings = params.load("paper")
        synthetic.write(settings.artifacts / "collected", examples)
        answers.write(settings, synthetic.names(), per_group=1)
        total = 0.0
        for stage in STAGES:
            seconds, processor, peak_gb = run(stage)
            total += seconds
            print(f"{stage:8} {seconds:6.1f} s  {processor:5.1f} s of processor  {peak_gb:.2f} GB", flush=True)
        print(f"{'all':8} {total:6.1f} s")
        page = (settings.artifacts / "report" / "report.html").read_text(encoding="utf-8")
        print(f"page     {len(page.encode('utf-8')) / 1e6:6.2f} MB")
        if browser.CHROMIUM:
            seen = browser.browse(page, Path(folder), "1280,900", synthetic.names()[0])
            print(f"opened   {seen['loaded'] / 1000:6.2f} s in Chromium, {len(seen['errors'])} errors")


def run(stage: str) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak memory in GB of one stage; only its errors reach the screen."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", f"stages.{stage}", "--profile", "paper"],
        environment,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{stage} failed")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
