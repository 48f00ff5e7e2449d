"""Time and peak memory of preparing synthetic data in the shape of Bactrian-X-22.

    python -m benchmarks.prepare --rows 50000 200000 1000000 --processes 2

Rows are spread over the 22 languages, parallel by id, with the lengths of Bactrian-X (about 500 characters of answer,
fewer in Chinese). All of them are chosen, so every row is scanned, tokenised for one model, measured and compared
with as many evaluation items as XQuAD and Belebele have. docs/DATA.md keeps the figures.
"""

import argparse
import dataclasses
import gzip
import json
import os
import random
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from maple.config import catalogue, params
from maple.core import storage
from maple.preparation import build
from maple.upstream import languages

ROOT = Path(__file__).parents[1]
# First and last letter of each script, for words of 2 to 8 letters.
_LETTERS = {
    "Latn": "az", "Cyrl": "ая", "Arab": "ابي", "Deva": "कह", "Thai": "กฮ", "Taml": "கஹ", "Hang": "가힣", "Jpan": "ぁん", "Hans/Hant": "一龥",
}  # fmt: skip
CODES = "ar de es fr id ja ko pt ru th vi en zh hi tr it ro sw ta ur et pl".split()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, nargs="+", default=[50_000])
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--folder", default=None, help="for the synthetic data (default: the temporary folder)")
    given = options.parse_args()
    print(
        f"{'rows':>9} {'tokens':>12} {'seconds':>8} {'rows/s':>7} {'tokens/s':>9} {'CPU s':>7} {'CPU s/1k rows':>13} {'peak GB':>8}"
    )
    for rows in given.rows:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            print(run(Path(folder), rows, given.processes), flush=True)


def run(folder: Path, rows: int, processes: int) -> str:
    settings = params.parse(ROOT / "params.yaml")
    training_set = params.TrainingSet("bactrian-x", CODES, "all", None)
    settings = dataclasses.replace(
        settings,
        datasets={"synthetic": training_set},
        model="mistral-7b",
        grid=dataclasses.replace(settings.grid, bases=["mistral-7b-4bit"]),
        prepare=dataclasses.replace(
            settings.prepare,
            rows=rows,
            heldout_rows=rows // 100,
            max_length=768,
            processes=processes,
            drop_untranslated=False,
        ),
        evaluation=dataclasses.replace(
            settings.evaluation,
            tasks={
                "xquad": dataclasses.replace(
                    settings.evaluation.tasks["xquad"], languages=["ar", "de", "en", "hi", "zh"]
                )
            },
        ),
    )
    os.chdir(folder)
    root = settings.artifacts / "sources"
    _write_rows(catalogue.datasets()["bactrian-x"].folder(root), rows)
    storage.write_json(root / "record.json", {"datasets": {"bactrian-x": {"commit": "synthetic"}}})
    _write_evaluation(catalogue.datasets()["xquad"].folder(root))
    _write_tokeniser(catalogue.models()["mistral-7b"].folder(root))
    with _Peak() as peak:
        started, before = time.perf_counter(), os.times()
        found = build.prepare(settings, "synthetic")
        seconds, after = time.perf_counter() - started, os.times()
    # Of this process and its ended children: on a machine shared with others, wall time says little.
    cpu = sum(after[:4]) - sum(before[:4])
    tokens = found["models"]["mistral-7b"]["tokens"]
    done = found["rows"]["train"] + found["rows"]["heldout"]
    speed = f"{seconds:>8.1f} {done / seconds:>7,.0f} {tokens / seconds:>9,.0f} {cpu:>7.0f} {1000 * cpu / done:>13.2f}"
    return f"{done:>9,} {tokens:>12,} {speed} {peak.bytes / 1e9:>8.2f}"


def _lexicon(code: str) -> list[str]:
    rng = random.Random(code)
    script = languages.table()[code].script
    letters = _LETTERS[script]
    span = [chr(c) for c in range(ord(letters[0]), ord(letters[-1]) + 1) if chr(c).isalpha()]
    longest = 2 if script in ("Hans/Hant", "Jpan") else 8
    return ["".join(rng.choices(span, k=rng.randrange(1 if longest == 2 else 2, longest + 1))) for _ in range(4000)]


def _write_rows(folder: Path, rows: int) -> None:
    for code in CODES:
        lexicon, rng = _lexicon(code), random.Random(f"rows {code}")
        joint = "" if languages.table()[code].script in ("Hans/Hant", "Jpan", "Thai") else " "
        (folder / "data").mkdir(parents=True, exist_ok=True)
        with gzip.open(folder / "data" / f"{code}.json.gz", "wt", encoding="utf-8", compresslevel=1) as file:
            file.write("[")
            # A hundredth held out, and some to spare.
            for i in range(rows // len(CODES) * 102 // 100 + 2):
                row = {
                    "instruction": joint.join(rng.choices(lexicon, k=rng.randrange(6, 18))),
                    "input": joint.join(rng.choices(lexicon, k=rng.randrange(5, 40))) if rng.random() < 0.4 else "",
                    "id": f"alpaca-{i}",
                    "output": joint.join(rng.choices(lexicon, k=min(int(rng.expovariate(1 / 80)) + 2, 600))),
                }
                file.write((", " if i else "") + json.dumps(row, ensure_ascii=False))
            file.write("]")


def _write_evaluation(folder: Path) -> None:
    for code in ("ar", "de", "en", "hi", "zh"):
        lexicon, rng = _lexicon(code), random.Random(f"items {code}")
        rows = []
        for i in range(2090):
            context = " ".join(rng.choices(lexicon, k=120))
            answers = {"text": [context[:5]], "answer_start": [0]}
            rows.append(
                {"id": str(i), "context": context, "question": " ".join(rng.choices(lexicon, k=12)), "answers": answers}
            )
        path = folder / f"xquad.{code}" / "validation-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)


def _write_tokeniser(folder: Path) -> None:
    """A byte-level BPE of 16,000 tokens over a sample of the words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokeniser = Tokenizer(models.BPE())
    tokeniser.pre_tokenizer, tokeniser.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=16_000, special_tokens=["<s>", "</s>"], show_progress=False)
    tokeniser.train_from_iterator((" ".join(_lexicon(code)) for code in CODES), trainer)
    folder.mkdir(parents=True)
    tokeniser.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "mistral"}))


class _Peak:
    """Highest sum of resident memory of this process and its children, sampled every 0.2 s."""

    bytes = 0

    def __enter__(self) -> "_Peak":
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *failure) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._stop.wait(0.2):
            total = 0
            for process in _tree(os.getpid()):
                try:
                    total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * page
                except OSError:
                    pass  # It has just ended.
            self.bytes = max(self.bytes, total)


def _tree(root: int) -> list[int]:
    """Process ids of a process and all its descendants."""
    found = [root]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                pass
    return found


if __name__ == "__main__":
    main()
