"""Take what a cluster's tasks made into DVC, in one process; `dvc repro` then runs what comes after them.

python -m stages.commit --profile paper && dvc repro profiles/paper/dvc.yaml
"""

from maple.cluster import into_dvc
from maple.config import command


def main(params, arguments):
    stages = into_dvc.commit(params)
    print(f"{len(stages)} stages that tasks ran are in {params.pipeline.with_name('dvc.lock')} and in DVC's cache")


if __name__ == "__main__":
    command.run(__doc__, main)
