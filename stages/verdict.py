"""Say whether our tables agree with the paper's, as an exit code.

    python -m stages.verdict --profile paper
    python -m stages.verdict paper_tables/published/tables paper_tables/regenerated/paper/tables

Exit code 0: every cell is the same or consistent (or the profile is smoke, which is never compared); 1: some cell
differs; 2: none differs, some are missing; 3: could not run. With two folders, their tables are compared directly.
"""

import argparse
import sys
from pathlib import Path

from maple.config import params
from maple.core import storage
from maple.core.errors import MapleError
from maple.results import compare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smoke", help="whose finished comparison to read (default: smoke)")
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="two folders of tables to compare instead")
    arguments = parser.parse_args()
    if len(arguments.folders) not in (0, 2):
        parser.error("give two folders, or none")
    try:
        if arguments.folders:
            verdicts = compare.folders(*map(Path, arguments.folders))
        else:
            path = params.load(arguments.profile).regenerated / "compare" / "compare.json"
            verdicts = compare.from_json(storage.read_json(path))
    except MapleError as error:
        print(error, file=sys.stderr)
        return compare.COULD_NOT_RUN
    for verdict in verdicts:
        if verdict.verdict == compare.DIFFERS:
            place = f"{verdict.table} {verdict.row} {verdict.column}"
            print(f"differs: {place}: {verdict.ours}, the paper has {verdict.published} ({verdict.tolerance})")
    print(compare.sentence(verdicts))
    return compare.exit_code(verdicts)


if __name__ == "__main__":
    sys.exit(main())
