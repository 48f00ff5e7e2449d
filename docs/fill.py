"""Fill the generated parts of README.md, docs/CLAIMS.md and docs/APPENDIX.md, those between `<!-- NAME: ... -->` and `<!-- end -->`.

python docs/fill.py            # write
python docs/fill.py --check    # exit 1 if it would change anything
"""

import csv
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import calibrate
from maple.config import catalogue, params
from maple.core.progress import duration  # noqa: E402
from maple.results import power


def results() -> str:
    """Table 1 of the committed smoke run, and the published one: from git's index, where no experiment of a user is."""
    folders = {"Ours": "regenerated/smoke/tables", "The paper's": "published/tables"}
    tables = {title: ["git", "show", f":paper_tables/{folder}/table1.md"] for title, folder in folders.items()}
    return "\n\n".join(
        f"{title}:\n\n{subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()}"
        for title, command in tables.items()
    )


def costs() -> str:
    rows = _csv("costs")
    lines = ["| command | wall time | peak memory | |", "|---|---|---|---|"]
    lines += [
        f"| `{row['command']}` | {duration(int(row['seconds']))} | {row['peak_gb'] + ' GB' if row['peak_gb'] else 'not measured'} | {row['note']} |"
        for row in rows
    ]
    note = f"On {rows[0]['cores']} cores without a GPU, {rows[0]['date']}, in a fresh clone; peak memory is that of the largest process."
    return "\n".join(lines) + f"\n\n{note} `python benchmarks/costs.py FOLDER` measures it."


def licences() -> str:
    lines = ["| | repository, revision | licence | token | text by |", "|---|---|---|---|---|"]
    for source in [*catalogue.models().values(), *catalogue.datasets().values()]:
        pin = source.commit_starts or source.revision[:7]
        lines.append(
            f"| {source.label} | [{source.hub_id}]({source.page}) `{pin}` | {source.licence} | {'yes' if source.gated else 'no'} | {source.origin} |"
        )
    return "\n".join(lines)


def errors() -> str:
    return calibrate.error_table(calibrate.read())


def seeds() -> str:
    return calibrate.seed_table(calibrate.read())


def powers() -> str:
    return power.as_markdown(params.load("paper"))


def kills() -> str:
    """What benchmarks/trials.py counted: signals that hit something, those survived, when."""
    rows = _csv("kills")
    hits = [row for row in rows if row["fate"] != "late"]
    lines = ["| during | signals | ended with the same bytes |", "|---|---|---|"]
    for verb in [*dict.fromkeys(row["verb"] for row in hits), ""]:
        these = [row for row in hits if verb in ("", row["verb"])]
        survived = sum(row["fate"] == "survived" for row in these)
        lines.append(f"| {f'`{verb}`' if verb else 'all'} | {len(these)} | {survived} |")
    names = ", ".join(f"{name} {count}" for name, count in Counter(row["signal"] for row in hits).items())
    late = f"{len(rows) - len(hits)} more came after the stage or DVC had ended and do not count."
    return "\n".join(lines) + f"\n\n{names}. {late}"


def conditions() -> str:
    """What benchmarks/conditions.py saw."""
    lines = ["| condition | what came of it |", "|---|---|"]
    for row in _csv("conditions"):
        said = f": `{row['said']}`" if row["said"] else ""
        lines.append(f"| {row['condition']} | {row['fate']}{said} |")
    return "\n".join(lines)


def bad_inputs() -> str:
    """What benchmarks/bad_inputs.py counted."""
    rows = _csv("bad_inputs")
    lines = ["| kind | inputs | refused |", "|---|---|---|"]
    for kind in [*dict.fromkeys(row["kind"] for row in rows), ""]:
        these = [row for row in rows if kind in ("", row["kind"])]
        refused = sum(row["fate"] == "refused" for row in these)
        lines.append(f"| {kind or 'all'} | {len(these)} | {refused} |")
    return "\n".join(lines)


def _csv(name: str) -> list[dict[str, str]]:
    with open(ROOT / "benchmarks" / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


PAGES = {
    "README.md": (results, costs, licences),
    "docs/CLAIMS.md": (errors, seeds, powers),
    "docs/APPENDIX.md": (kills, conditions, bad_inputs),
}


def fill(page: str, text: str) -> str:
    for part in PAGES[page]:
        pattern = rf"(<!-- {part.__name__}: [^\n]*-->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, part=part: f"{m[1]}{part()}\n{m[2]}", text, flags=re.S)
        if count != 1:
            sys.exit(f"{page} has {count} parts named {part.__name__}")
    return text


def main() -> None:
    for page in PAGES:
        path = ROOT / page
        before = path.read_text()
        after = fill(page, before)
        if after != before and "--check" in sys.argv:
            sys.exit(f"{page} is not up to date: run python docs/fill.py")
        path.write_text(after)


if __name__ == "__main__":
    main()
