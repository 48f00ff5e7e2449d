"""Run the real download in a process of its own, since the Hub's client reads its environment at import.

    python tests/fetch.py SOURCES.yaml CODES SPLITS      every source of the file, into ./artifacts/tiny
"""

import dataclasses
import sys
from pathlib import Path

from maple import download, origins, params, sources
from maple.errors import MapleError

if __name__ == "__main__":
    settings = dataclasses.replace(params.load(), profile="tiny")
    sources.PATH = Path(sys.argv[1])
    codes, splits = sys.argv[2].split(","), sys.argv[3].split(",")
    needs = [
        download.Need(source, tuple(source.parts(codes, splits)))
        for source in [*sources.models().values(), *sources.datasets().values()]
    ]
    try:
        download.download(settings, origins.Hub(), needs)
    except MapleError as error:
        sys.exit(str(error))
