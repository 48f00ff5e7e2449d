"""What claims cost before they are run: called by stages/plan.py for --claim."""

from maple.core.errors import MapleError
from maple.core.progress import duration
from maple.parts import cost, parts, query
from maple.planning import plan
from maple.results import claims


def main(params, name):
    content = claims.load()
    device, here = plan.device_of(params)
    found = plan.outdated(params, [model.name for model in [*params.cells, *params.bases]])
    again = found.again if found else set()
    whose = "this machine's" if here else "assumed: this machine has none that benchmarks/devices.csv lists"
    print(
        f"{params.profile} profile{' (SMOKE)' if params.is_smoke else ''}, on {device.name} ({whose}); done work costs nothing"
    )
    print()
    if name == "all":
        table(params, content, device, again)
    else:
        one(params, content, query.claim_named(content, name), device, again)
    print("prices are assumed: benchmarks/devices.csv; the judge and preparation come on top")


def one(params, content, claim, device, again):
    """A claim, the parts that can decide it, and what each costs and gives up."""
    print(f"{claim['id']}: {claim['statement']} ({claim['source']})")
    for why in parts.lacking(claim, params):
        print(f"cannot be asked in part: {why}")
    for part in parts.of_claim(claim, params, content["minimum_examples"]):
        print(f"\n{line(part.choice, cost.of(part, params, device, again))}")
        print(f"  gives up: {part.gives_up}")
        print(f"  cells: {cells(part)}")
        print(f"  asks: {asks(part)}")
    print(f"\nnext: make claim CLAIM={claim['id']} PROFILE={params.profile} PART={parts.EXACT}")


def table(params, content, device, again):
    """All claims, a line each: the exact part and the smallest."""
    from tabulate import tabulate

    rows, without = [], {}
    for claim in content["claims"]:
        try:
            found = parts.of_claim(claim, params, content["minimum_examples"])
        except MapleError as error:
            without.setdefault(error.why, []).append(claim["id"])
            continue
        rows.append([claim["id"]])
        for part in (found[0], found[-1]):
            spent = cost.of(part, params, device, again)
            rows[-1] += [spent.cells, spent.models, f"{spent.hours:,.1f}", f"{spent.price:,.0f}"]
    header = ["claim", "cells", "models asked", "hours", "price"]
    header += [f"smallest: {word}" for word in header[1:]]
    print(tabulate(rows, header, disable_numparse=True, colalign=("left",) + ("right",) * 8))
    for why, names in without.items():
        print(f"\nnot with this profile: {', '.join(names)}: {why}")
    print("\nmake plan CLAIM=... shows a claim's parts; claims share cells, so together they cost less than their sum")


def line(choice, spent):
    return (
        f"{choice}: {spent.cells} cells, {spent.to_train} to train, {spent.models} models, {spent.to_ask} to ask; "
        f"{duration(3600 * spent.training_hours)} of training, {duration(3600 * spent.asking_hours)} of answering, "
        f"{spent.price:,.0f} to pay"
    )


def cells(part):
    grid = part.params.grid
    text = f"{', '.join(grid.bases)} on {', '.join(grid.datasets)}, ranks {' '.join(map(str, grid.ranks))}"
    return text + (", and the bases as they are" if part.bases else "")


def asks(part):
    """Each task with its languages and rows."""
    told = []
    for task, options in part.params.evaluation.tasks.items():
        few = options.languages if len(options.languages) < 5 else [f"{len(options.languages)} languages"]
        told.append(f"{task} in {' '.join(few)}" + (f", {options.limit} rows each" if options.limit else ""))
    return "; ".join(told)
