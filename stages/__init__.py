"""The verbs: one file per DVC stage. Each reads its inputs, calls `maple`, and writes its outputs."""

import gc
import importlib.util
import sys

# `dvc` may come from the environment while the `python` that its stages name is another one, first in PATH.
if sys.version_info < (3, 11) or importlib.util.find_spec("pydantic") is None:
    sys.exit(
        f"{sys.executable} is not the environment's Python\n"
        "  why: another one stands first in PATH, without this artifact's packages\n"
        "  do:  . .venv/bin/activate, or use the verbs of the Makefile, which do"
    )

# Importing torch and transformers makes a million objects and drops none: looking for garbage all the while took a
# fifth of the time. `environment.settle` puts the threshold back before a model is loaded.
gc.set_threshold(100_000)
