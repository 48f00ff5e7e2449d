"""The report of a made-up full grid: one file, small, whole, safe, and readable in a browser."""

import dataclasses
import html.parser
import json
import os
import re
import shutil
from pathlib import Path

import answers
import pytest
import synthetic
from browser import CHROMIUM, browse

from maple import report
from maple.config import bills
from maple.core import storage
from maple.report import examples, records, runs, terminal
from maple.upstream import languages
from stages import compare, figures
from stages import tables as tables_stage

ROOT = Path(__file__).parents[2]
CELL, ABSENT = "mistral-7b-4bit.alpaca.r8.s42", "llama-2-7b-8bit.alpaca.r8.s42"
PREPARED = """# Training set alpaca

| language | read |
| --- | ---: |
| Arabic (ar) | 300 |

~~~text
<b>bold?</b>
~~~
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A working directory with everything that the report reads, made by the stages before it."""
    folder = tmp_path_factory.mktemp("report")
    for shared in ("paper_tables/published", "paper_tables/claims.yaml", "profiles", "docs"):
        (folder / shared).parent.mkdir(parents=True, exist_ok=True)
        (folder / shared).symlink_to(ROOT / shared)
    before = Path.cwd()
    os.chdir(folder)
    params = synthetic.params()
    synthetic.write(params.artifacts / "collected", examples=30, without=(ABSENT,))
    for stage in (tables_stage, figures, compare):
        stage.main(params, None)
    answers.write(params, [CELL, "llama-2-7b-4bit"])
    storage.write_text(bills.kept_path(params), synthetic.bills(synthetic.names()))
    storage.write_text(params.artifacts / "prepared" / "alpaca" / "examples.md", PREPARED)
    yield params
    os.chdir(before)


@pytest.fixture(scope="module")
def page(workplace):
    return report.page(workplace)


def test_what_was_won_and_lost_stands_side_by_side(workplace, tmp_path, monkeypatch):
    """The answers of the base and of the finetuned model to the examples that the tables stage chose."""
    path = workplace.regenerated / "tables" / "analyses" / "errors_shown.csv"
    chosen = storage.read_csv(path)
    assert chosen and {row["outcome"] for row in chosen} == {"won", "lost"}
    monkeypatch.setattr(type(workplace), "folder", lambda self, kind, name: tmp_path / kind / name)
    one = next(row for row in chosen if row["task"] == "belebele")
    assert examples.side_by_side(workplace, path) == []
    answers.write(workplace, [one["base"], one["finetuned"]], per_group=30)
    groups = examples.side_by_side(workplace, path)
    (group,) = [
        each
        for each in groups
        if each["task"] == "belebele" and each["name"].startswith(f"{one['model']} {one['dataset']} ")
    ]
    assert {row["id"] for row in group["rows"]} == {
        row["id"]
        for row in chosen
        if all(row[key] == one[key] for key in ("model", "dataset", "configuration", "task"))
    }
    said = answers.SPOKEN.get(group["language"], answers.SPOKEN["en"])
    assert all(row["base"]["text"] == row["reference"] == f"{said} 0" for row in group["rows"])
    assert group["rows"][0]["prompt"].startswith("[…]") or len(group["rows"][0]["prompt"]) < 500


class Outline(html.parser.HTMLParser):
    """Ids, anchors, outside references, open elements and tables without headings of a page."""

    VOID = {"meta", "input", "br", "link", "hr", "img"}

    def __init__(self, page):
        super().__init__()
        self.ids, self.anchors, self.outside, self.open, self.labels = [], [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        for key in ("href", "src", "xlink:href"):
            if key in found:
                (self.anchors if found[key].startswith("#") else self.outside).append(found[key])
        self.labels += found.get("aria-labelledby", "").split()

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def payload(page):
    return json.loads(re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_is_well_formed_and_needs_nothing_from_outside(page):
    outline = Outline(page)
    assert outline.open == [] and outline.outside == []
    assert len(outline.ids) == len(set(outline.ids)), "ids are unique, over all drawings too"
    assert {anchor[1:] for anchor in outline.anchors} <= set(outline.ids)
    assert set(outline.labels) <= set(outline.ids)
    assert "url(http" not in page and "@import" not in page


def test_a_page_of_the_full_grid_stays_small(page):
    assert len(page.encode("utf-8")) < 5e6


def test_equal_inputs_give_equal_pages(workplace, page):
    assert report.page(workplace) == page


def test_what_a_model_wrote_cannot_become_part_of_the_page(page):
    assert "<script>document.title" not in page and "<b>x</b>" not in page
    given = payload(page)["examples"]["answers"]["llama-2-7b-4bit"]
    assert any(answer and isinstance(answer[0], str) and "</script>" in answer[0] for answer in given), (
        "yet it is shown as written"
    )


def test_every_cell_of_the_tables_opens_the_records_behind_it(page):
    found = payload(page)
    opened = [int(place) for place in re.findall(r'data-cell="(\d+)"', page)]
    assert opened == list(range(len(found["cells"])))
    finetuned = [cell for cell in found["cells"] if cell["cells"]]
    assert finetuned and all(name in found["records"] for cell in finetuned for name in cell["cells"])


def test_every_record_carries_its_scores_for_every_language(page):
    found = payload(page)
    assert len(found["records"]) == 126
    for entry in found["records"].values():
        for block, line in zip(found["layout"], entry["scores"], strict=True):
            assert len(line) == len(block["languages"]) and all(line)


def test_the_missing_cell_is_named_and_counted(page):
    assert "126 of 127" in page and "1 missing" in page and ABSENT in page


def test_every_section_of_the_navigation_is_there(page):
    for section in ("runs", "tables", "claims", "figures", "grid", "languages", "data", "deviations"):
        assert f'id="{section}"' in page
    assert page.count('<svg role="img"') == 5
    assert all(
        f'<th scope="row">{languages.table()[code].name}</th>' in page for code in synthetic.task_languages("belebele")
    )


def test_a_training_sets_page_is_shown_with_its_tables_and_without_its_html(page):
    assert "<h3>Training set alpaca</h3>" in page and "<td>Arabic (ar)</td>" in page
    assert "&lt;b&gt;bold?&lt;/b&gt;" in page and "<b>bold?</b>" not in page


def test_tick_labels_keep_their_digits(page, workplace):
    drawing = (workplace.regenerated / "figures" / "figure1.svg").read_text(encoding="utf-8")
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
    assert (
        labels
        and labels
        == re.findall(r"<text[^>]*>([^<]*)</text>", page[page.index('aria-labelledby="figure1-title') :])[: len(labels)]
    )


def test_the_terminal_summary_shows_table_1_and_the_next_commands(workplace):
    said = terminal.text(workplace, Path("report.html"))
    assert "SMOKE" not in said and "Table 1, ours / the paper's" in said
    assert re.search(r"Mistral-7b MultiAlpaca +0\.\d\d/0\.53", said)
    assert "dvc exp run -S lora.r=32" in said and "make compare PROFILE=paper" in said
    assert max(map(len, said.splitlines())) <= 130


def test_a_smoke_page_says_so_in_title_banner_and_terminal(workplace, tmp_path, monkeypatch):
    smoke = dataclasses.replace(workplace, sources="smoke")
    for shared in ("paper_tables", "artifacts", "profiles", "docs"):
        shutil.copytree(shared, tmp_path / shared)
    monkeypatch.chdir(tmp_path)
    for stage in (tables_stage, compare):
        stage.main(smoke, None)
    page, said = report.page(smoke), terminal.text(smoke, Path("report.html"))
    assert "<title>SMOKE" in page and 'class="smoke"' in page and said.startswith("SMOKE")
    assert "not comparable (smoke)" in page and "not comparable (smoke)" in said


def test_a_curve_keeps_its_mean_level_and_last_step():
    losses = [2.0 - place / 1000 for place in range(1000)]
    points = records.curve(losses)
    assert len(points) == records.CURVE_POINTS and points[-1][0] == 1000
    assert sum(loss for _, loss in points) / len(points) == pytest.approx(sum(losses) / 1000, abs=0.01)
    assert records.curve([]) == []


def test_an_example_shows_options_or_text_and_its_reference(tmp_path, monkeypatch):
    params = synthetic.params()
    monkeypatch.chdir(tmp_path)
    answers.write(params, ["one"], per_group=1)
    folders = {name: (params.folder("answers", name), params.folder("scores", name)) for name in ("one", "absent")}
    found = examples.compact(folders, [("xcopa", "th"), ("xquad", "ar")])
    choice, text = found["items"]
    assert choice[4] and choice[5] == choice[4][0] and text[5] == answers.SPOKEN["ar"]
    assert found["answers"]["one"] == [
        [0, 1.0, [-1.5, -2.5, -3.5]],
        [f"{answers.SPOKEN['ar']} {answers.HOSTILE}", 1.0, answers.SPOKEN["ar"]],
    ]
    assert "absent" not in found["answers"]


def test_hardware_is_the_gpu_where_there_is_one():
    assert runs.hardware({"gpu": "NVIDIA A100", "processor": "x", "cores": 8}) == "NVIDIA A100"
    assert runs.hardware({"processor": "x", "cores": 8}) == "x, 8 cores"


# -- In a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")
@pytest.mark.parametrize("size", ["1280,900", "500,844"])
def test_a_browser_opens_sorts_filters_and_shows_a_record(page, tmp_path, size):
    said = browse(page, tmp_path, size, CELL)
    assert said["errors"] == [] and not said["injected"]
    assert said["loaded"] < 2000, "milliseconds"
    assert said["cell"].startswith("Table 1: gpt-4") and said["record"] == CELL
    assert said["focus"] == "opened-title", "the keyboard and the screen reader follow"
    assert answers.SPOKEN["ar"] in said["answer"] and said["direction"] == "rtl"
    assert said["sorted"] == sorted(said["sorted"]) and len(said["sorted"]) == 126
    assert 0 < said["shown"] < 24
    assert said["width"] <= said["window"], "tables scroll inside their frames, the page does not"


def test_the_page_opens_with_the_verdict_then_tables_and_says_later_what_ran(page):
    sections = re.findall(r'<section id="(\w+)"', page)
    assert sections[:3] == ["verdict", "tables", "claims"] and sections.index("runs") > sections.index("languages")
    first = page[page.index('<section id="verdict"') : page.index('<section id="tables"')]
    assert "differ" in first and "cannot tell" in first and "126 of 127" in first
