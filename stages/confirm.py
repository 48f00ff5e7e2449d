"""Show what a profile costs and ask before it starts; YES=1 answers for a script. The smoke profile costs nothing.

YES=1 python -m stages.confirm --profile paper
"""

import os
import sys

from maple.config import command
from maple.core.errors import MapleError
from stages import plan


def main(params, arguments):
    if params.is_smoke:
        return
    plan.show(params)
    ask(params)


def ask(params):
    """Go on, or raise MapleError: asks at a terminal, unless YES=1 has answered."""
    if os.environ.get("YES") == "1":
        return
    if not sys.stdin.isatty():
        raise MapleError(
            "nobody to ask whether to start", why="this is no terminal", do="say YES=1 to start without asking"
        )
    if input(f"start the {params.profile} profile? [y/N] ").strip().lower() not in ("y", "yes"):
        raise MapleError("not started", why="the answer was not yes", do="change the profile's parameters, or say yes")


if __name__ == "__main__":
    command.run(__doc__, main)
