"""Submit what a profile's grid still lacks to Slurm, or run it on this machine's GPUs; made models are skipped.

    python -m stages.submit --profile paper --dry-run
    python -m stages.submit --profile paper --partition gpu --account lab --gpu-types rtx_4090:24,a100:80
    python -m stages.submit --profile paper --executor local

Sources and training sets come first, where the network is: --prepare fetches and prepares what is missing.
"""

import argparse

from maple.cluster import into_dvc, resources, submission
from maple.config import command
from maple.core.errors import MapleError, nearest
from maple.core.progress import duration
from maple.planning import plan

HEAD = "tasks models  minutes  memory GB  CPUs          GPUs  peak on GPU, GB   hours     price  of"


def main(params, arguments):
    wanted = chosen(submission.names(params), arguments.names)
    lacking = [] if arguments.dry_run else into_dvc.before(params, wanted)
    if lacking and arguments.prepare:
        into_dvc.repro(params, lacking)
    elif lacking:
        raise MapleError(
            f"{', '.join(lacking)}: to be run first",
            why="tasks start from fetched sources and prepared training sets",
            do="say --prepare to run them here, now; the first needs the network",
        )
    works = submission.missing(params, wanted)
    queued = submission.alive(params)
    now = [work for work in works if work.name not in queued]
    title = f"{params.profile} profile" + (" (SMOKE)" if params.is_smoke else "")
    done, waiting = len(wanted) - len(works), len(works) - len(now)
    print(f"{title}: {len(wanted)} models, {done} done, {waiting} in a queue, {len(now)} to submit")
    device, here = plan.device_of(params)
    options = resources.Options(arguments.time, arguments.memory, arguments.cpus, arguments.gpus, arguments.gpu_types)
    place = submission.Place(
        arguments.executor,
        arguments.partition,
        arguments.account,
        arguments.parallel,
        arguments.container,
        dict(arguments.sbatch),
    )
    arrays = submission.arrays(params, now, device, options, arguments.chunk)
    bill(params, arrays, options, device, here)
    if arguments.dry_run or not arrays:
        return
    for array in arrays:
        jobs = submission.submit(params, array, place)
        print(
            f"submitted {len(array.tasks)} tasks as {jobs[0].split('_')[0]}"
            if place.executor == "slurm"
            else f"started {len(jobs)} tasks here"
        )
    print(f"next: make status PROFILE={params.profile}; submitit's own logs: {params.work}/cluster/jobs")


def chosen(known, names):
    """The models that were named, all if none was."""
    for name in names or []:
        if name not in known:
            raise MapleError(
                f"'{name}' is no model of this profile",
                why="the grid's lists say which there are",
                do=nearest(name, known),
            )
    return names or known


def bill(params, arrays, options, device, here):
    if not arrays:
        return
    print(HEAD)
    total = price = 0.0
    for array in arrays:
        ask = array.ask
        works = [work for task in array.tasks for work in task]
        on = resources.device_of(ask.gpu_type, options.gpu_types, device)
        hours = sum(resources.planned_hours(params, work, on) for work in works)
        total, price = total + hours, price + hours * on.price_per_hour
        gpus = f"{ask.gpu_type}:{ask.gpus}" if ask.gpu_type else str(ask.gpus)
        print(
            f"{len(array.tasks):5}{len(works):7}{ask.minutes:9}{ask.memory_gb:11}{ask.cpus:6}{gpus:>14}{ask.gpu_gb:17.1f}"
            f"{hours:8.2f}{hours * on.price_per_hour:10,.2f}  {works[0].name}" + (", ..." if len(works) > 1 else "")
        )
    whose = "this machine's" if here else "assumed"
    print(
        f"in all {sum(len(array.tasks) for array in arrays)} tasks, {duration(3600 * total)}, {price:,.2f} to pay; "
        f"planned for {device.name} ({whose}) where no other type is named; the minutes have a margin of {resources.MARGIN:g}"
    )


def checked(parse, what):
    """A parser for argparse, whose message says what the text should have been."""

    def read(text):
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is not {what}") from error

    return read


def pair(text):
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(text)
    return name.lstrip("-"), value


def natural(text):
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


NUMBER = {"type": checked(natural, "a whole number from 1"), "metavar": "N"}

if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        names={"nargs": "*", "metavar": "NAME", "help": "models (default: all)"},
        executor={"choices": ("slurm", "local"), "default": "slurm", "help": "Slurm, or this machine (default: slurm)"},
        partition={"help": "Slurm's partition"},
        account={"help": "the account that pays"},
        time={
            "type": checked(resources.minutes, "a time like 90 or 8:00:00"),
            "help": "limit of a task (default: the plan's, with a margin)",
        },
        memory={**NUMBER, "help": "host memory of a task, GB (default: the plan's)"},
        cpus={**NUMBER, "help": "cores of a task"},
        gpus={"type": int, "choices": (0, 1), "help": "GPUs of a task (default: 1; smoke: 0)"},
        **{
            "gpu-types": {
                "type": checked(resources.gpu_types, "types and GB like rtx_4090:24,a100:80"),
                "default": {},
                "help": "types with their GB, rtx_4090:24,a100:80; each task gets the smallest that holds it",
            }
        },
        parallel={**NUMBER, "help": "tasks at a time (default: 256; local: one a GPU)"},
        chunk={**NUMBER, "default": 1, "help": "models of one base in a task (default: 1)"},
        container={"help": "image for the stages: a .sif for Apptainer, a .sqsh for enroot"},
        sbatch={
            "action": "append",
            "default": [],
            "type": checked(pair, "an option like qos=long"),
            "metavar": "NAME=VALUE",
            "help": "another option of sbatch; can be repeated",
        },
        prepare={
            "action": "store_true",
            "help": "first run download and prepare here, where they are missing or out of date",
        },
        **{"dry-run": {"action": "store_true", "help": "print the arrays and their bill, submit nothing"}},
    )
