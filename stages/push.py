"""Store a finished run where other clones can fetch it: every output and the run-cache.

python -m stages.push --profile paper
"""

from maple.config import command
from maple.core.progress import size
from maple.exchange import remote


def main(params, arguments):
    found = remote.outputs(params, "all")
    print(f"{len(found)} outputs, {size(sum(output.size for output in found))}")
    address = remote.check(params)
    remote.push(params)
    print(f"stored at {address}; commit dvc.lock and .dvc/config, by which other clones find it")


if __name__ == "__main__":
    command.run(__doc__, main)
