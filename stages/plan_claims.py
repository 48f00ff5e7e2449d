"""What claims cost before they are run: called by stages/plan.py for --claim."""

from maple.core.errors import MapleError
from maple.core.progress import duration
from maple.parts import cost, parts, query
from maple.planning import plan
from maple.results import claims, collect, power


def main(params, name):
    content = claims.load()
    device, here = plan.device_of(params)
    found = plan.outdated(params, [model.name for model in [*params.cells, *params.bases]])
    again = found.again if found else set()
    print(
        f"{params.profile} profile{' (SMOKE)' if params.is_smoke else ''}, on {device.name} ({plan.whose(here)}); done work costs nothing"
    )
    collected = params.artifacts / "collected"
    spread = power.measured(collect.load(collected)) if (collected / "cells.json").is_file() else power.ASSUMED
    print()
    if name == "all":
        table(params, content, device, again, spread)
    else:
        one(params, content, query.claim_named(content, name), device, again, spread)
    whence = "assumed (maple/results/power.py)" if spread is power.ASSUMED else "measured in finished cells"
    print(f"power: what 80 of 100 runs find; the spread of examples is {whence}")
    print("prices are assumed: benchmarks/devices.csv; the judge and preparation come on top")


def one(params, content, claim, device, again, spread):
    """A claim, the parts that can decide it, and what each costs and gives up."""
    print(f"{claim['id']}: {claim['statement']} ({claim['source']})")
    for why in parts.lacking(claim, params):
        print(f"cannot be asked in part: {why}")
    for part in parts.of_claim(claim, params, content["minimum_examples"]):
        print(f"\n{line(part.choice, cost.of(part, params, device, again))}")
        print(f"  gives up: {part.gives_up}")
        print(f"  power: {power_of(claim, part, spread)[0]}")
        print(f"  cells: {cells(part)}")
        print(f"  asks: {asks(part)}")
    print(f"\nnext: make claim CLAIM={claim['id']} PROFILE={params.profile} PART={parts.EXACT}")


def table(params, content, device, again, spread):
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
            rows[-1] += [spent.cells, f"{spent.hours:,.1f}", f"{spent.price:,.0f}", *power_of(claim, part, spread)[1:]]
    header = ["claim", *["cells", "hours", "price", "finds", "tells\nfrom none"] * 2]
    header[6] = f"{parts.SMALLEST}:\ncells"
    print(tabulate(rows, header, disable_numparse=True, colalign=("left",) + ("right",) * 10))
    print(
        "\nfinds: the smallest effect that is found; tells from none: the smallest margin within which none is recognised"
    )
    for why, names in without.items():
        print(f"\nnot with this profile: {', '.join(names)}: {why}")
    print("make plan CLAIM=... shows a claim's parts; claims share cells, so together they cost less than their sum")


def power_of(claim, part, spread):
    """(in words, smallest effect found, smallest margin told from none) of a part."""
    try:
        found = power.of(claim, part.params, spread)
    except ValueError as error:
        return f"not known: {error}", "-", "-"
    return found.text, f"{found.effect:.3f}", f"{found.margin:.3f}"


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
