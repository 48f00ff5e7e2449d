"""The experiments of `dvc exp run` side by side: their scores first, then the parameters in which they differ.

python -m stages.experiments
"""

from maple.cluster import into_dvc
from maple.config import command
from maple.exchange import experiments


def main(params, arguments):
    from tabulate import tabulate

    header, rows = experiments.table(into_dvc.dvc("exp", "show", "--only-changed", "--csv"))
    if len(header) == 1:
        print("nothing differs yet; try: dvc exp run -S lora.r=32")
        return
    print(tabulate(rows, header, disable_numparse=True))
    print("all columns: dvc exp show --no-pager; one of them back into the workspace: dvc exp apply NAME")


if __name__ == "__main__":
    command.run(__doc__, main)
