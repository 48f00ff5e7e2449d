"""Every command in README and docs exists and parses; every linked file and named path is there.

The commands are run elsewhere: `make reproduce` in tests/whole/test_container.py, the experiments in
tests/whole/test_reproduce.py, `make test` by this run.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "requirements").glob("*.md")])
VERBS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(page: Path) -> list[str]:
    """Lines of the page's shell blocks, comments and continuations resolved, split at && and pipes."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [part for line in lines for part in re.split(r"&&|\||;", re.sub(r"\s+# .*|^#.*", "", line)) if part.strip()]


ALL = [(page.name, command.strip()) for page in PAGES for command in commands(page)]


def dvc_accepts(words: list[str]) -> bool:
    from dvc.cli import DvcParserError, parse_args

    try:
        parse_args(words)
    except DvcParserError:
        return False
    return True


def options(words: list[str]) -> set[str]:
    return {w for w in words if w.startswith("--")}


def accepted(module: str) -> set[str]:
    """The options that a stage's help lists."""
    shown = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT).stdout
    return set(re.findall(r"--[a-z-]+", shown))


@pytest.mark.parametrize("page, command", ALL, ids=[f"{page}: {command}" for page, command in ALL])
def test_a_command_in_the_docs_exists_and_parses(page, command):
    words = [w for w in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=.*", w)]
    if not words or words[0] in {"export", ".", "cd"}:
        return
    if words[0] == "make":
        assert set(words[1:]) <= VERBS
        given = next((w.removeprefix("ARGS=") for w in shlex.split(command) if w.startswith("ARGS=")), "")
        assert not given or options(shlex.split(given)) <= accepted(f"stages.{words[1]}")
    elif words[0] == "dvc":
        assert dvc_accepts([w for w in words[1:] if w != "--wait-for-lock"])
    elif words[0] in {"python", "accelerate"}:
        module = words[words.index("-m") + 1] if "-m" in words else None
        if module is None:
            assert (ROOT / words[1]).exists(), words[1]
        elif module.startswith(("stages.", "maple.", "benchmarks.")):
            assert (ROOT / (module.replace(".", "/") + ".py")).exists()
            assert options(words[words.index("-m") :]) <= accepted(module)
    elif words[0] == "docker":
        assert words[1] in {"build", "run", "compose"} and (ROOT / "Dockerfile").exists()
    elif words[0] in {"apptainer", "sky"}:
        # What is in the files: tests/cluster/test_containers.py.
        assert all((ROOT / w).exists() for w in words if w.startswith("containers/"))
    else:
        assert words[0] in {"diff", "grep", "git", "uv", "pip", "pip-audit", "bash", "rm"}, f"what checks `{words[0]}`?"


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_every_link_leads_to_a_file(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [t for t in targets if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_every_path_in_backticks_is_there(page):
    named = re.findall(
        r"`((?:maple|stages|tests|benchmarks|docs|paper_tables|profiles|requirements)/[\w./-]*)`", page.read_text()
    )
    assert [n for n in named if not (ROOT / n).exists()] == []


def test_the_generated_parts_of_the_readme_are_up_to_date():
    assert subprocess.run([sys.executable, "docs/fill.py", "--check"], cwd=ROOT).returncode == 0


def test_every_verb_has_help_and_the_readme_names_the_two_that_matter():
    assert {"help", "setup", "check", "plan", "reproduce", "test", "compare", "report", "clean"} <= VERBS
    assert "make reproduce" in (ROOT / "README.md").read_text() and "make test" in (ROOT / "README.md").read_text()
