"""The part of `stages.plan --methods` that prints what each way to finetune would cost the experiment."""

import dataclasses

from maple.config.methods import METHODS
from maple.config.params import EXPERIMENT
from maple.planning import plan

HEAD = """\
                     trainable                       GB at   fits             price  GB on
method     bits rank         %  steps path            the peak on        hours  to pay   disk  speed"""


def main(params):
    device, _ = plan.device_of(params)
    cell, _ = params.cell_of(EXPERIMENT)
    smoke = " (SMOKE)" if params.is_smoke else ""
    print(f"{params.profile} profile{smoke}: {cell.base.model} on {cell.dataset}, planned on one {device.name}")
    print(HEAD)
    for name, method in METHODS.items():
        for bits in method.bits:
            of_bits = dataclasses.replace(params.quantisation, bits=bits)
            given = dataclasses.replace(params, method=name, quantisation=of_bits)
            of, recipe = given.cell_of(EXPERIMENT)
            found = plan.line(given, of, recipe, EXPERIMENT, device)
            peak = found.memory.peak
            rank = str(found.cell.rank) if method.ranked else "-"
            print(
                f"{name:10}{bits:5}{rank:>5}{found.trainable_percent:10.4f}{found.steps:7,} {recipe.path:15}"
                f"{peak / 1e9:9.2f} {plan.smallest_device(params, peak):10}{found.hours:6.2f}"
                f"{found.hours * device.price_per_hour:8,.2f}{found.saved_bytes / 1e9:7.2f}  {found.speed.origin}"
            )
    print("prompt and prefix tuning are asked one row at a time: their answers take several times those of the others")
    print(
        "plain passes take one row at a time: hours are the packed ones, and a lower bound; none was measured on a GPU"
    )
