"""Fetch every source the parameters need, check it, and record what was resolved.

    python -m stages.download                     # the smoke profile: made here, no network
    python -m stages.download --profile paper     # from the Hugging Face Hub; HF_TOKEN for gated models
"""

import tempfile
from pathlib import Path

from maple import download, origins, stage
from maple.progress import size


def main(params, arguments):
    if params.sources == "smoke":
        from maple import smoke

        params.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=params.work) as folder:
            smoke.write(Path(folder), params)
            found = download.download(params, origins.Folder(Path(folder)))
    else:
        found = download.download(params, origins.Hub())
    entries = [entry for kind in ("models", "datasets") for entry in found[kind].values()]
    files = [file for entry in entries for file in entry["files"].values()]
    total = size(sum(file["bytes"] for file in files))
    print(f"{len(entries)} sources, {len(files)} files, {total}, all checked: {params.artifacts / 'sources'}")


if __name__ == "__main__":
    stage.run(__doc__, main)
