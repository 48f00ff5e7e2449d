"""Build one training set: choose rows by seed instruction, tokenise them for each base model, measure them.

python -m stages.prepare --dataset alpaca
"""

import time

from maple.config import command
from maple.core import storage
from maple.core.errors import MapleError, nearest
from maple.preparation import build


def main(params, arguments):
    name = arguments.dataset
    if name not in params.datasets:
        raise MapleError(
            f"no training set '{name}'",
            why=f"{params.params_file} describes none of that name",
            do=nearest(name, params.datasets),
        )
    started = time.monotonic()
    found = build.prepare(params, name)
    # The page for readers, the record for the tables: git keeps both, so that neither needs the prepared rows.
    for made, kept in (("examples.md", f"{name}.md"), ("statistics.json", f"{name}.json")):
        text = (params.artifacts / "prepared" / name / made).read_text(encoding="utf-8")
        storage.write_text(params.regenerated / "training_sets" / kept, text)
    tokens = {model: one["tokens"] for model, one in found["models"].items()}
    seconds = time.monotonic() - started
    print(
        f"{name}: {found['rows']['train']:,} rows for training, {found['rows']['heldout']:,} held out, "
        + ", ".join(f"{count:,} tokens of {model}" for model, count in tokens.items())
        + f", {seconds:.0f} s; page: {params.regenerated / 'training_sets' / name}.md"
    )


if __name__ == "__main__":
    command.run(__doc__, main, dataset="name of a training set in params.yaml")
