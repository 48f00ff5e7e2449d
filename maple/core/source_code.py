"""Which files of this project a file imports: what a result depends on follows from the code, not from a list."""

import ast
from collections.abc import Collection, Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported(path: Path) -> set[Path]:
    """Files of `maple` that a file imports itself, at the top or inside a function; a package counts as its __init__."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "maple":
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "maple"]
        else:
            continue
        for name in names:
            base = ROOT.joinpath(*name.split("."))
            found |= {file for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists()}
    return found


def closure(paths: Iterable[Path], without: Collection[str] = ()) -> set[Path]:
    """The files themselves and all that they import, directly or through others; not what packages `without` hold."""
    seen, todo = set(), list(paths)
    while todo:
        path = todo.pop()
        if path not in seen and package_of(path) not in without:
            seen.add(path)
            todo += imported(path)
    return seen


def package_of(path: Path) -> str:
    """`training` for maple/training/loop.py; empty for a file outside of maple's packages."""
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "maple" and len(parts) > 2 else ""
