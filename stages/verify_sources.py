"""Ask the Hub for every pin of sources.yaml and print what it answers; exit 1 if one cannot be used.

make verify-sources        # metadata only, no file is fetched
"""

import sys

from maple.config import catalogue, command
from maple.core.errors import MapleError
from maple.core.progress import size
from maple.download import fetch, hub


def main(params, arguments):
    from tabulate import tabulate

    client, table, failures = hub.Hub(), [], []
    for source in [*catalogue.models().values(), *catalogue.datasets().values()]:
        need = fetch.Need(source, tuple(source.parts(source.codes, source.files)))
        commit = found = "-"
        try:
            ((_, listing, wanted),) = fetch.resolve([need], client)
            commit = listing.commit[:12] + " (another)" * (listing.commit != source.revision)
            found = f"{len(wanted)} files, {size(sum(w.bytes or 0 for w in wanted))}"
        except MapleError as error:
            failures.append(f"{error.what}\n  {error.why}")
        verdict = "failed" if found == "-" else "ok"
        table.append([source.key, source.hub_id, source.revision[:12], commit, found, source.licence, verdict])
    print(
        tabulate(
            table, headers=["source", "repository", "pin", "commit", "all splits and languages", "licence", "verdict"]
        )
    )
    if failures:
        print(f"\n{len(failures)} of {len(table)} pins cannot be used", *failures, sep="\n", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    command.run(__doc__, main)
