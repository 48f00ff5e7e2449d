"""Draw Figures 1 to 4, each as SVG and PNG with its numbers as CSV and its words as text.

    python -m stages.figures --profile smoke
"""

from maple import collected, figures, published, stage
from maple.figures.scored import Scored


def main(params, arguments):
    found = collected.load(params.artifacts / "collected")
    evaluation, tables = params.evaluation, params.tables
    scored = Scored(found, evaluation.bootstrap_samples, evaluation.seed, tables.confidence)
    folder = params.regenerated / "figures"
    names = figures.write_all(figures.pictures(scored, published.printed("table1"), tables.best), folder, found.profile)
    print(f"{', '.join(names)} (svg, png, csv, txt) in {folder}")


if __name__ == "__main__":
    stage.run(__doc__, main)
