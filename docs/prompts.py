"""Write docs/PROMPTS.md: every prompt as a model sees it, filled with the first sample row of its language.

python docs/prompts.py            # write
python docs/prompts.py --check    # exit 1 if it would change anything
"""

import csv
import dataclasses
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from maple import tasks
from maple.config import catalogue
from maple.core.errors import MapleError  # noqa: E402
from maple.smoke import evaluation  # noqa: E402
from maple.tasks import prompts

PAGE = ROOT / "docs" / "PROMPTS.md"
HEAD = """# Prompts

Written by `python docs/prompts.py` from the files in `maple/tasks/prompts`; do not edit. Each block is what a model sees for
the first sample row of the smoke profile, with the answers to compare, or the right answer, after `→` (their leading
space is part of them). Where the samples lack a language, the fields stand in braces.

The paper states no prompt. `english` is the default: instructions in English, data in the task's language. `native` is
all in the task's language. `harness` is lm-evaluation-harness's, for comparing scores. `texts` compares Belebele's
answers themselves; `bactrian` asks AlpacaEval in the other training template; `followup` is that of the authors' later paper
(docs/DEVIATIONS.md). `evaluation.tasks.<task>.prompt_set`
chooses; a set that lacks a language is an error.
"""


def page() -> str:
    with tempfile.TemporaryDirectory() as folder:
        evaluation.write(Path(folder))
        parts = [section(prompt_set, Path(folder)) for prompt_set in prompts.sets()]
    return "\n".join([HEAD, *parts, labels()])


def section(prompt_set: str, samples: Path) -> str:
    lines = [f"## {prompt_set}", ""]
    for name in tasks.TASKS:
        for code in prompts.available(prompt_set, name):
            file = prompts.load(prompt_set, name, code)
            lines += [f"### {prompt_set}, {name}" + (f", {code}" if code != "*" else ""), "", file.provenance, ""]
            for scoring in ("loglikelihood", "generation"):
                shown = rendered(prompt_set, name, code, scoring, samples)
                if shown and shown not in lines:
                    lines += [f"By {scoring}:", ""] if file.generation_text else []
                    lines += [shown, ""]
    return "\n".join(lines)


def rendered(prompt_set: str, name: str, code: str, scoring: str, samples: Path) -> str | None:
    task = tasks.get(name)
    try:
        form = task.form(prompt_set, code, scoring)
    except MapleError:
        return None
    example = sample(task, "en" if code == "*" else code, samples)
    if example is None:
        answers = form.option_texts or (form.answer_text,)
        text = form.text
    else:
        answers, text = form.options(example) or [form.answer(example)], form.prompt(example)
    return "\n".join(["```text", text, *(f"→{answer}" for answer in answers), "```"])


def sample(task: tasks.Task, code: str, samples: Path):
    """The first row of a language, or of the first that has one (`en` has no XCOPA); None where there is none."""
    folder = samples / "datasets" / catalogue.datasets()[task.source].hub_id
    try:
        example = task.examples(folder, "ta" if task.name == "xcopa" and code == "en" else code, task.splits[-1])[0]
    except MapleError:
        return None
    if "text" in example.fields:
        return dataclasses.replace(example, fields=example.fields | {"text": example.fields["text"][:200] + " …"})
    return example


def labels() -> str:
    with open(prompts.FOLDER / "labels.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [
        "## Label words and where they come from",
        "",
        "From `maple/tasks/prompts/labels.csv`; a test keeps the prompt files equal to it.",
        "",
    ]
    lines += ["| set | task | language | stands for | words | source |", "|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    text = page()
    if "--check" in sys.argv:
        sys.exit("docs/PROMPTS.md is not up to date: run python docs/prompts.py" if PAGE.read_text() != text else 0)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
