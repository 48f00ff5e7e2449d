"""Ask the Hub for every pin of sources.yaml and print what it answers; exit 1 if one cannot be used.

    make verify-sources        # metadata only, no file is fetched
"""

import sys

from maple import download, languages, origins, sources, stage
from maple.errors import MapleError
from maple.progress import size


def main(params, arguments):
    from tabulate import tabulate

    hub, table, failed = origins.Hub(), [], 0
    for source in [*sources.models().values(), *sources.datasets().values()]:
        codes = languages.of_task(source.key) if source.by_language else ()
        need = download.Need(source, tuple(source.parts(codes, source.patterns)))
        commit = found = "-"
        try:
            ((_, listing, wanted),) = download.resolve([need], hub)
            commit = listing.commit[:12] + ("" if listing.commit == source.revision else " (another)")
            found = f"{len(wanted)} files, {size(sum(w.bytes or 0 for w in wanted))}"
            verdict = "ok"
        except MapleError as error:
            verdict, failed = f"{error.what} {error.why}"[:100], failed + 1
        table.append([source.key, source.hub_id, source.revision[:12], commit, found, source.licence, verdict])
    print(tabulate(table, headers=["source", "repository", "pin", "commit", "languages and splits known", "licence", "verdict"]))
    if failed:
        print(f"\n{failed} of {len(table)} pins cannot be used", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    stage.run(__doc__, main)
