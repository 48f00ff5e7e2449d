"""Rows of the three instruction sets: small exercises over word lists, the same seeds in every language.

An exercise is drawn as indices into the lexicon, so that its translations are parallel by construction:

>>> seed = draw(random.Random(0), "last")
>>> solve("en", seed)
('Which word comes last in this list?', 'dog, green, egg, red, bread, fish', 'fish')
>>> solve("de", seed)
('Welches Wort steht in dieser Liste an letzter Stelle?', 'Hund, grün, Ei, rot, Brot, Fisch', 'Fisch')

A few rows carry the faults that upstream's rows have, so that preparation meets them: see `FAULTS`.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from maple.smoke import files, texts
from maple.upstream import languages

EXERCISES = ("reverse", "first", "last", "count", "animal", "add", "spell", "opposite", "capital")
ALPACA_ROWS = 560
# Bactrian-X translates the seeds of Alpaca and of Dolly; here the first of each.
BACTRIAN_ROWS = {"alpaca": 220, "dolly": 80}
MULTIALPACA_ROWS = 96
# Seed of Alpaca -> what is wrong with its row. Bactrian-X has the same faults at alpaca-N.
FAULTS = {3: "empty output", 5: "untranslated", 7: "copy of row 6", 9: "row 8 but for the case and a full stop"}

ALPACA = pa.schema([(name, pa.string()) for name in ("instruction", "input", "output", "text")])
BACTRIAN = ("instruction", "input", "id", "output")
# Stanford Alpaca's prompt, which the `text` column of the upstream file holds together with the answer.
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n{output}"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n{output}"
)


@dataclass(frozen=True)
class Seed:
    """An exercise without words: indices into the lexicon, or the numbers themselves."""

    exercise: str
    items: tuple[int, ...]
    # Whether the list stands in the instruction, and the input is empty.
    inline: bool


def draw(rng: random.Random, exercise: str) -> Seed:
    inline = rng.random() < 0.3
    if exercise == "add":
        return Seed(exercise, tuple(rng.randrange(1, 30) for _ in range(4)), inline)
    if exercise == "spell":
        return Seed(exercise, tuple(rng.randrange(10) for _ in range(4)), inline)
    if exercise in ("opposite", "capital"):
        return Seed(exercise, tuple(rng.sample(range(6), 4)), inline)
    # Words 0 to 5 are animals; this exercise has one of them at any place, the others as many as fall.
    words = rng.sample(range(6, 18), 4) if exercise == "animal" else rng.sample(range(18), rng.randrange(3, 7))
    if exercise == "animal":
        words[rng.randrange(4)] = rng.randrange(6)
    return Seed(exercise, tuple(words), inline)


def draws(name: str, count: int) -> list[Seed]:
    """The seeds of a set: the exercises in turn, no seed twice."""
    rng = random.Random(name)
    seeds: dict[Seed, None] = {}
    while len(seeds) < count:
        seeds[draw(rng, EXERCISES[len(seeds) % len(EXERCISES)])] = None
    return list(seeds)


def solve(language: str, seed: Seed) -> tuple[str, str, str]:
    """Instruction, input and answer of a seed in a language."""
    lexicon = texts.load(language)
    words = lexicon["animals"] + lexicon["colours"] + lexicon["foods"]
    shown: list[str]
    answer: list[str]
    if seed.exercise == "add":
        shown, answer = [str(number) for number in seed.items], [str(sum(seed.items))]
    elif seed.exercise == "spell":
        shown, answer = [str(index + 1) for index in seed.items], [lexicon["numbers"][index] for index in seed.items]
    elif seed.exercise in ("opposite", "capital"):
        pairs = list(lexicon["opposites" if seed.exercise == "opposite" else "capitals"].items())
        shown, answer = [pairs[index][0] for index in seed.items], [pairs[index][1] for index in seed.items]
    else:
        shown = [words[index] for index in seed.items]
        answer = {
            "reverse": shown[::-1],
            "first": shown[:1],
            "last": shown[-1:],
            "count": [str(len(shown))],
            "animal": [words[index] for index in seed.items if index < 6],
        }[seed.exercise]
    instruction, listed = lexicon["exercises"][seed.exercise], lexicon["comma"].join(shown)
    if seed.inline:
        instruction, listed = f"{instruction} {listed}", ""
    return instruction, listed, lexicon["comma"].join(answer)


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
    for row in _alpaca_rows("en"):
        text = (WITH_INPUT if row["input"] else WITHOUT_INPUT).format(**row)
        rows.append(row | {"text": text})
    files.parquet(folder / "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet", rows, ALPACA)


def _write_bactrian(folder: Path) -> None:
    """The answers are not Alpaca's translated: each language's generator has words of its own around them."""
    for language in texts.languages_with("exercises"):
        translated = _alpaca_rows(language, reply=True)[: BACTRIAN_ROWS["alpaca"]]
        rows = [row | {"id": f"alpaca-{i}"} for i, row in enumerate(translated)]
        for i, seed in enumerate(draws("dolly", BACTRIAN_ROWS["dolly"])):
            rows.append(_row(language, seed, reply=True) | {"id": f"dolly-{i}"})
        # Upstream's order is unknown, and languages are joined by id: here each file has an order of its own.
        random.Random(f"order {language}").shuffle(rows)
        rows = [{key: row[key] for key in BACTRIAN} for row in rows]
        files.json_array_gz(folder / "data" / f"{language}.json.gz", rows)


def _write_multialpaca(folder: Path) -> None:
    """No ids, and each language has seeds of its own; a null input, a missing one and "" mean the same."""
    for language in multialpaca_languages():
        rows = [_row(language, seed) for seed in draws(f"multialpaca {language}", MULTIALPACA_ROWS)]
        without_input = [row for row in rows if not row["input"]]
        without_input[0]["input"] = None
        del without_input[1]["input"]
        rows[2]["output"] = ""
        rows.append(dict(rows[4]))
        files.jsonl(folder / f"{language}.jsonl", rows)


def _alpaca_rows(language: str, reply: bool = False) -> list[dict]:
    """Alpaca's rows in a language, with the faults of `FAULTS`."""
    seeds = draws("alpaca", ALPACA_ROWS)
    seeds[7], seeds[9] = seeds[6], seeds[8]
    rows = [_row(language, seed, reply) for seed in seeds]
    rows[3]["output"] = ""
    rows[5] = _row("en", seeds[5], reply)
    rows[9]["instruction"] = rows[9]["instruction"].rstrip(".?。؟।").upper()
    return rows


def _row(language: str, seed: Seed, reply: bool = False) -> dict:
    instruction, listed, answer = solve(language, seed)
    if reply:
        answer = texts.load(language)["reply"].format(answer)
    return {"instruction": instruction, "input": listed, "output": answer}
