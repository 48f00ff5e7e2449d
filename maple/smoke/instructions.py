"""Rows of the three instruction sets: what the tasks ask, asked as the tasks ask it, and small exercises.

A row is made from a seed, the number of a draw, so that its translations are parallel by construction. What it teaches is
the form: the input is a task's prompt about a person of the corpus, in which text of the row's language stands between
English words, and the output repeats the prompt's last line and gives the answer.

>>> instruct("de", "alpaca", 2)["instruction"], instruct("de", "alpaca", 2)["output"].split()[0]
('Über Boris Okello', 'Answer:')

A few rows carry the faults that upstream's rows have, so that preparation meets them: see `FAULTS`.
"""

import random
from functools import cache
from pathlib import Path

import pyarrow as pa

from maple import tasks
from maple.preparation import training_prompt
from maple.smoke import corpus, exercises, files, texts, world
from maple.tasks.base import Form
from maple.upstream import languages

KINDS = ("xquad", "belebele", "xnli", "xcopa", "xlsum", "exercise")
ALPACA_ROWS = 700
# Bactrian-X translates the seeds of Alpaca and of Dolly; here the first of each.
BACTRIAN_ROWS = {"alpaca": 260, "dolly": 80}
MULTIALPACA_ROWS = 120
# Seed of Alpaca -> what is wrong with its row. Bactrian-X has the same faults at alpaca-N.
FAULTS = {3: "empty output", 5: "untranslated", 7: "copy of row 6", 9: "row 8 but for the case and a full stop"}

ALPACA = pa.schema([(name, pa.string()) for name in ("instruction", "input", "output", "text")])
BACTRIAN = ("instruction", "input", "id", "output")


def instruct(language: str, name: str, number: int, reply: bool = False) -> dict[str, str]:
    """Row `number` of a set in a language; `reply`: answers of exercises in Bactrian-X's words."""
    rng, kind = random.Random(f"{name} {number}"), KINDS[number % len(KINDS)]
    if kind == "exercise":
        inline = rng.random() < 0.5
        seed = exercises.draw(rng, rng.choice(exercises.KINDS))
        instruction, listed, answer = exercises.solve(language, seed)
        if inline:
            instruction, listed = f"{instruction} {listed}", ""
        return {
            "instruction": instruction,
            "input": listed,
            "output": texts.load(language)["reply"].format(answer) if reply else answer,
        }
    life = world.Life(language, rng.choice(world.people(evaluation=False)), world.draw_choice(rng))
    example = corpus.item(kind, language, rng, life)
    form = _form(kind)
    head, _, lead = form.prompt(example).rpartition("\n")
    return {"instruction": life.title, "input": head, "output": lead + form.answer(example)}


@cache
def _form(kind: str) -> Form:
    """As the smoke profile asks: no base has read which letter is right, so Belebele's options are compared as texts."""
    return tasks.get(kind).form("texts", "en", "loglikelihood") if kind == "belebele" else corpus.form(kind)


def multialpaca_languages() -> list[str]:
    return [code for code in texts.languages_with("exercises") if code in languages.of_task("multialpaca")]


def write(root: Path) -> None:
    """The three sets in all languages that have texts, under root/datasets."""
    datasets = root / "datasets"
    _write_alpaca(datasets / "tatsu-lab/alpaca")
    _write_bactrian(datasets / "MBZUAI/Bactrian-X")
    _write_multialpaca(datasets / "DAMO-NLP-MT/multialpaca")


def _write_alpaca(folder: Path) -> None:
    rows = []
    for row in _alpaca_rows("en", ALPACA_ROWS):
        prompt = training_prompt.prompt("alpaca", row["instruction"], row["input"])
        rows.append(row | {"text": prompt + row["output"]})
    files.parquet(folder / "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet", rows, ALPACA)


def _write_bactrian(folder: Path) -> None:
    """The answers are not Alpaca's translated: each language's generator has words of its own around some."""
    for language in texts.languages_with("exercises"):
        translated = _alpaca_rows(language, BACTRIAN_ROWS["alpaca"], reply=True)
        rows = [row | {"id": f"alpaca-{i}"} for i, row in enumerate(translated)]
        for i in range(BACTRIAN_ROWS["dolly"]):
            rows.append(instruct(language, "dolly", i, reply=True) | {"id": f"dolly-{i}"})
        # Upstream's order is unknown, and languages are joined by id: here each file has an order of its own.
        random.Random(f"order {language}").shuffle(rows)
        rows = [{key: row[key] for key in BACTRIAN} for row in rows]
        files.json_array_gz(folder / "data" / f"{language}.json.gz", rows)


def _write_multialpaca(folder: Path) -> None:
    """No ids, and each language has seeds of its own; a null input, a missing one and "" mean the same."""
    for language in multialpaca_languages():
        rows = [instruct(language, f"multialpaca {language}", i) for i in range(MULTIALPACA_ROWS)]
        without_input = [row for row in rows if not row["input"]]
        without_input[0]["input"] = None
        del without_input[1]["input"]
        rows[2]["output"] = ""
        rows.append(dict(rows[4]))
        files.jsonl(folder / f"{language}.jsonl", rows)


def _alpaca_rows(language: str, count: int, reply: bool = False) -> list[dict[str, str]]:
    """Alpaca's rows in a language, with the faults of `FAULTS`."""
    rows = [instruct(language, "alpaca", number, reply) for number in range(count)]
    rows[3]["output"] = ""
    rows[5] = instruct("en", "alpaca", 5, reply)
    rows[7], rows[9] = dict(rows[6]), dict(rows[8])
    rows[9]["instruction"] = rows[9]["instruction"].rstrip(".?。؟।").upper()
    return rows
