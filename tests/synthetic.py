"""A full paper-size grid of collected records, made up: 120 cells, 6 bases and the experiment over 40 languages.

    python tests/synthetic.py FOLDER [EXAMPLES | full]

writes scores.csv, cells.json and examples.parquet as `stages/collect.py` would, deterministically. Levels resemble
the published ones (which is what makes tests of tables and figures meaningful), effects of rank, bits and
language are invented: no number of it means anything.
"""

import dataclasses
import json
import sys
import tempfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np

from maple.config.cell import Base, Cell, grid
from maple.config.params import Params, parse
from maple.results import collect
from maple.upstream import languages

MODELS = ("llama-2-7b", "mistral-7b")
DATASETS = ("multialpaca", "bactrian-x-22", "bactrian-x-11", "alpaca")
RANKS = (8, 16, 32, 64, 128)
BITS = (4, 8, 16)
BASES = [f"{model}-{bits}bit" for model in MODELS for bits in BITS]
EXPERIMENT = Cell(Base("mistral-7b", 4), "bactrian-x-11", 24, 42)

# Task: metrics (primary first), chance, level of each model.
TASKS = {
    "xnli": (("accuracy",), 1 / 3, (0.35, 0.53)),
    "xcopa": (("accuracy",), 0.5, (0.58, 0.59)),
    "xquad": (("f1", "em"), None, (0.63, 0.79)),
    "belebele": (("accuracy",), 0.25, (0.28, 0.43)),
    "mlqa": (("f1", "em"), None, (0.42, 0.70)),
    "xlsum": (("rougeL", "rouge1", "rouge2"), None, (0.08, 0.12)),
    "alpaca_eval": (("winrate",), None, (0.13, 0.23)),
}
XLSUM = (
    "ar",
    "am",
    "en",
    "es",
    "fr",
    "hi",
    "id",
    "ja",
    "ko",
    "pt",
    "ru",
    "sr",
    "sw",
    "ta",
    "th",
    "tr",
    "ur",
    "vi",
    "yo",
    "zh",
)
EXTRA_BELEBELE = ["ha", "so"]
# Examples per language of the real sets, for measuring.
FULL = {"xnli": 5010, "xcopa": 500, "xquad": 1190, "belebele": 900, "mlqa": 1000, "xlsum": 1000, "alpaca_eval": 805}
# Parameters of one LoRA rank on all linear layers, and of the whole model, in millions.
PER_RANK, WHOLE = 2.5, 7000


def task_languages(task: str) -> list[str]:
    if task == "xlsum":
        return sorted(XLSUM)
    if task == "belebele":
        grouped = [code for code, language in languages.table().items() if language.group]
        return sorted(code for code in grouped + EXTRA_BELEBELE if code in languages.of_task("belebele"))
    return sorted(languages.of_task(task))


def params(**tables_options) -> Params:
    """The paper profile's parameters, with options of its `tables` block changed, and fewer resamples for speed."""
    found = parse(Path("profiles/paper/params.yaml"))
    return dataclasses.replace(
        found, tables=dataclasses.replace(found.tables, **{"bootstrap_samples": 200} | tables_options)
    )


def names() -> list[str]:
    return [cell.name for cell in grid(BASES, DATASETS, RANKS, [42])] + sorted(BASES) + [collect.EXPERIMENT]


@cache
def shared() -> collect.Collected:
    """A grid of 30 examples per language for tests that only read it; made once per process."""
    folder = tempfile.TemporaryDirectory()
    _kept.append(folder)
    return write(Path(folder.name), examples=30)


_kept: list[tempfile.TemporaryDirectory] = []


def write(folder: Path, examples: int | dict[str, int] = 60, without: tuple[str, ...] = ()) -> collect.Collected:
    """Write the three files; `examples` per language (of each task), `without` names left out as missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    everything = names()
    present = [name for name in everything if name not in without]
    counts = examples if isinstance(examples, dict) else dict.fromkeys(TASKS, examples)
    scores = []

    def groups():
        for task in TASKS:
            ids = [f"{task}-{i:05}" for i in range(counts[task])]
            for language in task_languages(task):
                found = _example_scores(task, language, present, counts[task])
                for name, values in found.items():
                    scores.extend(_rows(name, task, language, values))
                yield (
                    task,
                    language,
                    {name: dict(zip(ids, values.tolist(), strict=True)) for name, values in found.items()},
                )

    collect.write_examples(folder / "examples.parquet", groups())
    records = {name: _record(name) for name in present}
    collect.write(folder, "paper", everything, list(without), records, collect._ordered(scores, everything))
    return collect.load(folder)


def part(whole: collect.Collected, params: Params, names: list[str], folder: Path) -> collect.Collected:
    """What collecting these names, asked in the tasks and languages of `params` alone, would have given."""
    sheets = {task: options.languages for task, options in params.evaluation.tasks.items()}
    scores = [s for s in whole.scores if s.name in names and s.language in sheets.get(s.task, [])]

    def groups():
        for task, codes in sheets.items():
            for code in codes:
                found = whole.examples(task, code)
                by_name = {name: dict(zip(found.ids, row.tolist())) for name, row in zip(found.names, found.scores)}
                yield task, code, {name: by_name[name] for name in names}

    folder.mkdir(parents=True)
    collect.write_examples(folder / "examples.parquet", groups())
    collect.write(folder, params.profile, names, [], {name: whole.records[name] for name in names}, scores)
    return collect.load(folder)


def _example_scores(task: str, language: str, present: list[str], examples: int) -> dict[str, np.ndarray]:
    """Scores of the same items for every name: cells share an item's difficulty, and languages half of it."""
    metrics, _, levels = TASKS[task]
    rng = _rng(task, language)
    difficulty = 0.5 * _rng(task).random(examples) + 0.5 * rng.random(examples)
    resource = {"low": -0.06, "medium": -0.02, "high": 0.02}[languages.table()[language].resource]
    found = {}
    for name in present:
        _, base, dataset, rank = _coordinates(name)
        level = levels[MODELS.index(base.model)] + resource
        level += 0.003 * (np.log2(rank) - 5) + 0.004 * (np.log2(base.bits) - 3) if rank else -0.05
        level += 0.005 * rng.standard_normal()
        if dataset == "alpaca" and language == "en":
            level += 0.02
        noise = 0.7 * difficulty + 0.3 * rng.random(examples)
        rank_of_noise = noise.argsort().argsort() / examples
        if metrics[0] in ("accuracy", "winrate"):
            values = (rank_of_noise < level).astype(np.float32)
        else:
            values = np.clip(level + 0.3 * (0.5 - rank_of_noise), 0, 1).astype(np.float32)
        found[name] = values
    return found


def _rows(name: str, task: str, language: str, values: np.ndarray) -> list[collect.Score]:
    metrics, chance, _ = TASKS[task]
    kind, base, dataset, rank = _coordinates(name)
    rows = []
    for place, metric in enumerate(metrics):
        value = float(values.mean(dtype=np.float64)) * 0.8**place
        rows.append(
            collect.Score(
                name=name,
                kind=kind,
                model=base.model,
                bits=base.bits,
                dataset=dataset,
                rank=rank,
                seed=42 if rank else None,
                task=task,
                language=language,
                metric=metric,
                primary=place == 0,
                value=value,
                n=len(values),
                chance=chance if place == 0 else None,
                signature="synthetic",
            )
        )
    return rows


def _record(name: str) -> dict:
    kind, base, dataset, rank = _coordinates(name)
    share = rank * PER_RANK / WHOLE * 100 if rank else None
    return {
        "schema": "maple.scores/2",
        "profile": "paper",
        "kind": kind,
        "name": name,
        "model": base.model,
        "bits": base.bits,
        "dataset": dataset,
        "rank": rank,
        "seed": 42 if rank else None,
        "evaluated_bits": base.bits,
        "heldout_loss": {"value": 1.3 - 0.01 * np.log2(rank)} if rank else {"value": 1.9},
        "sources": {},
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "adapter": _adapter(name, base, dataset, rank, share) if rank else None,
    }


def bills(names: list[str]) -> str:
    """What git keeps of this run's costs."""
    bill = {"seconds": 3600.0, "peak_gb": 18.0, "hardware": {"gpu": "synthetic"}, "started": "2026-01-01T00:00:00Z"}
    lines = [{"verb": verb, "name": name, "bill": bill} for verb in ("answer", "train") for name in names]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _adapter(name: str, base: Base, dataset: str, rank: int, share: float) -> dict:
    after = 1.3 - 0.01 * float(np.log2(rank))
    return {
        "schema": "maple.adapter/1",
        "profile": "paper",
        "name": name,
        "model": base.model,
        "bits": base.bits,
        "dataset": dataset,
        "rank": rank,
        "seed": 42,
        "recipe": {"method": "lora"},
        "trainable_parameters": int(rank * PER_RANK * 1e6),
        "trainable_percent": share,
        "steps": 100,
        "heldout_loss": {"before": 1.9, "after": after},
        "loss": [1.9 - 0.6 * step / 100 for step in range(100)],
    }


def _coordinates(name: str) -> tuple[str, Base, str | None, int | None]:
    if name == collect.EXPERIMENT:
        return "experiment", EXPERIMENT.base, EXPERIMENT.dataset, EXPERIMENT.rank
    if "." in name:
        cell = Cell.parse(name)
        return "cell", cell.base, cell.dataset, cell.rank
    return "base", Base.parse(name), None, None


def _rng(*words: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32("/".join(words).encode()))


if __name__ == "__main__":
    made = write(Path(sys.argv[1]), FULL if sys.argv[2:] == ["full"] else int(sys.argv[2]) if sys.argv[2:] else 60)
    spoken = {score.language for score in made.scores}
    print(f"{len(made.records)} records, {len(made.scores)} scores, {len(spoken)} languages in {sys.argv[1]}")
