"""Print what this machine lacks for a profile; exit 1 if the run cannot succeed.

python -m stages.check --profile paper
"""

from maple.config import command
from maple.core.errors import MapleError
from maple.planning import locks, preflight


def main(params, arguments):
    found = list(preflight.findings(params))
    for finding in found:
        print(f"{'ok  ' if not finding.do else 'MISS' if finding.stops else 'note'}  {finding.name}: {finding.found}")
        if finding.do:
            print(f"      do: {finding.do}")
    missing = [finding.name for finding in found if finding.stops]
    if not missing:
        locks.keep()
    if missing:
        raise MapleError(
            f"the {params.profile} profile cannot run here",
            why=f"missing: {', '.join(missing)}",
            do="see the lines above; nothing was started",
        )


if __name__ == "__main__":
    command.run(__doc__, main)
