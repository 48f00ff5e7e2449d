"""Judge every model's AlpacaEval answers against the reference model's.

python -m stages.judge --profile smoke
"""

import functools
import sys
from pathlib import Path

from maple import tasks
from maple.config import command
from maple.core import storage
from maple.core.errors import MapleError
from maple.judging import judgements, judges, length_control
from maple.scoring import extraction
from maple.tasks import alpaca_eval

FILE = "alpaca_eval-en.jsonl.gz"


def main(params, arguments):
    folders = [params.artifacts / "answers" / "grid", params.artifacts / "answers"]
    judge(
        params, sorted(path for folder in folders for path in folder.glob(f"*/{FILE}")), params.artifacts / "judgements"
    )


def judge(params, paths, destination):
    """Judge answer files of models, each in the folder of its model's name."""
    settings = params.judge
    instructions, references = texts(params) if paths else ({}, {})
    endpoint = judges.endpoint_of(settings.annotator)
    store = judgements.JudgementStore(params.work / "judgements" / f"{settings.annotator}.jsonl")
    undecided = 0
    with storage.folder(destination) as out:
        for path in paths:
            name = path.parent.name
            pairs = pairs_of(path, instructions, references)
            found = judges.judge(pairs, settings.annotator, settings.seed, store, say=functools.partial(say, name))
            result = judgements.result(name, settings.annotator, endpoint, settings.reference, settings.seed, found)
            if length_control.applies(settings.annotator, settings.reference):
                result["length_controlled"] = length_control.length_controlled(pairs, found)
            storage.write_json(out / f"{name}.json", result)
            undecided += len(result["missing"])
            print(line(result))
    print(f"judged {len(paths)} models; every judgement is kept in {store.path}")
    if undecided:
        print(
            f"{undecided} pairs have none; `dvc repro --force --single-item {params.pipeline}:judge` asks for those again"
        )


def texts(params) -> tuple[dict[str, str], dict[str, str]]:
    """{id: instruction} and {instruction: the reference model's answer}."""
    folder = params.artifacts / "sources" / "datasets" / "alpaca_eval"
    examples = tasks.get("alpaca_eval").examples(folder, "en", "eval")
    return {e.id: e.fields["instruction"] for e in examples}, alpaca_eval.references(folder, params.judge.reference)


def pairs_of(path: Path, instructions: dict[str, str], references: dict[str, str]) -> list[judgements.Pair]:
    pairs = []
    for row in storage.read_jsonl_gz(path):
        instruction = instructions.get(row["id"])
        if instruction not in references:
            raise MapleError(
                f"{path}: no instruction and reference for row {row['id']}",
                why="the answers were generated for another revision of AlpacaEval",
                do="delete that answer folder and run `dvc repro`",
            )
        pairs.append(
            judgements.Pair(
                row["id"],
                instruction,
                references[instruction],
                extraction.predict(row, tasks.get("alpaca_eval").answer_part, "none"),
            )
        )
    return pairs


def line(result: dict) -> str:
    label = (
        " (stand-in judge)" if result["stand_in"] else f" (asked at {result['endpoint']})" if result["endpoint"] else ""
    )
    missing = f", {len(result['missing'])} missing" if result["missing"] else ""
    rate = f"{result['winrate']:.3f} ± {result['standard_error']:.3f}"
    return f"{result['name']}: win rate {rate}, n={result['n']}{missing}{label}"


def say(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr)


if __name__ == "__main__":
    command.run(__doc__, main)
