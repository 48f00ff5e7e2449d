"""What a text costs in tokens: by language under the real tokenisers, and per example of the paper profile's tasks.

    MAPLE_TOKENISERS=FOLDER python -m benchmarks.fertility --rows FOLDER   # measure, write benchmarks/fertility.csv
    python -m benchmarks.fertility                                         # show the table as docs/FERTILITY.md has it

MAPLE_TOKENISERS holds a folder per base (llama-2-7b, mistral-7b) with its tokenizer.json; --rows is laid out as the
Hugging Face Hub (datasets/google/xquad/xquad.th/validation-*.parquet). Languages and tasks that are not there are left
out. The CSV holds counts only, no text:

    tokens_per_word        a text's tokens by its words (white space); empty where a script has no spaces between words
    tokens_per_character   by its characters (Unicode code points)
    times_english          tokens of the parallel XQuAD passages by those of the English ones
    read                   tokens that the model reads for an example: what examples share counted once, shots left out
    read_alone             the same if nothing were shared
    written                tokens of the right answer (AlpacaEval: of the reference answer), at most max_new_tokens
    row                    tokens of an instruction row in the profile's template, at most prepare.max_length
    row_by_length          the same, each row weighted with its length: what attention's memory goes by
    answer_share           answer tokens by all tokens of these rows
    fill                   row by prepare.max_length
    fill_scaled            fill if instruction and answer had times_english as many tokens: an estimate, not a count
"""

import argparse
import csv
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maple import tasks
from maple.config import catalogue, params
from maple.core.errors import MapleError
from maple.models import shapes, tokeniser_check
from maple.preparation import scripts, training_prompt
from maple.upstream import languages

PATH = Path(__file__).with_suffix(".csv")
COLUMNS = ("tokeniser", "source", "language", "measure", "texts", "value")
# What the plan assumed before this was measured: tokens read for an example, tokens written, and of a training row.
ASSUMED_BEFORE = {
    ("xcopa", "read"): 90,
    ("xquad", "read"): 150,
    ("alpaca_eval", "read"): 80,
    ("xquad", "written"): 0.5 * 64,
    ("alpaca_eval", "written"): 0.5 * 1024,
    ("alpaca_eval", "fill"): 0.35,
    ("alpaca_eval", "fill_scaled"): 0.35,
    ("alpaca_eval", "answer_share"): 0.55,
}
# Which text of a task stands for its language: one that a person wrote or translated, whole sentences.
FIELDS = {
    "xcopa": ("premise", "choice1", "choice2"),
    "xquad": ("context", "question"),
    "alpaca_eval": ("instruction", "output"),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--rows", type=Path, help="data sets as the Hub has them; without it the committed table is shown"
    )
    given = options.parse_args()
    if given.rows is None:
        print(table(load()))
        return
    if "MAPLE_TOKENISERS" not in os.environ:
        sys.exit("MAPLE_TOKENISERS names no folder with the bases' tokenisers")
    found = list(measure(Path(os.environ["MAPLE_TOKENISERS"]), given.rows))
    with open(PATH, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(found)
    print(f"{PATH}: {len(found)} rows")


def load() -> list[dict[str, str]]:
    with open(PATH, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def measure(tokenisers: Path, rows: Path) -> Iterator[tuple]:
    """Rows of the CSV, in the order of tokenisers, tasks and languages."""
    profile = params.load("paper")
    for model in profile.models:
        tokeniser = tokeniser_check.load(tokenisers / model)
        shape = shapes.Shape(**catalogue.models()[model].shape)
        english: dict[str, int] = {}
        times: dict[str, float] = {}
        for name, code, asked in sheets(rows, profile):
            texts = [str(example.fields[field]) for example in asked.examples for field in FIELDS[name]]
            yield from ((model, name, code, *row) for row in fertility(tokeniser, texts, code))
            if name == "xquad":
                lengths = {
                    example.id: length
                    for example, length in zip(
                        asked.examples, counts(tokeniser, [e.fields["context"] for e in asked.examples])
                    )
                }
                english = english or english_passages(tokeniser, rows, profile)
                both = lengths.keys() & english.keys()
                times[code] = sum(lengths[key] for key in both) / sum(english[key] for key in both)
                yield model, name, code, "times_english", len(both), round(times[code], 4)
            yield from ((model, name, code, *row) for row in examples_cost(tokeniser, asked, shape, profile))
            if name == "alpaca_eval":
                yield from (
                    (model, name, code, *row) for row in instruction_rows(tokeniser, asked.examples, profile, {})
                )
        if times and (asked := next((s for name, _, s in sheets(rows, profile) if name == "alpaca_eval"), None)):
            for code, factor in sorted(times.items()):
                (row,) = instruction_rows(tokeniser, asked.examples, profile, {code: factor})
                yield model, "alpaca_eval", code, *row


def sheets(rows: Path, profile: params.Params) -> Iterator[tuple[str, str, Any]]:
    """(task, language, its sheet without shots) for the paper profile's tasks and all languages that are at hand."""
    from maple.answering.questions import sheet

    with tempfile.TemporaryDirectory() as folder:
        for name in FIELDS:
            task, source = tasks.get(name), catalogue.datasets()[tasks.get(name).source]
            # The task reads sources/datasets/<key>; the Hub has <owner>/<name>.
            if not (there := (rows / "datasets" / source.hub_id).resolve()).exists():
                continue
            Path(folder, source.key).symlink_to(there, target_is_directory=True)
            options = profile.evaluation.tasks[name]
            for code in sorted(languages.of_task(name)):
                plain = dataclasses.replace(options, languages=[code], shots=0, limit=None)
                if here(there, task, code):
                    yield name, code, sheet(name, code, plain, Path(folder), profile.evaluation.seed)


def here(folder: Path, task: Any, code: str) -> bool:
    if task.name != "alpaca_eval":
        names = languages.table()[code].upstream.get(task.name, (code,))
        return all((folder / name).is_dir() for name in names)
    return (folder / "alpaca_eval.json").exists()


def english_passages(tokeniser: Any, rows: Path, profile: params.Params) -> dict[str, int]:
    """Tokens of the English passage of each question."""
    for name, code, asked in sheets(rows, profile):
        if (name, code) == ("xquad", "en"):
            lengths = counts(tokeniser, [example.fields["context"] for example in asked.examples])
            return {example.id: length for example, length in zip(asked.examples, lengths)}
    return {}


def counts(tokeniser: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokeniser(texts, add_special_tokens=False, verbose=False)["input_ids"]] if texts else []


def fertility(tokeniser: Any, texts: list[str], code: str) -> Iterator[tuple]:
    """(measure, texts, value): each text once, though several questions share a passage."""
    texts = sorted(set(texts))
    total = sum(counts(tokeniser, texts))
    words = 0 if scripts.is_unspaced(code) else sum(len(text.split()) for text in texts)
    yield "tokens_per_word", len(texts), round(total / words, 4) if words else ""
    yield "tokens_per_character", len(texts), round(total / sum(map(len, texts)), 4)


def examples_cost(tokeniser: Any, asked: Any, shape: shapes.Shape, profile: params.Params) -> Iterator[tuple]:
    """(measure, examples, value) of what a model reads and writes for an example, by the plan that evaluation makes."""
    from maple.answering import encoding, loglikelihood, prefix_tree
    from maple.answering.questions import questions

    room = 4096 - asked.options.max_new_tokens
    listed = questions(asked, room, lambda text: len(encoding.encode(tokeniser, text)))
    if asked.options.scoring == "loglikelihood":
        made = loglikelihood.sequences(tokeniser, [(q.prompt, q.options) for q in listed], room)
        read = [np.array(option.tokens[:-1]) for options in made for option in options]
        overhead = prefix_tree.PASS
    else:
        read = [np.array(tokens[:-1]) for (tokens,) in encoding.encode_groups(tokeniser, [[q.prompt] for q in listed])]
        overhead = prefix_tree.PASS * asked.options.max_new_tokens
        right = [
            example.reference if isinstance(example.reference, str) else example.reference[0]
            for example in asked.examples
        ]
        written = np.minimum(np.array(counts(tokeniser, right)) + 1, asked.options.max_new_tokens)
        yield "written", len(right), round(float(written.mean()), 2)
    marks = [[(len(tokens) - 1, place)] for place, tokens in enumerate(read)]
    plan = prefix_tree.plan(read, marks, 6.0 * shape.hidden, overhead)
    computed = sum((len(group.prefix) if group.prefix is not None else 0) + sum(map(len, group.rows)) for group in plan)
    yield "read", len(listed), round(computed / len(listed), 2)
    yield "read_alone", len(listed), round(sum(map(len, read)) / len(listed), 2)


def instruction_rows(
    tokeniser: Any, examples: list, profile: params.Params, times: dict[str, float]
) -> Iterator[tuple]:
    """AlpacaEval's instructions and reference answers as training rows: text-davinci-003 wrote Alpaca's answers too.

    With `times` {language: factor} only `fill_scaled`.
    """
    settings = profile.prepare
    empty = counts(tokeniser, [training_prompt.prompt(settings.template, "")])[0] + 2
    instructions = np.array(counts(tokeniser, [example.fields["instruction"] for example in examples]))
    answers = np.array(counts(tokeniser, [example.fields["output"] for example in examples]))
    for factor in times.values() or [1.0]:
        before = empty + factor * instructions
        rows = np.minimum(before + factor * answers, settings.max_length)
        answer = np.clip(settings.max_length - before, 0, factor * answers)
        if times:
            yield "fill_scaled", len(rows), round(float(rows.mean()) / settings.max_length, 4)
            return
    yield "row", len(rows), round(float(rows.mean()), 2)
    yield "row_by_length", len(rows), round(float((rows**2).sum() / rows.sum()), 2)
    yield "answer_share", len(rows), round(float(answer.sum() / rows.sum()), 4)
    yield "fill", len(rows), round(float(rows.mean()) / settings.max_length, 4)


# -- docs/FERTILITY.md -----------------------------------------------------------------------------------------------


def table(found: list[dict[str, str]]) -> str:
    """Fertility by language, then tokens by task, as Markdown."""
    value = {(row["source"], row["language"], row["tokeniser"], row["measure"]): row["value"] for row in found}
    models = list(dict.fromkeys(row["tokeniser"] for row in found))
    lines = [
        "| text | language | "
        + " | ".join(f"{model}: per word | per character" for model in models)
        + " | times English |"
    ]
    lines.append("|---|---|" + "---:|" * (2 * len(models) + 1))
    for source, code in dict.fromkeys(
        (row["source"], row["language"]) for row in found if row["measure"] == "tokens_per_character"
    ):
        numbers = [
            _shown(value[source, code, model, f"tokens_per_{unit}"], 2)
            for model in models
            for unit in ("word", "character")
        ]
        both = [_shown(value.get((source, code, model, "times_english"), ""), 2) for model in models]
        lines.append(f"| {source} | {code} | {' | '.join(numbers)} | {', '.join(filter(None, both))} |")
    lines += ["", "| task | language | " + " | ".join(f"{model}: read | alone | written" for model in models) + " |"]
    lines.append("|---|---|" + "---:|" * (3 * len(models)))
    for source, code in dict.fromkeys((row["source"], row["language"]) for row in found if row["measure"] == "read"):
        numbers = [
            _shown(value.get((source, code, model, name), ""), 0)
            for model in models
            for name in ("read", "read_alone", "written")
        ]
        lines.append(f"| {source} | {code} | {' | '.join(numbers)} |")
    lines += [
        "",
        f"| assumed before | value | {' | '.join(models)} | languages | assumed by measured |",
        "|---|" + "---:|" * (3 + len(models)),
    ]
    for (source, name), before in ASSUMED_BEFORE.items():
        means = [
            [float(v) for (s, _, m, n), v in value.items() if (s, m, n) == (source, model, name)] for model in models
        ]
        shown = [f"{np.mean(some):.{2 if before < 1 else 0}f}" for some in means]
        off = ", ".join(f"{before / np.mean(some):.1f}" for some in means)
        lines.append(f"| {source}: {name} | {before:g} | {' | '.join(shown)} | {len(means[0])} | {off} |")
    return "\n".join(lines)


def _shown(value: str, digits: int) -> str:
    return f"{float(value):.{digits}f}" if value else ""


if __name__ == "__main__":
    try:
        main()
    except MapleError as error:
        sys.exit(str(error))
