"""A table as CSV, Markdown and LaTeX. The same functions print the paper's numbers and ours."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from maple.results.published import Row, TableLayout, number


@dataclass(frozen=True)
class Table:
    """Strings only. `rules` holds the places of rows with a rule before them; `label` marks every file (SMOKE)."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    rules: frozenset[int] = frozenset()
    notes: Sequence[str] = field(default_factory=tuple)
    label: str | None = None


def paper_table(
    layout: TableLayout,
    printed: Mapping[tuple[str, str], str],
    more: Sequence[Row] = (),
    label: str | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """A table of the paper: `printed` maps (row key, column key) to a string, `more` are rows below the paper's own.

    A cell that is not in `printed` stays blank, as on the poster. With `notes` of ours, the paper's are marked as such.
    """
    rows = [*layout.rows, *more]
    places = {row.key: place for place, row in enumerate(rows)}
    rules = {places[key] for key in layout.rules} | ({len(layout.rows)} if more else set())
    return Table(
        title=layout.caption,
        header=[*layout.labels, *(column.header for column in layout.columns)],
        rows=[[*row.printed, *(printed.get((row.key, column.key), "") for column in layout.columns)] for row in rows],
        rules=frozenset(rules),
        notes=[*notes, *(f"The paper's: {note}" if notes else note for note in layout.notes)],
        label=label,
    )


def to_csv(table: Table) -> str:
    """Rows and header only; a label becomes a last column `note`, so that no row can be quoted without it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.header, "note"] if table.label else table.header)
    writer.writerows([*row, table.label.split(":")[0]] if table.label else row for row in table.rows)
    return text.getvalue()


def to_markdown(table: Table) -> str:
    lines = [f"**{table.label}**", ""] if table.label else []
    lines += [table.title, "", _line(table.header), _line("---:" if numeric else "---" for numeric in _numeric(table))]
    lines += [_line(row) for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """A booktabs table; notes are comments, the label is part of the caption."""
    # LaTeX numbers tables itself.
    title = re.sub(r"^Table \d+\. ", "", table.title)
    caption = _escape(f"{table.label}. {title}" if table.label else title)
    columns = "".join("r" if numeric else "l" for numeric in _numeric(table))
    lines = [f"% {note}" for note in ([table.label] if table.label else []) + list(table.notes)]
    lines += [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [_latex_row(table.header), r"\midrule"]
    for place, row in enumerate(table.rows):
        lines += ([r"\midrule"] if place in table.rules else []) + [_latex_row(row)]
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


def _numeric(table: Table) -> list[bool]:
    """Per column, whether it holds numbers (and NA, missing, blanks), which align right."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.header)
    return [
        any(number(cell) is not None for cell in column)
        and all(number(cell) is not None or cell in ("", "NA", "missing") for cell in column)
        for column in columns
    ]


def _line(cells) -> str:
    return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_escape(cell) for cell in cells) + r" \\"


def _escape(text: str) -> str:
    for character in "&%$#_":
        text = text.replace(character, "\\" + character)
    return text
