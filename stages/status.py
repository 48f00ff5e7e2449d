"""Where every model of a profile stands on the cluster: waiting, running, done, failed; from files alone.

    python -m stages.status --profile paper
    python -m stages.status --profile paper --all
"""

from maple.cluster import status, submission
from maple.config import command


def main(params, arguments):
    for line in status.text(params, status.lines(params, submission.names(params)), arguments.all):
        print(line)


if __name__ == "__main__":
    command.run(__doc__, main, all={"action": "store_true", "help": "waiting and finished models one by one, too"})
