"""The report in headless Chromium: open, click, sort, filter, and say what was seen."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = """--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""
PROBE = """
<script>
const started = performance.timing.navigationStart;
window.addEventListener("load", () => {
  const said = {errors: window.failures, title: document.title, loaded: Date.now() - started};
  document.querySelector("[data-cell]").click();
  said.cell = document.getElementById("opened-title").textContent;
  showRecord("RECORD");
  said.record = document.getElementById("opened-title").textContent;
  said.focus = document.activeElement.id;
  const choice = document.querySelector("dialog select");
  choice.value = "xquad ar"; choice.dispatchEvent(new Event("change"));
  const answer = document.querySelector(".output");
  said.answer = answer.textContent;
  said.direction = getComputedStyle(answer).direction;
  said.injected = document.querySelectorAll("dialog b b, dialog script").length;
  dialog.close();
  document.querySelectorAll("#cells .sort")[4].click();
  said.sorted = [...document.querySelectorAll("#cells tbody tr")].map((row) => Number(row.cells[4].dataset.sort));
  document.querySelector("input[value=differs]").click();
  said.shown = [...document.querySelectorAll(".paper tbody tr")].filter((row) => row.offsetParent !== null).length;
  said.width = document.documentElement.scrollWidth;
  said.window = innerWidth;
  document.documentElement.replaceChildren(document.createTextNode("<<" + JSON.stringify(said) + ">>"));
});
</script>
"""


def browse(page: str, folder: Path, size: str, record: str) -> dict:
    """What the probe saw in headless Chromium; the time includes reading the page, not starting the browser."""
    probed = page.replace(
        "<style>",
        "<script>window.failures = []; window.onerror = (text) => window.failures.push(text);</script><style>",
        1,
    )
    (folder / "probed.html").write_text(
        probed.replace("</body>", PROBE.replace("RECORD", record) + "</body>"), encoding="utf-8"
    )
    command = [
        CHROMIUM,
        *FLAGS.split(),
        f"--user-data-dir={folder / size}",
        f"--window-size={size}",
        "--dump-dom",
        (folder / "probed.html").as_uri(),
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"(?:&lt;|<){2}(.*)(?:&gt;|>){2}", said, re.DOTALL)
    return json.loads(html.unescape(found[1]))
