"""The packages that ours is compared with: skipped where they are not installed, an error where they do not import."""

import importlib
import importlib.util
from types import ModuleType

import pytest


def package(module: str) -> ModuleType:
    name = module.split(".")[0]
    if importlib.util.find_spec(name) is None:
        pytest.skip(
            f"{name} is not installed (`make test` installs it, requirements/test.txt)", allow_module_level=True
        )
    return importlib.import_module(module)
