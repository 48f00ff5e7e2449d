"""Write the report, one HTML page of everything, and print what a reader wants first.

python -m stages.report --profile smoke
"""

from maple import report
from maple.config import command
from maple.core import storage
from maple.report import terminal


def main(params, arguments):
    folder = params.artifacts / "report"
    with storage.folder(folder) as part:
        storage.write_text(part / "report.html", report.page(params))
    print(terminal.text(params, folder / "report.html"))


if __name__ == "__main__":
    command.run(__doc__, main)
