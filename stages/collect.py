"""Collect every score record, judgement and adapter record into artifacts/<profile>/collected.

python -m stages.collect --profile smoke
"""

from maple.config import command
from maple.results import collect


def main(params, arguments):
    found = collect.collect(params, params.artifacts / "collected")
    missing = f", {len(found.missing)} missing" if found.missing else ""
    print(f"collected {len(found.records)} of {len(found.asked)} cells and bases, {len(found.scores)} scores{missing}")


if __name__ == "__main__":
    command.run(__doc__, main)
