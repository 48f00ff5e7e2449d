"""Compare our tables with the paper's, cell by cell, and check its claims on both.

    python -m stages.compare --profile smoke

Writes compare.json and compare.md, claims.json and claims.md. A difference is a result, not a failure: this stage
ends with 0, and `make compare` (stages/verdict.py) turns what it wrote into an exit code.
"""

from maple.config import command
from maple.core import storage
from maple.results import claims, collect, compare, published, tables


def main(params, arguments):
    verdicts = compare.folders(published.FOLDER / "tables", params.regenerated / "tables")
    results = tables.Results(collect.load(params.artifacts / "collected"), params)
    checked = claims.check(claims.load(), results)
    destination = params.regenerated / "compare"
    with storage.folder(destination) as part:
        storage.write_json(part / "compare.json", compare.as_json(params.profile, verdicts))
        storage.write_text(part / "compare.md", compare.as_markdown(verdicts, results.label))
        storage.write_json(part / "claims.json", claims.as_json(params.profile, checked))
        covered = tables.seeds_note(params)
        storage.write_text(part / "claims.md", claims.as_markdown(checked, results.label, covered))
        asked = claims.check(claims.load(claims.QUESTIONS), results)
        storage.write_json(part / "questions.json", claims.as_json(params.profile, asked))
        title = "Questions beyond the paper"
        storage.write_text(part / "questions.md", claims.as_markdown(asked, results.label, covered, title))
    print(f"cells:  {compare.sentence(verdicts)}")
    print(f"claims: {claims.sentence(checked)}")
    print(f"written: {destination}")


if __name__ == "__main__":
    command.run(__doc__, main)
