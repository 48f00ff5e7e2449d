"""The statistics record of a training set as a page to read, with rows exactly as the model gets them."""

from typing import Any

from maple.preparation.select import REASONS
from maple.upstream import languages


def page(found: dict[str, Any], examples: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown; `examples` are language -> rows, each with the text of its prompt's and its answer's tokens."""
    parts = [_summary(found), _languages(found), _faults(found)]
    parts += [_tokens(found, model) for model in found["models"]]
    parts += [_overlap(found), _rows(examples)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _summary(found: dict[str, Any]) -> list[str]:
    source, rows, ids = found["source"], found["rows"], found["ids"]
    made_here = source["commit"] == "smoke"
    pin = source["revision"] if made_here else source["commit"]
    smoke = "**SMOKE**: sample rows made by this project; the figures say nothing about the real data.\n\n" * made_here
    settings = found["settings"]["training_set"]
    return [
        f"# Training set {found['dataset']}",
        "",
        f"{smoke}From {source['label']} ({source['hub_id']} at `{pin[:12]}`, {source['licence']}). "
        f"Origin of the text: {source['origin']}.",
        "",
        f"{rows['read']:,} rows read, {rows['train']:,} for training ({ids['train']:,} seed instructions), "
        f"{rows['heldout']:,} held out ({ids['heldout']:,} seed instructions, none of them in training). "
        f"Translations per instruction: {settings['translations_per_instruction']}.",
    ]


def _languages(found: dict[str, Any]) -> list[str]:
    head = ["language", "read", "train", "held out", "letters by script", "outputs in another script"]
    rows = [
        [
            _name(code),
            one["read"],
            one["train"],
            one["heldout"],
            ", ".join(f"{script} {100 * share:.1f} %" for script, share in one["scripts"].items()),
            one["outputs_in_other_script"],
        ]
        for code, one in found["languages"].items()
    ]
    return ["## Languages", "", *_table(head, rows)]


def _faults(found: dict[str, Any]) -> list[str]:
    rows = [
        [_name(code), *(_found(one["found"][reason], one["dropped"][reason]) for reason in REASONS)]
        for code, one in found["languages"].items()
    ]
    return [
        "## Rows found faulty",
        "",
        "In brackets those dropped, where not all were. A row counts under the first reason that drops it.",
        "",
        *_table(["language", *(reason.replace("_", " ") for reason in REASONS)], rows),
    ]


def _tokens(found: dict[str, Any], model: str) -> list[str]:
    head = ["language", "rows", "median", "90 %", "99 %", "longest", "truncated", "tokens lost", "cut away"]
    rows = [_token_row(_name(code), one["models"][model]) for code, one in found["languages"].items() if one["models"]]
    return [
        f"## Tokens of {model}",
        "",
        f"Lengths are those before cutting at {found['settings']['prepare']['max_length']} tokens. `cut away` are rows "
        "dropped because nothing of the answer was left. Fertility is measured on the answers; words only where spaces part them.",
        "",
        *_table([*head, "tokens/character", "tokens/word"], [*rows, _token_row("all", found["models"][model])]),
    ]


def _overlap(found: dict[str, Any]) -> list[str]:
    lines = ["## Overlap with evaluation items", ""]
    if not found["overlap"]:
        return [*lines, "No evaluated task has a language of this set."]
    n = found["settings"]["prepare"]["overlap_ngram"]
    rows = [
        [_name(code), task, one["items"], one["items_found"], one["rows"]]
        for code, tasks in found["overlap"].items()
        for task, one in tasks.items()
    ]
    return [
        *lines,
        f"An item is found if it shares {n} words in a row with a chosen row of its language (characters, where no spaces "
        "part words), or if one of its questions or passages is a whole field of one. overlap.csv lists the pairs.",
        "",
        *_table(["language", "task", "items", "found", "rows of ours"], rows),
        *_across(found),
    ]


def _across(found: dict[str, Any]) -> list[str]:
    rows = [
        [task, _name(code), items] for task, counts in found["overlap_across"].items() for code, items in counts.items()
    ]
    if not rows:
        return ["", "No item overlaps through its translation into another language of this set."]
    return [
        "",
        "Items that were not found in their own language, but whose translation was in another; in all languages that are "
        "evaluated. Evidence that the answer was seen, in another language.",
        "",
        *_table(["task", "language", "items whose translation was found"], rows),
    ]


def _rows(examples: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = ["## Rows as the model gets them", "", "Text of the tokens themselves; only the answer's carry loss."]
    for code, some in examples.items():
        lines += ["", f"### {_name(code)}"]
        for one in some:
            lines += ["", f"`{one['id']}` (row {one['row']} of the file, {one['tokens']} tokens)", "", "Prompt:", ""]
            lines += [_fenced(one["prompt"]), "", "Answer:", "", _fenced(one["answer"])]
    return lines


def _name(code: str) -> str:
    return f"{languages.table()[code].name} ({code})"


def _found(found: int, dropped: int) -> str:
    return f"{found:,}" if found == dropped else f"{found:,} ({dropped:,})"


def _token_row(name: str, one: dict[str, Any]) -> list[Any]:
    fertility = [one["answer_tokens_per_character"], one["answer_tokens_per_word"]]
    return [
        name,
        one["rows"],
        *one["length_percentiles"].values(),
        one["truncated"],
        one["truncated_tokens"],
        one["cut_away"],
        *("-" if value is None else f"{value:.2f}" for value in fertility),
    ]


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    cells = [
        head,
        ["---"] + ["---:"] * (len(head) - 1),
        *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows),
    ]
    return ["| " + " | ".join(row) + " |" for row in cells]


def _fenced(text: str) -> str:
    """A code block whose fence the text does not contain."""
    fence = "~~~"
    while fence in text:
        fence += "~"
    return f"{fence}text\n{text}\n{fence}"
