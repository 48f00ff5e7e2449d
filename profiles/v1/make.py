"""Write profiles/v1/params.yaml: the paper profile's parameters, what version 1 of the paper lacks left out.

python profiles/v1/make.py            # write
python profiles/v1/make.py --check    # exit 1 if it would change anything
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

PAPER = Path(__file__).parents[1] / "paper" / "params.yaml"
OURS = Path(__file__).with_name("params.yaml")
HEAD = """\
# Version 1 of the paper (January 2024): five tasks, MultiAlpaca alone, AlpacaEval for English. Written by
# `python profiles/v1/make.py` from profiles/paper/params.yaml: edit that, or what is left out there. As in the paper profile
# every value says where it comes from; docs/DEVIATIONS.md has the longer reasons.
"""
# What version 1 does not have, by the place in the file; a list's items are named by their value.
LEFT_OUT = {"evaluation.tasks.xlsum"} | {
    f"{place}.{name}"
    for place in ("datasets", "grid.datasets")
    for name in ("bactrian-x-22", "bactrian-x-11", "alpaca")
}
# Value and provenance of what differs.
CHANGED = {
    "profile": "v1 # assumed: the name of this profile",
    "params_file": "profiles/v1/params.yaml # assumed: this file",
    "dataset": "multialpaca # stated: the one training set",
    "grid.datasets.multialpaca": "multialpaca # stated: the one training set",
    "tables.best": "cell # assumed: Table 1's average is over six tasks, so none can choose a configuration for a whole row",
}
# Its 23 languages are not listed: those of the other tasks, as far as Belebele has them.
SPOKEN = "evaluation.tasks.belebele.languages"
ASSUMED = "assumed: the languages of the other four tasks that Belebele has, see docs/DEVIATIONS.md"


def places(text: str) -> Iterator[tuple[str, str]]:
    """(place, line) of each line of a block-style YAML file; comments and empty lines belong to the line before."""
    keys: list[tuple[int, str]] = []
    place = ""
    for line in text.splitlines(keepends=True):
        found = re.match(r"( *)(- )?([\w-]+)", line)
        if found:
            depth = len(found[1])
            # An item stands as deep as the key of its list.
            keys = [(other, key) for other, key in keys if other < depth + bool(found[2])]
            place = ".".join([*(key for _, key in keys), found[3]])
            if not found[2]:
                keys.append((depth, found[3]))
        yield place, line


def make(paper: str) -> str:
    lines = list(places(paper[paper.index("\nprofile:") :]))
    tasks = "evaluation.tasks."
    others = {
        place.rpartition(".")[2]
        for place, _ in lines
        if re.fullmatch(rf"{tasks}(xnli|xcopa|xquad|mlqa)\.languages\.\w+", place)
    }
    kept = []
    for place, line in lines:
        section = line.startswith("#") or not line.strip()
        if any(place == out or place.startswith(f"{out}.") for out in LEFT_OUT) and not section:
            continue
        if place.startswith(f"{SPOKEN}."):
            code = place.rpartition(".")[2]
            if code in others:
                kept.append(re.sub(r"# .*", f"# {ASSUMED}", line))
        elif place in CHANGED and not section:
            kept.append(re.sub(r"(: |- ).*", lambda found, place=place: found[1] + CHANGED[place], line, count=1))
        else:
            kept.append(line)
    return HEAD + "".join(kept)


if __name__ == "__main__":
    made = make(PAPER.read_text(encoding="utf-8"))
    if "--check" in sys.argv:
        sys.exit(f"{OURS} is not up to date: run python profiles/v1/make.py" if OURS.read_text() != made else 0)
    OURS.write_text(made, encoding="utf-8")
