"""Run the real download in a process of its own, since the Hub's client reads its environment at import.

python tests/fetch.py SOURCES.yaml CODES SPLITS      every source of the file, into ./artifacts/tiny
"""

import dataclasses
import sys
from pathlib import Path

from maple.config import catalogue, params
from maple.core.errors import MapleError
from maple.download import fetch, hub

if __name__ == "__main__":
    settings = dataclasses.replace(params.load(), profile="tiny")
    catalogue.PATH = Path(sys.argv[1])
    codes, splits = sys.argv[2].split(","), sys.argv[3].split(",")
    needs = [
        fetch.Need(source, tuple(source.parts(codes, splits)))
        for source in [*catalogue.models().values(), *catalogue.datasets().values()]
    ]
    try:
        fetch.download(settings, hub.Hub(wait=lambda seconds: print(f"waited {seconds:.0f}", file=sys.stderr)), needs)
    except MapleError as error:
        sys.exit(str(error))
