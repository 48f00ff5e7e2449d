"""What a profile will cost before it starts: steps, tokens, memory, hours, disk, money; what is done; what is lacking.

python -m stages.plan --profile paper
python -m stages.plan --profile paper --cell mistral-7b-4bit.alpaca.r8.s42
python -m stages.plan --cell experiment
python -m stages.plan --profile paper --methods
python -m stages.plan --profile paper --claim all
python -m stages.plan --profile paper --claim mistral-above-gpt4-and-palm2
"""

import dataclasses
from itertools import groupby

from maple.config import command
from maple.config.cell import Base
from maple.core.progress import duration
from maple.planning import cell_cost, evaluation_cost, plan, preflight

HEAD = """\
                                trainable         million  GB: weights, adapter, gradients,        fits   hours    price
base              rank cells done       %  steps   tokens  Adam, activations, peak                 on    a cell   to pay  speed"""


def main(params, arguments):
    if arguments.claim:
        from stages import plan_claims

        return plan_claims.main(params, arguments.claim)
    if arguments.methods:
        from stages import plan_methods

        return plan_methods.main(params)
    show(params, arguments.cell)


def show(params, name=None):
    """The plan of one cell, or of the whole grid."""
    device, here = plan.device_of(params)
    names = [name] if name else [model.name for model in [*params.cells, *params.bases]]
    cell, recipe = params.cell_of(name) if name else (None, params.recipe)
    found = plan.outdated(params, names)
    again = found.again if found else set()
    if cell:
        cells = [plan.line(params, cell, recipe, name, device, again)]
        scorings = [plan.scoring(params, name, cell.base, device, again)]
    else:
        cells, scorings = plan.lines(params, device, again), plan.scorings(params, device, again)
    todo = [line for line in cells if not line.done]
    title = f"{params.profile} profile" + (" (SMOKE)" if params.is_smoke else "")
    print(f"{title}: {len(cells)} cells, {len(cells) - len(todo)} trained already and skipped, {len(todo)} to train")
    if again:
        print(f"{len(again)} finished stages are out of date (`dvc status` says why) and count as not run")
    if found is None:
        print("DVC could not be asked what is out of date: what stands in artifacts/ counts as done")
    elif found.before:
        print(
            f"out of date: {', '.join(sorted(found.before))}; models that depend on what these make anew will run again too"
        )
    print(f"device: {device.name} ({plan.whose(here)})")
    print(
        f"tokens a pass: {recipe.micro_batch_tokens}, gradient checkpointing: {recipe.gradient_checkpointing}, path {recipe.path}"
    )
    print()
    print(HEAD)
    order = lambda line: (line.cell.base.model, -line.cell.base.bits, line.cell.rank)  # noqa: E731
    for _, group in groupby(sorted(cells, key=order), key=order):
        print_group(params, list(group), device)
    print()
    print_totals(params, todo, device)
    print_scorings(params, scorings, device)
    print_sources(cells)
    lacking = [finding for finding in preflight.findings(params) if finding.do]
    print("this machine lacks nothing" if not lacking else "this machine lacks:")
    for finding in lacking:
        print(f"  {finding.name}: {finding.found}; {finding.do}")


def print_group(params, group, device):
    """One line for the training sets (and seeds) that share a base and a rank; the largest memory of them."""
    most = max(group, key=lambda line: line.memory.peak)
    cell, memory = most.cell, most.memory
    todo = [line for line in group if not line.done]
    hours = [line.hours for line in group]
    gb = [size / 1e9 for size in dataclasses.astuple(memory)]
    print(
        f"{cell.base.name:17}{cell.rank:5}{len(group):6}{len(group) - len(todo):5}{most.trainable_percent:9.4f}"
        f"{max(line.steps for line in group):7,}{sum(line.tokens for line in group) / len(group) / 1e6:9.2f}"
        f"{gb[0]:8.2f}{gb[1]:6.2f}{gb[2]:6.2f}{gb[3]:6.2f}{gb[4]:7.2f}{memory.peak / 1e9:7.2f}"
        f"  {plan.smallest_device(params, memory.peak):9}"
        f"{sum(hours) / len(hours):7.2f}{sum(line.hours for line in todo) * device.price_per_hour:9,.2f}  {most.speed.origin}"
    )


def print_totals(params, todo, device):
    hours = sum(line.hours for line in todo)
    low, high = (sum(line.hours * line.speed.range[end] for line in todo) for end in (0, 1))
    tokens = sum(line.tokens for line in todo)
    disk = sum(line.saved_bytes for line in todo)
    bases = sum(2 * plan.shape_of(params, model).parameters for model in params.models)
    print(
        f"training in all: {sum(line.steps for line in todo):,} steps, {tokens / 1e6:,.1f} million tokens, "
        f"{duration(3600 * hours)} on one {device.name} ({low:,.0f} to {high:,.0f} h), "
        f"{hours * device.price_per_hour:,.0f} at {device.price_per_hour:.2f} an hour"
    )
    checkpoint = 3 * max((line.saved_bytes for line in todo), default=0)
    print(
        f"disk: {disk / 1e9:.2f} GB of adapters, {bases / 1e9:.2f} GB of base models, "
        f"{checkpoint / 1e9:.2f} GB for a checkpoint"
    )


def print_scorings(params, scorings, device):
    todo = [scoring for scoring in scorings if not scoring.done]
    examples, read, written = evaluation_cost.tokens(params.evaluation, params.model)
    hours = sum(scoring.hours for scoring in todo)
    between = [sum(scoring.range[end] for scoring in todo) for end in (0, 1)]
    print(
        f"evaluation: {len(scorings)} models, {len(scorings) - len(todo)} scored already and skipped, "
        f"{duration(3600 * hours)} for the others ({between[0]:,.0f} to {between[1]:,.0f} h), "
        f"{hours * device.price_per_hour:,.0f} at {device.price_per_hour:.2f} an hour"
    )
    if any(scoring.measured for scoring in todo):
        print("taken for it: what this grid's finished models on the same base took, where there are any")
    guessed = not all(scoring.measured for scoring in todo)
    if guessed and params.is_smoke:
        print(f"assumed for it: a start of {plan.START_SECONDS['smoke']:.0f} s a model, which is most of it")
    elif guessed:
        paces = {Base.parse(scoring.name.split(".")[0]).bits: scoring.pace for scoring in todo if scoring.pace}
        starts = sum(scoring.start_hours for scoring in todo)
        said = (
            f"{bits} bits {pace.reading.tokens_per_second:,.0f} read ({pace.reading.origin}), "
            f"{pace.writing.tokens_per_second:,.0f} written ({pace.writing.origin})"
            for bits, pace in sorted(paces.items())
        )
        print(
            f"a model: {examples:,} examples, {read / 1e6:,.0f} million tokens read, {written / 1e6:,.1f} million written; "
            f"tokens a second at {'; '.join(said)}; starts, each base once: {duration(3600 * starts)}"
        )
    print("the judge and preparation come on top")


def print_sources(lines):
    speeds = {line.speed.origin for line in lines}
    if any(line.tokens_assumed for line in lines):
        print(
            "assumed: tokens of a training row, from benchmarks/fertility.csv (docs/FERTILITY.md) or "
            f"{cell_cost.ASSUMED_FILL:.0%} of prepare.max_length; known once the training sets are prepared"
        )
    if "assumed" in speeds:
        shares = ", ".join(f"{share:.0%} at {bits} bits" for bits, share in sorted(cell_cost.ASSUMED_MFU.items()))
        print(
            f"assumed: useful work at a share of the data sheet's peak: {shares}; "
            "benchmarks/throughput.csv has no such row"
        )
    if "measured" in speeds:
        print("measured: the nearest rank's speed on this card, model and path, benchmarks/throughput.csv")
    if "scaled" in speeds:
        print(
            "scaled: the nearest row of benchmarks/throughput.csv at that width, from another card, model or path, by the "
            "FLOPs of a token and the cards' peaks"
        )
    if "this grid" in speeds:
        print("speeds taken from this grid's finished cells")
    print("prices are assumed: benchmarks/devices.csv")


if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        cell={"help": "one cell, or experiment (default: the whole grid)"},
        methods={"action": "store_true", "help": "the experiment by every other way to finetune"},
        claim={"help": "a claim of paper_tables/claims.yaml, or all"},
    )
