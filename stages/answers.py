"""Ask all models on a base, or on every base, that have no answers yet: a base is loaded once, and adapters are swapped on it.

    python -m stages.answers --profile paper --base mistral-7b-16bit
    python -m stages.answers --profile paper

What `dvc repro` does model by model, to the same bytes, less the start of each. One base is in memory at a time. DVC is
told after each model, so the same command goes on from there. An adapter that is not trained is left out and named.
"""

import os

from maple.cluster import in_process, into_dvc, ledger, submission
from maple.config import command
from maple.core.errors import MapleError, nearest
from maple.core.progress import Progress
from maple.models.bases import Bases
from maple.planning import plan


def main(params, arguments):
    bases = params.grid.bases
    if arguments.base and arguments.base not in bases:
        raise MapleError(
            f"'{arguments.base}' is no base of the profile {params.profile}",
            why=f"its grid has {', '.join(bases)}",
            do=nearest(arguments.base, bases),
        )
    names = [base.name for base in params.bases if arguments.base in (None, base.name)]
    names += [cell.name for cell in params.cells if arguments.base in (None, cell.base.name)]
    untrained = make(params, names)
    print(f"{len(names) - len(untrained)} of {len(names)} models have answers")
    if untrained:
        print(f"not trained, so not asked: {', '.join(untrained[:3])}{', ...' if len(untrained) > 3 else ''}")
        print(f"next: dvc repro {params.pipeline}:train, or make submit PROFILE={params.profile}")


def make(params, names):
    """Ask what is not asked, base by base; the names of those that are not trained. Raises MapleError if one failed, after
    all others had their turn."""
    works = submission.missing(params, names)
    todo = [work.name for work in works if "train" not in work.verbs]
    todo.sort(key=lambda name: params.grid.bases.index(submission.base_of(params, name)))
    if todo:
        bases, failed = Bases(), []
        with Progress(len(todo), "ask", "models") as bar:
            for name in todo:
                failed += [] if _ask(params, name, bases) else [name]
                bar.advance(1, name)
        in_process.refuse_failed(params, failed, len(todo))
    return [work.name for work in works if "train" in work.verbs]


def _ask(params, name, bases):
    """Whether a model was asked; a failure stays its own."""
    try:
        error = in_process.logged(params, "answer", name, bases)
    except (MapleError, OSError, ValueError, KeyError) as stopped:
        error = str(stopped).partition("\n")[0]
    ledger.write(params, name, "failed" if error else "done", "answer" if error else "", str(os.getpid()), error)
    if not error:
        _, asked = plan.stages_of(params, name)
        into_dvc.take(params, [asked], ())
    return not error


if __name__ == "__main__":
    command.run(__doc__, main, base={"help": "a base of the grid (default: all of them)"})
