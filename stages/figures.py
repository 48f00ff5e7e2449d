"""Draw Figures 1 to 4, each as SVG and PNG with its numbers as CSV and its words as text.

python -m stages.figures --profile smoke
"""

from maple import figures
from maple.config import command
from maple.results import collect, published, tables


def main(params, arguments):
    results = tables.Results(collect.load(params.artifacts / "collected"), params)
    folder = params.regenerated / "figures"
    names = figures.write_all(figures.pictures(results, published.printed("table1")), folder, results.label)
    print(f"{', '.join(names)} (svg, png, csv, txt) in {folder}")


if __name__ == "__main__":
    command.run(__doc__, main)
