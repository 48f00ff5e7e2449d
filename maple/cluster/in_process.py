"""Stages run in this process, one model's after another's; what a failure leaves is the reason in the model's log."""

import argparse
import contextlib
import importlib
import os
import traceback
from typing import Any

from maple.cluster import inputs, ledger
from maple.cluster.inputs import Verb
from maple.config.params import Params
from maple.core.errors import MapleError


def logged(given: Params, verb: Verb, name: str, *more: Any) -> str:
    """Run a stage here, its words in the model's log, and note what it was made from; why it failed, empty if it did not.

    `more`: further arguments of the stage.
    """
    started_from = inputs.of(given, verb, name)
    ledger.unstamp(given, verb, name)
    ledger.write(given, name, "running", verb, str(os.getpid()))
    path = ledger.log(given, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            importlib.import_module(f"stages.{verb}").main(given, argparse.Namespace(name=name), *more)
        except Exception as error:
            traceback.print_exc()
            return str(error).partition("\n")[0] or type(error).__name__
    ledger.stamp(given, verb, name, started_from)
    return ""


def refuse_failed(params: Params, failed: list[str], count: int) -> None:
    """Raise MapleError if some of `count` models failed, with the first one's reason."""
    if failed:
        state, _ = ledger.read(params, failed[0])
        raise MapleError(
            f"{len(failed)} of {count} models failed: {', '.join(failed[:3])}",
            why=f"{failed[0]}: {state.error}",
            do=f"{ledger.log(params, failed[0])} has all of it; mend that, then run the same command again",
        )
