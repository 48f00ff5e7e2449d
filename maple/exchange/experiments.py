"""`dvc exp show` for people: of its seventy columns those that differ, scores first, then the parameters that moved them."""

import csv
import io

# Of every row, what DVC says beside metrics, parameters and dependencies.
ABOUT = ("rev", "typ", "Created", "parent", "State", "Executor")


def table(shown: str) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the text of `dvc exp show --csv --only-changed`: the average, other scores, parameters.

    >>> table("Experiment,rev,typ,Created,xcopa.accuracy,average,params.yaml:lora.r,maple/models\\n"
    ...       ",workspace,baseline,,0.4,0.2,32,abc\\nkind-owl,1,branch_base,2026-01-31T12:00:00,0.5,0.3,8,abd\\n")
    (['experiment', 'average', 'xcopa.accuracy', 'lora.r'], [['workspace', '0.2', '0.4', '32'], ['kind-owl', '0.3', '0.5', '8']])
    """
    found = list(csv.DictReader(io.StringIO(shown)))
    columns = [name for name in (found[0] if found else {}) if name != "Experiment" and name not in ABOUT]
    # A dependency is a path alone; a parameter or a metric of a file has a colon after it.
    parameters = [name for name in columns if ".yaml:" in name]
    scores = [name for name in columns if name not in parameters and "/" not in name.split(":")[-1]]
    scores.sort(key=lambda name: name.split(":")[-1] != "average")
    chosen = scores + parameters
    rows = [[row["Experiment"] or row["rev"], *(row[name] or "-" for name in chosen)] for row in found]
    return ["experiment", *(name.split(":")[-1] for name in chosen)], rows
