"""Judge every model's AlpacaEval answers against the reference model's.

    python -m stages.judge --profile smoke
"""

import sys

from maple import judges, record, stage, tasks
from maple.errors import MapleError
from maple.tasks import alpaca_eval
from maple.winrate import win_rate


def main(params, arguments):
    settings = params.judge
    paths = sorted((params.artifacts / "scores").glob("*/examples/alpaca_eval-en.jsonl.gz"))
    instructions, references = {}, {}
    if paths:
        folder = params.artifacts / "sources" / "datasets" / "alpaca_eval"
        split = params.evaluation.tasks["alpaca_eval"].split
        instructions = {e.id: e.fields["instruction"] for e in tasks.get("alpaca_eval").examples(folder, "en", split)}
        references = alpaca_eval.references(folder, settings.reference)
    store = judges.Store(params.work / "judgements" / f"{settings.annotator}.jsonl")
    with record.folder(params.artifacts / "judgements") as out:
        for path in paths:
            name = path.parent.parent.name
            pairs = []
            for row in record.read_jsonl_gz(path):
                if row["id"] not in instructions:
                    raise MapleError(f"{path}: AlpacaEval has no row {row['id']}", why="the scores are of another revision", do="run evaluate again")
                instruction = instructions[row["id"]]
                pairs.append(judges.Pair(row["id"], instruction, references[instruction], row["prediction"]))
            found = judges.judge(pairs, settings.annotator, settings.seed, store, say=lambda text: print(f"{name}: {text}", file=sys.stderr))
            preferences = {key: value for key, value in found.items() if value is not None}
            missing = [key for key, value in found.items() if value is None]
            result = {
                "schema": "maple.judgements/1",
                "name": name,
                "annotator": settings.annotator,
                "reference": settings.reference,
                "seed": settings.seed,
                "stand_in": settings.annotator == judges.STAND_IN,
                **win_rate(list(preferences.values()))._asdict(),
                "missing": missing,
                "preferences": preferences,
            }
            record.write_json(out / f"{name}.json", result)
            label = " (stand-in judge)" if result["stand_in"] else ""
            lost = f", {len(missing)} missing" if missing else ""
            print(f"{name}: win rate {result['winrate']:.3f} ± {result['standard_error']:.3f}, n={result['n']}{lost}{label}")
    print(f"judged {len(paths)} models; judgements kept in {store.path}")


if __name__ == "__main__":
    stage.run(__doc__, main)
