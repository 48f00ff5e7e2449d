"""The whole result as one HTML page: no network, no files beside it, readable without its script.

`page` reads what the other stages wrote and fills template.html; style.css and script.js go into the page. Tables,
figures and claims are plain HTML; what a cell opens (record, curve, examples) is compact JSON that the script draws
on demand, which keeps a page of 120 cells and 40 languages small.
"""

import json
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
from markdown_it import MarkdownIt

from maple.config import bills
from maple.config.params import Params
from maple.report import data, examples, records, results, runs
from maple.results import collect
from maple.results.tables import SMOKE

HERE = Path(__file__).parent
DEVIATIONS = Path("docs", "DEVIATIONS.md")


def page(params: Params) -> str:
    """The page of one profile, from artifacts/<profile> and paper_tables/regenerated/<profile>."""
    found = collect.load(params.artifacts / "collected")
    # Those that git keeps: with the times of each run in it, the page would differ at every run.
    spent = bills.kept(params)
    verdicts, claims = results.verdicts(params.regenerated / "compare"), results.claims(params.regenerated / "compare")
    tables = results.paper_tables(params.regenerated / "tables", verdicts)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"duration": runs.duration, "markdown": _markdown}
    return environment.get_template("template.html").render(
        profile=params.profile,
        smoke=SMOKE if params.is_smoke else None,
        style=markupsafe.Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=markupsafe.Markup((HERE / "script.js").read_text(encoding="utf-8")),
        verdict=results.verdict(verdicts, claims),
        runs=runs.summary(found, spent),
        tables=tables,
        summary=verdicts["summary"],
        claims=claims,
        figures=results.figures(params.regenerated / "figures"),
        grid=results.grid(params.regenerated / "tables" / "details" / "grid.csv"),
        language_tables=results.language_tables(params.regenerated / "tables" / "languages", found),
        analyses=results.analyses(params.regenerated / "tables" / "analyses")
        + results.questions(params.regenerated / "compare"),
        changed=examples.side_by_side(params, params.regenerated / "tables" / "analyses" / "errors_shown.csv"),
        data=data.training_sets(params),
        sources=data.sources(params),
        deviations=DEVIATIONS.read_text(encoding="utf-8") if DEVIATIONS.is_file() else "",
        payload=_embedded(
            {"cells": [cell for table in tables for cell in table["details"]]} | records.compact(found, params, spent)
        ),
    )


def _embedded(value: Any) -> markupsafe.Markup:
    """JSON that cannot end the script element it stands in, whatever a model has written."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return markupsafe.Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _markdown(text: str) -> markupsafe.Markup:
    """Our own Markdown without raw HTML and links; headings go two levels down, to stand below a section's."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        if token.type == "table_open":
            token.attrSet("tabindex", "0")
        if token.children:
            token.children = [child for child in token.children if child.type not in ("link_open", "link_close")]
    return markupsafe.Markup(parser.renderer.render(tokens, parser.options, {}))
