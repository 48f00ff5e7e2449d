"""Rows of the evaluation sets, in upstream's files and schemas and parallel across languages where upstream is.

All but AlpacaEval are about people of whom nothing is said elsewhere, with facts drawn anew for each row, so neither an
option nor a hypothesis betrays the answer: only the passage does.
"""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from maple.smoke import exercises, files, texts, world
from maple.smoke.world import Life, Person
from maple.upstream import languages

# Lives told in each split; XNLI makes three pairs of each, the others one row.
LIVES = {
    "xnli": {"test": 40, "validation": 4, "train": 4},
    "xquad": {"validation": 120},
    "mlqa": {"test": 120, "validation": 12},
    "belebele": {"test": 120},
    "xlsum": {"test": 120, "validation": 12, "train": 12},
}
XCOPA_ROWS = {"test": 120, "validation": 12}
ALPACA_EVAL_ROWS = 120

_STRING = pa.string()
_QA = [("id", _STRING), ("context", _STRING), ("question", _STRING)]
XNLI = pa.schema([("premise", _STRING), ("hypothesis", _STRING), ("label", pa.int64())])
XCOPA = pa.schema(
    [("premise", _STRING), ("choice1", _STRING), ("choice2", _STRING), ("question", _STRING)]
    + [("label", pa.int32()), ("idx", pa.int32()), ("changed", pa.bool_())]
)
XQUAD = pa.schema([*_QA, ("answers", pa.struct([("text", pa.list_(_STRING)), ("answer_start", pa.list_(pa.int32()))]))])
MLQA = pa.schema(
    [_QA[0], ("title", _STRING), *_QA[1:]]
    + [("answers", pa.struct([("answer_start", pa.list_(pa.int32())), ("text", pa.list_(_STRING))]))]
)
XLSUM = pa.schema([(name, _STRING) for name in ("id", "url", "title", "summary", "text")])


def lives(task: str, split: str) -> list[tuple[Person, tuple[int, ...]]]:
    """Who a split is about and their facts, the same in every language; no two splits share one."""
    rng, places = random.Random("lives"), [(name, part) for name, parts in LIVES.items() for part in parts]
    drawn: dict[tuple[Person, tuple[int, ...]], None] = {}
    people = world.people(evaluation=True)
    while len(drawn) < sum(sum(parts.values()) for parts in LIVES.values()):
        drawn[rng.choice(people), world.draw_choice(rng)] = None
    first = sum(LIVES[name][part] for name, part in places[: places.index((task, split))])
    return list(drawn)[first : first + LIVES[task][split]]


def write(root: Path) -> None:
    """All evaluation sets of all languages that have texts, under root/datasets."""
    datasets = root / "datasets"
    for task, (folder, write_rows) in _WRITERS.items():
        for split in LIVES[task]:
            for code in texts.languages_with("facts"):
                for name in languages.table()[code].upstream.get(task, ()):
                    told = [Life(texts.VARIANTS.get(name, code), *life) for life in lives(task, split)]
                    # Draws of each row, the same in every language.
                    write_rows(datasets / folder, name, split, told, random.Random(f"{task} {split}"))
    _write_xcopa(datasets / "cambridgeltl/xcopa")
    _write_alpaca_eval(datasets / "tatsu-lab/alpaca_eval")


def _xnli(folder: Path, name: str, split: str, told: list[Life], rng: random.Random) -> None:
    """Upstream's shape: each premise with an entailed, a neutral and a contradicted hypothesis."""
    rows = []
    for life in told:
        order = world.draw_order(rng, 2)
        for label in world.LABELS:
            hypothesis = world.hypothesis(life, order, label, rng)
            rows.append({"premise": life.passage(order)[0], "hypothesis": hypothesis, "label": label})
    files.parquet(folder / name / f"{split}-00000-of-00001.parquet", rows, XNLI)


def _questions(task: str, split: str, told: list[Life], rng: random.Random) -> list[dict]:
    """A question about each life; ids are hexadecimal digests, the same in every language."""
    rows = []
    for number, life in enumerate(told):
        order, fact = world.draw_order(rng), rng.randrange(world.FACTS)
        passage, starts = life.passage(order)
        digest = hashlib.sha256(f"{task} {split} {number}".encode()).hexdigest()
        rows.append(
            {
                "id": digest[: 24 if task == "xquad" else 40],
                "title": life.title,
                "context": passage,
                "question": life.question(fact),
                "answers": {"text": [life.values[fact]], "answer_start": [starts[fact]]},
            }
        )
    return rows


def _xquad(folder: Path, name: str, split: str, told: list[Life], rng: random.Random) -> None:
    path = folder / name / f"{split}-00000-of-00001.parquet"
    files.parquet(path, _questions("xquad", split, told, rng), XQUAD)


def _mlqa(folder: Path, name: str, split: str, told: list[Life], rng: random.Random) -> None:
    path = folder / name.replace("mlqa", "MLQA") / f"{split}-00000-of-00001.parquet"
    files.parquet(path, _questions("mlqa", split, told, rng), MLQA)


def _belebele(folder: Path, name: str, split: str, told: list[Life], rng: random.Random) -> None:
    """Four values of a fact are the four answers; the right one stands at each place in turn."""
    rows = []
    for number, life in enumerate(told):
        passage, fact, place = life.passage(world.draw_order(rng))[0], rng.randrange(world.FACTS), number % 4
        rows.append(
            {
                "link": f"https://example.org/lives/{number}",
                "question_number": 1,
                "flores_passage": passage,
                "question": life.question(fact),
                **{f"mc_answer{i}": answer for i, answer in enumerate(life.options(fact, place, rng), 1)},
                "correct_answer_num": str(place + 1),
                "dialect": name,
                "ds": "2023-05-03",
            }
        )
    files.jsonl(folder / "data" / f"{name}.jsonl", rows)


def _xlsum(folder: Path, name: str, split: str, told: list[Life], rng: random.Random) -> None:
    rows = [
        {
            "id": f"{split}-{number}",
            "url": f"https://example.org/{name}/{split}-{number}",
            "title": life.title,
            "summary": life.summary,
            "text": life.passage(world.draw_order(rng))[0],
        }
        for number, life in enumerate(told)
    ]
    files.parquet(folder / name / split / "0000.parquet", rows, XLSUM)


_WRITERS: dict[str, tuple[str, Callable[[Path, str, str, list[Life], random.Random], None]]] = {
    "xnli": ("facebook/xnli", _xnli),
    "xquad": ("google/xquad", _xquad),
    "mlqa": ("google/xtreme", _mlqa),
    "belebele": ("facebook/belebele", _belebele),
    "xlsum": ("csebuetnlp/xlsum", _xlsum),
}


def _write_xcopa(folder: Path) -> None:
    """For every other row the cause is asked for, else the effect; the wrong choice is another event's.

    Upstream's fault is copied: `question` is always "effect" in Thai and in Turkish validation rows, and wrong in
    the first row of Swahili.
    """
    people = world.people(evaluation=True)
    for language in [code for code in texts.languages_with("events") if code in languages.of_task("xcopa")]:
        for split, count in XCOPA_ROWS.items():
            rng, rows = random.Random(f"xcopa {split}"), []
            for number in range(count):
                person, question, label = rng.choice(people), ("cause", "effect")[number % 2], number // 2 % 2
                right, wrong = (world.event(language, person, event) for event in rng.sample(range(world.EVENTS), 2))
                asked = number % 2
                choices = (wrong[asked], right[asked]) if label else (right[asked], wrong[asked])
                always_effect = language == "th" or (language == "tr" and split == "validation")
                faulty = always_effect or (language == "sw" and not rows)
                rows.append(
                    {
                        "premise": right[1 - asked],
                        "choice1": choices[0],
                        "choice2": choices[1],
                        "question": "effect" if faulty else question,
                        "label": label,
                        "idx": number,
                        "changed": number % 3 == 2,
                    }
                )
            files.parquet(folder / language / f"{split}-00000-of-00001.parquet", rows, XCOPA)


def _write_alpaca_eval(folder: Path) -> None:
    """Exercises; the older reference model says the answer alone, the newer one in a sentence."""
    rng, seeds = random.Random("alpaca_eval"), {}
    while len(seeds) < ALPACA_EVAL_ROWS:
        seeds[exercises.draw(rng, exercises.KINDS[len(seeds) % len(exercises.KINDS)], evaluation=True)] = None
    reply = texts.load("en")["reply"]
    subsets = ("helpful_base", "koala", "oasst", "selfinstruct", "vicuna")
    for file, said, generator in (
        ("alpaca_eval.json", "{}", "text_davinci_003"),
        ("alpaca_eval_gpt4_baseline.json", reply, "gpt4_1106_preview"),
    ):
        rows = []
        for number, seed in enumerate(seeds):
            instruction, listed, answer = exercises.solve("en", seed)
            row = {"instruction": f"{instruction} {listed}", "output": said.format(answer), "generator": generator}
            rows.append(row | {"dataset": subsets[number % len(subsets)]})
        files.json_array(folder / file, rows)
