"""Train and ask every model of the grid that is out of date, several at a time in processes that share the imports.

    python -m stages.cells

What `dvc repro` does stage by stage, in about a third of the time where models are tiny: there, loading the libraries twice a
cell is most of the work. Each model is made by the same stages in a process of its own, forked when the libraries are
loaded, into the same folders with the same bytes; DVC is told at the end, and `dvc repro` goes on from there.
Stopped, the same command goes on with what is not done. For the smoke profile: a GPU does not survive a fork.
"""

import multiprocessing
import os

from maple.cluster import in_process, into_dvc, submission
from maple.cluster.task import Task
from maple.config import command
from maple.core.errors import MapleError
from maple.core.progress import Progress


class Forked(Task):
    """A task whose stages run in its own process, their words in the model's log."""

    def _stage(self, given, verb, name):
        return in_process.logged(given, verb, name)


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
    failed = _make_all(params, works) if works else []
    # Also what a run that was killed before this line had made.
    earlier = into_dvc.untaken(params, [name for name in names if name not in works])
    made = into_dvc.stages_of(params, [name for name in works if name not in failed]) + earlier
    into_dvc.take(params, made, set(into_dvc.stages_of(params, set(names) - set(works))) - set(earlier))
    in_process.refuse_failed(params, failed, len(works))


def _make_all(params, works):
    """Train and ask these models; the names of those that failed."""
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
    return failed


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
