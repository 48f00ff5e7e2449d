"""Write the report, one HTML page of everything, and print what a reader wants first.

python -m stages.report --profile smoke
"""

from maple import record, report, stage
from maple.report import terminal


def main(params, arguments):
    folder = params.artifacts / "report"
    with record.folder(folder) as part:
        record.write_text(part / "report.html", report.page(params))
    print(terminal.text(params, folder / "report.html"))


if __name__ == "__main__":
    stage.run(__doc__, main)
