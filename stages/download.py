"""Fetch every source the parameters need, check it, and record what was resolved.

python -m stages.download                     # the smoke profile: made here, no network
python -m stages.download --profile paper     # from the Hugging Face Hub; HF_TOKEN for gated models
"""

from maple.config import command
from maple.core import storage
from maple.core.progress import size
from maple.download import fetch, hub


def main(params, arguments):
    if params.is_smoke:
        from maple import smoke

        with storage.scratch(params.work) as folder:
            smoke.write(folder, params)
            found = fetch.download(params, hub.Folder(folder))
    else:
        found = fetch.download(params, hub.Hub())
    entries = [entry for kind in ("models", "datasets") for entry in found[kind].values()]
    files = [file for entry in entries for file in entry["files"].values()]
    total = size(sum(file["bytes"] for file in files))
    print(f"{len(entries)} sources, {len(files)} files, {total}, all checked: {params.artifacts / 'sources'}")


if __name__ == "__main__":
    command.run(__doc__, main)
