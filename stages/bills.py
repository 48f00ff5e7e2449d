"""Keep what this run cost, for git: the report and `make plan` of other clones then know it.

python -m stages.bills --profile paper
"""

from maple.config import bills, command


def main(params, arguments):
    count = len(bills.here(params))
    print(f"{count} bills of this folder are in {bills.keep(params)}; commit it with dvc.lock")


if __name__ == "__main__":
    command.run(__doc__, main)
