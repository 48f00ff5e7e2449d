"""Rows of the evaluation sets, in upstream's files and schemas and parallel across languages where upstream is.

All but XCOPA and AlpacaEval tell one story whose five facts are filled differently in every row, so neither an
option nor a hypothesis betrays the answer: only the passage does.
"""

import hashlib
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from maple.smoke import files, texts
from maple.upstream import languages

SPLITS = {
    "xnli": ("test", "validation", "train"),
    "xquad": ("validation",),
    "mlqa": ("test", "validation"),
    "belebele": ("test",),
    "xlsum": ("test", "validation", "train"),
}
# Stories per split, and questions about each: 12 XNLI pairs, 8 questions, 4 articles.
STORIES = 4

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


class Story:
    """The story of one language with its slots filled; `choice` holds the index of each fact's value.

    `context[starts[i]:]` begins with the value of fact i.
    """

    def __init__(self, texts_name: str, choice: tuple[int, ...]):
        self.text = texts.load(texts_name)["story"]
        self.facts = self.text["facts"]
        self.choice = choice
        self.values = [fact["values"][index] for fact, index in zip(self.facts, choice)]
        self.sentences = [fact["sentence"].format(value) for fact, value in zip(self.facts, self.values)]
        self.context = self.text["gap"].join(self.sentences)
        self.starts, offset = [], 0
        for fact, sentence in zip(self.facts, self.sentences):
            self.starts.append(offset + fact["sentence"].index("{}"))
            offset += len(sentence) + len(self.text["gap"])


def choices(task: str, split: str) -> list[tuple[int, ...]]:
    """The fillings of a split's stories, the same in every language; no two splits share one."""
    places = [(name, part) for name, parts in SPLITS.items() for part in parts]
    every = list(itertools.product(range(4), repeat=5))
    random.Random("stories").shuffle(every)
    first = places.index((task, split)) * STORIES
    return every[first : first + STORIES]


def write(root: Path) -> None:
    """All evaluation sets of all languages that have texts, under root/datasets."""
    datasets = root / "datasets"
    for task, (folder, write_rows) in _WRITERS.items():
        for split in SPLITS[task]:
            for code in texts.languages_with("story"):
                for name in languages.table()[code].upstream.get(task, ()):
                    stories = [Story(texts.VARIANTS.get(name, code), choice) for choice in choices(task, split)]
                    write_rows(datasets / folder, name, split, stories)
    _write_xcopa(datasets / "cambridgeltl/xcopa")
    _write_alpaca_eval(datasets / "tatsu-lab/alpaca_eval")


def _xnli(folder: Path, name: str, split: str, stories: list[Story]) -> None:
    """Upstream's shape: each premise with an entailed, a neutral and a contradicted hypothesis.

    The premise tells two facts; the entailed hypothesis is a paraphrase of one, the contradicted one changes the
    other, the neutral one is about a fact that is not told. The roles move on with each story.
    """
    rows = []
    for number, story in enumerate(stories):
        told, other, untold = ((number + shift) % 5 for shift in (0, 1, 3))
        premise = story.text["gap"].join(story.sentences[i] for i in sorted((told, other)))
        wrong = story.facts[told]["values"][(story.choice[told] + 1 + number % 3) % 4]
        hypotheses = [
            story.facts[other]["paraphrase"].format(story.values[other]),
            story.facts[untold]["paraphrase"].format(story.values[untold]),
            story.facts[told]["paraphrase"].format(wrong),
        ]
        for label, hypothesis in enumerate(hypotheses):
            rows.append({"premise": premise, "hypothesis": hypothesis, "label": label})
    files.parquet(folder / name / f"{split}-00000-of-00001.parquet", rows, XNLI)


def _questions(task: str, split: str, stories: list[Story]) -> list[dict]:
    """Two questions about each story; ids are hexadecimal digests, the same in every language."""
    rows = []
    for number, story in enumerate(stories):
        for shift in (0, 2):
            fact = (number + shift) % 5
            digest = hashlib.sha256(f"{task} {split} {number} {fact}".encode()).hexdigest()
            rows.append(
                {
                    "id": digest[: 24 if task == "xquad" else 40],
                    "title": story.text["title"],
                    "context": story.context,
                    "question": story.facts[fact]["question"],
                    "answers": {"text": [story.values[fact]], "answer_start": [story.starts[fact]]},
                }
            )
    return rows


def _xquad(folder: Path, name: str, split: str, stories: list[Story]) -> None:
    files.parquet(folder / name / f"{split}-00000-of-00001.parquet", _questions("xquad", split, stories), XQUAD)


def _mlqa(folder: Path, name: str, split: str, stories: list[Story]) -> None:
    path = folder / name.replace("mlqa", "MLQA") / f"{split}-00000-of-00001.parquet"
    files.parquet(path, _questions("mlqa", split, stories), MLQA)


def _belebele(folder: Path, name: str, split: str, stories: list[Story]) -> None:
    """The four values of a fact are the four answers; the right one stands at each place in turn."""
    rows = []
    for number, story in enumerate(stories):
        for question, shift in enumerate((0, 2), 1):
            fact = (number + shift) % 5
            place = (number + 2 * (question - 1)) % 4
            answers = [story.facts[fact]["values"][(story.choice[fact] + i - place) % 4] for i in range(4)]
            rows.append(
                {
                    "link": f"https://example.org/stories/{number}",
                    "question_number": question,
                    "flores_passage": story.context,
                    "question": story.facts[fact]["question"],
                    **{f"mc_answer{i}": answer for i, answer in enumerate(answers, 1)},
                    "correct_answer_num": str(place + 1),
                    "dialect": name,
                    "ds": "2023-05-03",
                }
            )
    files.jsonl(folder / "data" / f"{name}.jsonl", rows)


def _xlsum(folder: Path, name: str, split: str, stories: list[Story]) -> None:
    rows = [
        {
            "id": f"{split}-{number}",
            "url": f"https://example.org/{name}/{split}-{number}",
            "title": story.text["title"],
            "summary": story.text["summary"].format(*story.values),
            "text": story.context,
        }
        for number, story in enumerate(stories)
    ]
    files.parquet(folder / name / split / "0000.parquet", rows, XLSUM)


_WRITERS: dict[str, tuple[str, Callable[[Path, str, str, list[Story]], None]]] = {
    "xnli": ("facebook/xnli", _xnli),
    "xquad": ("google/xquad", _xquad),
    "mlqa": ("google/xtreme", _mlqa),
    "belebele": ("facebook/belebele", _belebele),
    "xlsum": ("csebuetnlp/xlsum", _xlsum),
}


def _write_xcopa(folder: Path) -> None:
    """Each event gives two rows: its cause is asked for, its effect is asked for; the wrong choice is another event's.

    Upstream's fault is copied: `question` is always "effect" in Thai and in Turkish validation rows, and wrong in
    the first row of Swahili.
    """
    for language in texts.languages_with("events"):
        events = texts.load(language)["events"]
        for split, part in {"test": events[:6], "validation": events[6:]}.items():
            rows = []
            for number, (cause, effect) in enumerate(part):
                for asked, question in enumerate(("cause", "effect")):
                    label = (number + asked) % 2
                    other = part[(number + 1 + asked) % len(part)]
                    right, wrong = (cause, other[0]) if question == "cause" else (effect, other[1])
                    always_effect = language == "th" or (language == "tr" and split == "validation")
                    faulty = always_effect or (language == "sw" and not rows)
                    rows.append(
                        {
                            "premise": effect if question == "cause" else cause,
                            "choice1": wrong if label else right,
                            "choice2": right if label else wrong,
                            "question": "effect" if faulty else question,
                            "label": label,
                            "idx": len(rows),
                            "changed": number % 3 == 2,
                        }
                    )
            files.parquet(folder / language / f"{split}-00000-of-00001.parquet", rows, XCOPA)


def _write_alpaca_eval(folder: Path) -> None:
    items = texts.load("alpaca_eval")
    for file, key, generator in (
        ("alpaca_eval.json", "short", "text_davinci_003"),
        ("alpaca_eval_gpt4_baseline.json", "long", "gpt4_1106_preview"),
    ):
        rows = []
        for item in items:
            row = {"instruction": item["instruction"], "output": item[key]}
            rows.append(row | {"generator": generator, "dataset": item["dataset"]})
        files.json_array(folder / file, rows)
