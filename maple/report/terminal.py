"""The end of a run in a terminal: Table 1 beside the paper's, the verdicts, what was written, what to type next."""

from pathlib import Path

from maple.config.params import Params
from maple.report import results
from maple.results import published
from maple.results.tables import SMOKE


def text(params: Params, page: Path) -> str:
    verdicts = results.verdicts(params.regenerated / "compare")
    claims = results.claims(params.regenerated / "compare")
    table = results.paper_tables(params.regenerated / "tables", verdicts)[0]
    verdict = results.verdict(verdicts, claims)
    lines = [SMOKE, ""] if params.is_smoke else []
    lines += ["Table 1, ours / the paper's", *_columns(_rows(table)), ""]
    lines += [f"cells   {verdict['cells']}", f"claims  {verdict['claims']}", ""]
    lines += [
        f"tables, figures, comparison  {params.regenerated}",
        f"report                       {page} (open it in a browser)",
        "",
    ]
    lines += ["next", *(f"  {command:<44} {what}" for command, what in _next(params))]
    return "\n".join(lines)


def _rows(table: dict) -> list[list[str]]:
    """Header and one line per row that we ran; `ours/theirs` where the paper has a number."""
    rows = [["", *table["header"][table["labels"] :]]]
    baselines = {row.printed for row in published.layout("table1").rows if row.baseline}
    for row in table["rows"]:
        if tuple(row["labels"]) not in baselines:
            cells = [
                f"{cell['ours']}/{cell['published']}" if cell["published"] else cell["ours"] for cell in row["cells"]
            ]
            rows.append([f"{row['model']} {row['labels'][1]}", *cells])
    return rows


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _next(params: Params) -> list[tuple[str, str]]:
    profile = "" if params.profile == "smoke" else f" PROFILE={params.profile}"
    return [
        ("dvc exp run -S lora.r=32", "the experiment at another rank, the grid untouched"),
        (f"make compare{profile}", "the verdict as an exit code"),
        ("make plan PROFILE=paper", "what the paper's grid costs, before it starts"),
    ]
