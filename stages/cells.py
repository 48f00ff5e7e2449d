"""Train and ask every model of the grid that is out of date, several at a time in processes that share the imports.

    python -m stages.cells

What `dvc repro` does stage by stage, in about a third of the time where models are tiny: there, loading the libraries twice a
cell is most of the work. Each model is made by the same stages in a process of its own, forked when the libraries are
loaded, into the same folders with the same bytes; DVC is told at the end, and `dvc repro` goes on from there.
Stopped, the same command goes on with what is not done. For the smoke profile: a GPU does not survive a fork.
"""

import argparse
import contextlib
import importlib
import multiprocessing
import os
import traceback

from maple.cluster import inputs, into_dvc, ledger, submission
from maple.cluster.task import Task
from maple.config import command
from maple.core.errors import MapleError
from maple.core.progress import Progress


class Forked(Task):
    """A task whose stages run in its own process, their words in the model's log."""

    def _stage(self, given, verb, name):
        return logged(given, verb, name)


def logged(given, verb, name, *more):
    """Run a stage here, its words in the model's log, and note what it was made from; why it failed, empty if it did not.
    `more`: further arguments of the stage."""
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


def main(params, arguments):
    if not params.is_smoke:
        raise MapleError(
            f"the cells of {params.profile} are not forked",
            why="its models run on a GPU, which no second process may use after a fork",
            do=f"run `dvc repro {params.pipeline}`, or `make submit PROFILE={params.profile}`",
        )
    names = submission.names(params)
    if before := into_dvc.before(params, names):
        into_dvc.repro(params, before)
    works = [work.name for work in submission.missing(params, names)]
    if not works:
        return
    _load_libraries()
    failed = []
    forks = multiprocessing.get_context("fork")
    with (
        forks.Pool(len(os.sched_getaffinity(0)), maxtasksperchild=1) as pool,
        Progress(len(works), "train and ask", "models") as bar,
    ):
        for name, is_done in pool.imap_unordered(_make, [(params.profile, name) for name in works], chunksize=1):
            failed += [] if is_done else [name]
            bar.advance(1, name)
    made = into_dvc.stages_of(params, [name for name in works if name not in failed])
    into_dvc.take(params, made, into_dvc.stages_of(params, set(names) - set(works)))
    refuse_failed(params, failed, len(works))


def refuse_failed(params, failed, count):
    """Raise MapleError if some of `count` models failed, with the first one's reason."""
    if failed:
        state, _ = ledger.read(params, failed[0])
        raise MapleError(
            f"{len(failed)} of {count} models failed: {', '.join(failed[:3])}",
            why=f"{failed[0]}: {state.error}",
            do=f"{ledger.log(params, failed[0])} has all of it; mend that, then run the same command again",
        )


def _make(work):
    profile, name = work
    try:
        Forked(profile, os.getcwd(), [name])()
    except RuntimeError:
        return name, False
    return name, True


def _load_libraries():
    """All that the stages import late, before the first fork; no computation, whose threads a fork would lose."""
    import peft  # noqa: F401

    from maple.answering import generate, loglikelihood  # noqa: F401
    from maple.models import loading  # noqa: F401
    from maple.training import adapter_folder, batches, loop, run  # noqa: F401


if __name__ == "__main__":
    command.run(__doc__, main)
