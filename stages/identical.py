"""Say whether this run gave the bytes of the committed one.

python -m stages.identical --profile smoke
"""

from maple.config import command
from maple.planning import locks
from maple.report import identical


def main(params, arguments):
    print(identical.sentence(params))
    locks.keep()


if __name__ == "__main__":
    command.run(__doc__, main)
