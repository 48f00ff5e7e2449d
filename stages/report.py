"""Write the report (one HTML page of everything) and the adapters' model cards; print what a reader wants first.

python -m stages.report --profile smoke
"""

from maple import report
from maple.config import command
from maple.core import storage
from maple.report import model_card, terminal
from maple.results import collect


def main(params, arguments):
    folder = params.artifacts / "report"
    with storage.folder(folder) as part:
        storage.write_text(part / "report.html", report.page(params))
        for name, record in collect.load(params.artifacts / "collected").records.items():
            if record["adapter"]:
                storage.write_text(part / "cards" / f"{name}.md", model_card.card(record["adapter"], params.is_smoke))
    print(terminal.text(params, folder / "report.html"))


if __name__ == "__main__":
    command.run(__doc__, main)
