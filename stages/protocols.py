"""Table 1 under the protocol of the authors' follow-up: which cells move by more than 0.02.

    python -m stages.protocols --profile smoke
    python -m stages.protocols --profile smoke --ask

Without --ask, nothing is asked: the grid's stored answers are scored again by the follow-up's metric, on a CPU. With --ask,
every cell is also asked as the follow-up asks, which takes what `make plan` says for an evaluation; answers are kept, and the
adapters stay as they are. What it writes is no input of any stage.
"""

import dataclasses

from maple.config import command
from maple.core import storage
from maple.core.errors import MapleError
from maple.models.bases import Bases
from maple.parts import answers, readings
from maple.planning import plan
from maple.results.render import to_csv, to_markdown
from maple.results.tables import PAPER_TASKS
from maple.tasks import protocols
from stages import answer, part


def main(params, arguments):
    if params.evaluation.protocol != protocols.DEFAULT or params.scoring.protocol != protocols.DEFAULT:
        raise MapleError(
            f"the {params.profile} profile has the protocol {params.evaluation.protocol} itself",
            why="the table holds other protocols against the default one",
            do="set evaluation.protocol to default and scoring.protocol to null",
        )
    names = [cell.name for cell in params.cells]
    known = plan.outdated(params, names)
    if known is None or known.again:
        raise MapleError(
            "the grid's answers may not be those that the parameters ask for",
            why=f"{sorted(known.again)[0]} is out of date" if known else "DVC could not be asked, as while it runs",
            do=f"run `dvc repro {params.pipeline}:score` first",
        )
    folder = params.work / "protocols"
    default = of_table_1(params, protocols.DEFAULT)
    stored = {}
    for name in names:
        stored[name] = folder / "answers" / name
        answers.take(params.folder("answers", name), default.evaluation, stored[name])
    followup = of_table_1(params, "followup")
    metric = dataclasses.replace(default, scoring=followup.scoring)
    reference = part.scored(default, stored, folder / "default")
    others = {"the follow-up's metric": part.scored(metric, stored, folder / "metric")}
    if arguments.ask:
        asked = {name: folder / "followup" / "answers" / name for name in stored}
        bases = Bases()
        for name, place in asked.items():
            answer.ask(followup, name, place, folder / "followup" / "predictions", bases)
        others["the follow-up's prompts, shots and metric"] = part.scored(followup, asked, folder / "followup")
    cells = readings.compared(reference, others)
    table = readings.table(cells, reference.label)
    storage.write_text(folder / "protocols.csv", to_csv(table))
    storage.write_text(folder / "protocols.md", to_markdown(table))
    print(to_markdown(readings.table([cell for cell in cells if cell.moved], reference.label)))
    for reading in others:
        moved = sum(cell.moved for cell in cells if cell.reading == reading)
        print(f"{reading}: {moved} of {sum(cell.reading == reading for cell in cells)} cells of Table 1 move")
    if not arguments.ask:
        print("--ask also asks the models as the follow-up does")
    print(f"all of them: {folder / 'protocols.md'}")


def of_table_1(params, protocol):
    """The parameters under a protocol, for the tasks of Table 1 alone: no judge is needed."""
    tasks = {task: options for task, options in params.evaluation.tasks.items() if task in PAPER_TASKS}
    evaluation = dataclasses.replace(params.evaluation, tasks=tasks, protocol=protocol)
    scoring = dataclasses.replace(params.scoring, protocol=protocol)
    return dataclasses.replace(params, evaluation=protocols.applied(evaluation), scoring=scoring)


if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        ask={"action": "store_true", "help": "also ask every cell as the follow-up does"},
    )
