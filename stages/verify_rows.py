"""Fetch one task's real rows, read them all, and hold the counts against what is known of upstream.

    python -m stages.verify_rows --profile paper --task xcopa --languages et,ht,id,it,th,tr,vi,zh
    python -m stages.verify_rows --profile paper --task xquad --languages all

Every split is read, with and without `repair`. The files stay in artifacts/verify/sources, beside those of earlier
calls, and in the Hub's cache. With HF_ENDPOINT the rows may come from any server that speaks the Hub's protocol.
"""

import collections
import dataclasses
import sys

from maple import tasks
from maple.config import catalogue, command
from maple.download import fetch, hub

# Rows whose `question` is not that of the languages which agree with one another: (validation, test).
XCOPA_WRONG = {"th": (52, 250), "tr": (52, 51), "sw": (6, 37), "id": (5, 4), "it": (5, 4)}


def main(params, arguments):
    from tabulate import tabulate

    task = tasks.get(arguments.task)
    source = catalogue.datasets()[task.source]
    codes = list(source.codes) if arguments.languages == "all" else arguments.languages.split(",")
    elsewhere = dataclasses.replace(params, profile="verify")
    fetched = [*codes, *task.more_for_repair(codes)]
    need = fetch.Need(source, tuple(source.parts(fetched, [split for split in task.splits if split in source.files])))
    found = fetch.download(elsewhere, hub.Hub(), [need], keep=True)
    folder, table, wrong = source.folder(elsewhere.artifacts / "sources"), [], []
    entry = found["datasets"][source.key]
    print(f"{source.hub_id} at {entry['commit']}: {len(entry['files'])} files in {folder}")

    ids: dict[str, dict[str, set[str]]] = collections.defaultdict(dict)
    for code in codes:
        for split in task.splits:
            examples = task.examples(folder, code, split, False)
            repaired = sum(example.repaired for example in task.examples(folder, code, split, True))
            ids[split][code] = {example.id for example in examples}
            balance = collections.Counter(e.reference for e in examples if isinstance(e.reference, int))
            table.append(
                [code, split, len(examples), "/".join(str(balance[k]) for k in sorted(balance)) or "-", repaired]
            )
            if task.name == "xcopa":
                expected = XCOPA_WRONG.get(code, (0, 0))[split == "test"]
                if repaired != expected:
                    wrong.append(f"{code} {split}: {repaired} wrong `question` values, {expected} known")
    for split, by_language in ids.items():
        if task.name in ("xcopa", "xquad") and len(set(map(frozenset, by_language.values()))) > 1:
            wrong.append(f"{split}: the languages do not have the same ids")
    print(tabulate(table, headers=["language", "split", "rows", "labels", "repaired"]))
    print("\n".join(wrong) or "all as known")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    command.run(__doc__, main, task="a task of maple/tasks", languages="codes with commas between, or all")
