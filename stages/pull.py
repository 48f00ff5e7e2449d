"""Fetch results from the store instead of making them; sizes are shown first.

python -m stages.pull --profile paper --what scores
python -m stages.pull --profile paper --sizes
"""

import os
import sys

from maple.config import command
from maple.core.errors import MapleError
from maple.core.progress import size
from maple.exchange import remote

# From here on a person is asked, unless YES=1 answers: it takes a while and fills a disk.
ASK_BYTES = 5e9


def main(params, arguments):
    found = {what: remote.outputs(params, what) for what in remote.SETS}
    for what, outputs in found.items():
        chosen = "->" if what == arguments.what and not arguments.sizes else "  "
        print(f"{chosen} WHAT={what:9}{size(sum(output.size for output in outputs)):>9}  {remote.FOR[what]}")
    if arguments.sizes:
        return
    total = sum(output.size for output in found[arguments.what])
    address = remote.check(params)
    confirm(total)
    fetched = remote.pull(params, arguments.what)
    print(f"{len(fetched)} outputs, {size(total)}, are here, from {address}")


def confirm(total):
    if total < ASK_BYTES or os.environ.get("YES") == "1":
        return
    if not sys.stdin.isatty():
        raise MapleError(
            f"nobody to ask whether to fetch {size(total)}",
            why="this is no terminal",
            do="say YES=1 to fetch without asking",
        )
    if input(f"fetch {size(total)}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise MapleError("nothing was fetched", why="the answer was not yes", do="choose less: WHAT=scores")


if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        what={"choices": tuple(remote.SETS), "default": "all", "help": "how much (default: all)"},
        sizes={"action": "store_true", "help": "show the sizes, fetch nothing"},
    )
