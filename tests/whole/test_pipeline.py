"""The DVC graph: both profiles share it, every stage is described, and dependencies are what the code imports."""

import ast
import re
from pathlib import Path

import pytest
import yaml

STAGES = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]

# Modules that a stage may use without depending on them: they move bytes and messages, never a number.
PLUMBING = {"__init__", "errors", "record", "stage", "params", "cell", "progress", "environment", "sources"}


def body(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


def imports(path: Path) -> set[Path]:
    """Files of this project that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "maple":
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "maple"]
        else:
            continue
        for name in names:
            base = Path(*name.split("."))
            found |= {p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()}
    return found


def closure(stage: str) -> set[str]:
    """What stages/<stage>.py imports, directly or through other modules; a package counts as its folder."""
    seen, todo = set(), [Path("stages", f"{stage}.py")]
    while todo:
        path = todo.pop()
        for other in imports(path):
            if other not in seen and other.stem not in PLUMBING | {"smoke"} or (other.stem == "__init__" and other.parent != Path("maple") and other not in seen):
                seen.add(other)
                todo += sorted(other.parent.rglob("*.py")) if other.stem == "__init__" else []
                todo.append(other)
    found = {str(p if p.parent == Path("maple") else Path(*p.parts[:2])) for p in seen if p != Path("maple/__init__.py")}
    return found | ({"maple/upstream/languages.csv"} if "maple/upstream/languages.py" in found else set())


def code_of(name: str) -> str:
    return re.search(r"python -m stages\.(\w+)", body(name)["cmd"])[1]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_uses(name):
    stated = {dep for dep in body(name)["deps"] if dep.startswith(("maple/", "stages/"))}
    assert stated - {f"stages/{code_of(name)}.py"} == closure(code_of(name))


def test_both_profiles_share_one_graph():
    assert Path("profiles/paper/dvc.yaml").read_text() == Path("dvc.yaml").read_text()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_does_and_runs_in_the_root(name):
    assert body(name)["desc"] and body(name)["wdir"] == "${root}"


def test_the_experiment_runs_the_same_commands_as_the_grid():
    for verb in ("train", "evaluate"):
        assert code_of(verb) == code_of(f"{verb}_experiment")
        of_code = [{d for d in body(n)["deps"] if d.endswith(".py") or "/" not in d} for n in (verb, f"{verb}_experiment")]
        assert of_code[0] == of_code[1]


def test_grid_stages_do_not_depend_on_the_experiments_parameters():
    for name in ("train", "evaluate", "evaluate_base"):
        keys = body(name)["params"][0]["${params_file}"]
        assert not {"lora", "train", "quantisation", "dataset"} & set(keys)


def test_tables_and_metrics_never_retrain():
    assert not {d for d in closure("train") if re.search("tables|compare|figures|report|metrics|tasks|claims|scoring", d)}
