"""Where every model of a profile stands on the cluster: waiting, running, done, failed; from files alone.

python -m stages.status --profile paper
python -m stages.status --profile paper --all
python -m stages.status --profile paper --wait      until nothing waits or runs; exit 1 if not all is done then
"""

import sys
import time

from maple.cluster import status, submission
from maple.config import command


def main(params, arguments):
    names, told = submission.names(params), ""
    while True:
        found = status.lines(params, names)
        first, *rest = status.text(params, found, arguments.all)
        if not (arguments.wait and status.busy(found)):
            break
        if first != told:
            print(first, flush=True)
        told = first
        time.sleep(POLL_SECONDS)
    print(first, *rest, sep="\n")
    if arguments.wait and any(line.state != "done" for line in found):
        sys.exit(1)


POLL_SECONDS = 10


if __name__ == "__main__":
    command.run(
        __doc__,
        main,
        wait={"action": "store_true", "help": "until no model waits or runs"},
        all={"action": "store_true", "help": "waiting and finished models one by one, too"},
    )
