"""Which rows a training set takes, chosen by seed instruction: drops, quotas, and a split that no translation
straddles.

Seed instructions are walked in the order of their keys (a seeded shuffle, the same in all languages). The first go
to the held-out rows until their quotas are full; the rest of their translations go nowhere. Then comes training.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from maple.config.params import Prepare, TrainingSet
from maple.core.errors import MapleError
from maple.preparation.scan import EMPTY_INSTRUCTION, EMPTY_OUTPUT, OTHER_SCRIPT, Scan

TRAIN, HELDOUT = 1, 2
PARTS = {"train": TRAIN, "heldout": HELDOUT}
# In the order in which rows are tested; a row counts under the first reason that drops it.
REASONS = (
    "repeated_id",
    "empty_instruction",
    "empty_output",
    "untranslated",
    "other_script",
    "exact_duplicate",
    "near_duplicate",
)


@dataclass(frozen=True)
class Selection:
    """`parts`: language -> per row 0, TRAIN or HELDOUT. `found` and `dropped`: language -> reason -> rows."""

    parts: dict[str, np.ndarray]
    found: dict[str, dict[str, int]]
    dropped: dict[str, dict[str, int]]
    ids: dict[str, int]
    # How many of a part's seed instructions appear in 1, 2, ... languages.
    languages_per_id: dict[str, dict[int, int]]


def select(scans: list[Scan], original: Scan | None, settings: Prepare, training_set: TrainingSet) -> Selection:
    """Choose rows; `original` is the scan of the language that the others were translated from, if there is one."""
    alive, found, dropped = {}, {}, {}
    for one in scans:
        alive[one.language], found[one.language], dropped[one.language] = usable(one, original, settings)
        if not alive[one.language].any():
            # Its share would go to the others, and the set would carry the name of a language that it lacks.
            lost = ", ".join(f"{count:,} {reason}" for reason, count in dropped[one.language].items() if count)
            raise MapleError(
                f"no row of the language '{one.language}' can be trained on",
                why=f"its file holds {len(one):,} rows" + (f", and all of them are dropped: {lost}" if lost else ""),
                do="run the download stage again; if the file is whole, change prepare.drop_* or take the language out of "
                "the training set",
            )

    keys = np.unique(np.concatenate([one.key[alive[one.language]] for one in scans]))
    # Seed instruction x language -> row number, -1 where the language has no usable row of it.
    rows = np.full((len(keys), len(scans)), -1, dtype=np.int32)
    for column, one in enumerate(scans):
        numbers = np.flatnonzero(alive[one.language])
        rows[np.searchsorted(keys, one.key[numbers]), column] = numbers
    groups = same_prompt(scans, rows)

    per_id = training_set.translations_per_instruction
    most = {"all": len(scans), "one": 1}.get(per_id, per_id)
    codes = [one.language for one in scans]
    chosen: dict[int, np.ndarray] = {}
    free = rows >= 0
    for part, total in ((HELDOUT, settings.heldout_rows), (TRAIN, settings.rows)):
        wanted = quotas(total, dict(zip(codes, free.sum(axis=0).tolist())), training_set.english_share)
        chosen[part] = pick(free, [wanted[code] for code in codes], most)
        taken = np.unique(groups[chosen[part].any(axis=1)])
        free = free & ~np.isin(groups, taken)[:, None]

    parts = {code: np.zeros(len(one), dtype=np.uint8) for code, one in zip(codes, scans)}
    for part, mask in chosen.items():
        for column, code in enumerate(codes):
            parts[code][rows[mask[:, column], column]] = part
    counts = {name: chosen[part].sum(axis=1) for name, part in PARTS.items()}
    return Selection(
        parts,
        found,
        dropped,
        ids={name: int((count > 0).sum()) for name, count in counts.items()},
        languages_per_id={
            name: {int(n): int((count == n).sum()) for n in np.unique(count[count > 0])}
            for name, count in counts.items()
        },
    )


def usable(one: Scan, original: Scan | None, settings: Prepare) -> tuple[np.ndarray, dict[str, int], dict[str, int]]:
    """(rows that stay, rows found faulty by reason, those of them that the parameters drop)."""
    drops = {
        "repeated_id": True,
        "empty_instruction": True,
        "empty_output": settings.drop_empty_outputs,
        "untranslated": settings.drop_untranslated,
        "other_script": settings.drop_untranslated,
        "exact_duplicate": settings.drop_exact_duplicates,
        "near_duplicate": settings.drop_near_duplicates,
    }
    alive = np.ones(len(one), dtype=bool)
    exact = np.zeros(len(one), dtype=bool)
    found, dropped = {}, {}
    for reason in REASONS:
        if reason == "repeated_id":
            faulty = repeated(one.key, np.arange(len(one)), alive)
        elif reason == "empty_instruction":
            faulty = one.flags & EMPTY_INSTRUCTION > 0
        elif reason == "empty_output":
            faulty = one.flags & EMPTY_OUTPUT > 0
        elif reason == "untranslated":
            faulty = _equals_original(one, original)
        elif reason == "other_script":
            faulty = one.flags & OTHER_SCRIPT > 0
        elif reason == "exact_duplicate":
            faulty = exact = repeated(one.exact, one.key, alive)
        else:
            faulty = repeated(one.near, one.key, alive) & ~exact
        faulty = faulty & alive
        found[reason] = int(faulty.sum())
        dropped[reason] = found[reason] if drops[reason] else 0
        if drops[reason]:
            alive &= ~faulty
    return alive, found, dropped


def repeated(value: np.ndarray, key: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Rows whose value another living row has too, but for the one of lowest key (the same seed in each language).

    >>> repeated(np.array([7, 8, 7]), key=np.array([2, 0, 1]), alive=np.array([True, True, True])).tolist()
    [True, False, False]
    """
    order = np.lexsort((key, value, ~alive))
    result = np.zeros(len(value), dtype=bool)
    result[order[1:]] = (value[order[1:]] == value[order[:-1]]) & alive[order[1:]]
    return result


def _equals_original(one: Scan, original: Scan | None) -> np.ndarray:
    """Rows whose instruction is that of the same seed in the original language; none without letters or digits."""
    if original is None or one.language == original.language or not len(original):
        return np.zeros(len(one), dtype=bool)
    order = np.argsort(original.key, kind="stable")
    at = np.minimum(np.searchsorted(original.key[order], one.key), len(order) - 1)
    same = order[at]
    return (original.key[same] == one.key) & (original.text[same] == one.text)


def same_prompt(scans: list[Scan], rows: np.ndarray) -> np.ndarray:
    """Seed instruction -> the first of its group: seeds that ask the same in some language are split together."""
    parent = np.arange(len(rows))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column, one in enumerate(scans):
        seeds = np.flatnonzero(rows[:, column] >= 0)
        prompts = one.prompt[rows[seeds, column]]
        order = np.argsort(prompts, kind="stable")
        for k in np.flatnonzero(prompts[order[1:]] == prompts[order[:-1]]):
            a, b = sorted((root(seeds[order[k]]), root(seeds[order[k + 1]])))
            parent[b] = a
    return np.array([root(i) if parent[i] != i else i for i in range(len(parent))], dtype=np.int64)


def quotas(total: int, available: dict[str, int], english_share: float | None) -> dict[str, int]:
    """Rows per language: equal, English its share if one is set, and what a small language lacks goes to the others.

    >>> quotas(10, {"en": 9, "de": 9, "sw": 2}, english_share=None)
    {'en': 4, 'de': 4, 'sw': 2}
    >>> quotas(10, {"en": 9, "de": 9, "sw": 9}, english_share=0.2)
    {'en': 2, 'de': 4, 'sw': 4}
    """
    result: dict[str, int] = {}
    if english_share is not None and "en" in available:
        result["en"] = min(round(total * english_share), available["en"])
    open_ = [code for code in available if code not in result]
    left = total - sum(result.values())
    while open_:
        share = left / len(open_)
        small = [code for code in open_ if available[code] <= share]
        if not small:
            for place, code in enumerate(open_):
                result[code] = left // len(open_) + (place < left % len(open_))
            break
        for code in small:
            result[code] = available[code]
            left -= available[code]
            open_.remove(code)
    return {code: result[code] for code in available}


def pick(free: np.ndarray, wanted: list[int], most: int | Literal["all"]) -> np.ndarray:
    """Rows of the matrix (seed instruction x language) taken from the top until each language has what it wants.

    With `most` below the number of languages, an instruction appears in that many at most; which ones rotates from
    instruction to instruction, so that every language meets every kind of instruction equally often.
    """
    languages = free.shape[1]
    if most >= languages:
        return free & (np.cumsum(free, axis=0) <= np.array(wanted))
    taken = np.zeros_like(free)
    left = list(wanted)
    first = 0
    for seed in range(len(free)):
        if not any(left):
            break
        count = 0
        for step in range(languages):
            column = (first + step) % languages
            if free[seed, column] and left[column]:
                taken[seed, column] = True
                left[column] -= 1
                count += 1
                if count == most:
                    break
        first += most
    return taken
