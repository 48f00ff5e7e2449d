"""Copies of the working tree in which a small grid runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()} | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@localhost",
}  # fmt: skip

LLAMA, MISTRAL = "llama-2-7b-4bit", "mistral-7b-8bit"
SETS = ("multialpaca", "alpaca", "bactrian-x-11")
CELLS = {base: [f"{base}.{key}.r8.s42" for key in SETS] for base in (LLAMA, MISTRAL)}


def tree(folder: Path) -> Path:
    """A fresh clone of the working tree, with two bases, three training sets and the experiment on the first base."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(lambda n: (ROOT / n).exists(), listed.stdout.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink()
    change(folder / "params.yaml", small)
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "copy"]):
        subprocess.run(command, cwd=folder, check=True, env=ENVIRONMENT)
    return folder


def small(params: dict[str, Any]) -> None:
    params["grid"] |= {"bases": [LLAMA, MISTRAL], "datasets": list(SETS), "ranks": [8]}
    params |= {"model": "llama-2-7b", "dataset": "alpaca"}
    params["datasets"] = {key: params["datasets"][key] for key in SETS}
    for options in params["evaluation"]["tasks"].values():
        options["limit"] = 2


def change(path: Path, how) -> None:
    found = yaml.safe_load(path.read_text())
    how(found)
    path.write_text(yaml.safe_dump(found, sort_keys=False))


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
