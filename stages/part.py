"""What makes a part's results, beside DVC's own: its cells through DVC's stages, scores and tables' input in a work folder.

DVC scores and collects whole grids only. Adapters, and answers where all is asked, are DVC's; answers to a few tasks and
languages stand in the work folder of the answer stage, which goes on from them when the whole grid is run.
"""

import subprocess
import sys
from pathlib import Path

from maple.core.errors import MapleError
from maple.core.progress import Progress
from maple.models.bases import Bases
from maple.parts import answers
from maple.planning import plan
from maple.results import collect, tables
from maple.scoring import score_record
from stages import answer, judge
from stages import answers as asking


def make(params, part):
    """Train the part's cells, and ask them where all is asked; what is up to date is not run again."""
    stages = [stage for name in part.names for stage in plan.stages_of(params, name)[:1] if stage]
    targets = [f"{params.pipeline}:{stage}" for stage in stages or ["download"]]
    if subprocess.run([sys.executable, "-m", "dvc", "repro", *targets], check=False).returncode:
        raise MapleError(
            "the part was not made",
            why="a stage failed; its message is above",
            do="mend that, then run the same command again: finished stages are kept",
        )
    if part.asks_all_of(params):
        asking.make(params, part.names)


def results(params, part, folder):
    """tables.Results of a part whose cells are made; answers, scores, judgements and collected.* in `folder`."""
    return scored(part.params, answers_of(params, part, folder), folder)


def scored(params, places, folder):
    """tables.Results of answer folders, by model; scores, judgements and what is collected of them in `folder`."""
    with Progress(len(places), "score", "models") as bar:
        for name, place in places.items():
            score_record.score(place, params.evaluation, params.scoring, folder / "scores" / name)
            bar.advance(1, name)
    if "alpaca_eval" in params.evaluation.tasks:
        judge.judge(params, [place / judge.FILE for place in places.values()], folder / "judgements")
    folders = collect.Folders(lambda name: folder / "scores" / name, folder / "judgements")
    return tables.Results(collect.collect(params, folder / "collected", list(places), folders), params)


def answers_of(params, part, folder) -> dict[str, Path]:
    """Model -> its answers to what the part asks: DVC's where they have all of it, else asked now."""
    if part.asks_all_of(params):
        return {name: params.folder("answers", name) for name in part.names}
    found, bases = plan.outdated(params, part.names), Bases()
    places = {}
    for name in part.names:
        whole, places[name] = params.folder("answers", name), folder / "answers" / name
        current = found is not None and not set(plan.stages_of(params, name)) & found.again
        if current and (whole / "record.json").is_file() and not part.fewer_rows(params):
            answers.take(whole, part.params.evaluation, places[name])
        else:
            kept = folder / "predictions" if part.fewer_rows(params) else None
            answer.ask(part.params, name, places[name], kept, bases)
    return places
