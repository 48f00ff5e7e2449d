"""Copies of the working tree in which the pipeline runs, on a small grid unless a test needs the whole one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@localhost",
    "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",  # any use of the network fails
}  # fmt: skip


def tree(folder: Path, settle: Callable[[dict[str, Any]], None]) -> Path:
    """What a fresh clone of the working tree as it is now would hold, with parameters that `settle` has changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(lambda n: (ROOT / n).exists(), listed.stdout.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    change(folder / "params.yaml", settle)
    # What it says of another grid's cells would stay in it.
    (folder / "dvc.lock").unlink()
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "copy"]):
        run(folder, *command)
    return folder


def change(path: Path, how: Callable[[dict[str, Any]], None]) -> None:
    found = yaml.safe_load(path.read_text())
    how(found)
    path.write_text(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))


def run(folder: Path, *command: str, code: int = 0, environment: dict[str, str] = ENVIRONMENT) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)  # fmt: skip
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}"
    return done.stdout


def stage(folder: Path, name: str, *options: str, **more: Any) -> str:
    return run(folder, sys.executable, "-m", f"stages.{name}", *options, **more)


def lock(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "dvc.lock").read_text())["stages"]


def ran(output: str) -> list[str]:
    """The stages that DVC says it ran."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
