"""What the paper asks beyond its tables, from the same records: each analysis as a long table and a summary to read.

before: the base at the bits of the row's configuration; after: that configuration, the one that stands in Table 1.
Differences are paired over examples. Groups of languages are compared by their differences: they are scored on
different tasks, so their levels mean little side by side.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from maple.results.quantities import Quantity, mean
from maple.results.render import Table
from maple.results.tables import AVERAGE, MISSING, PAPER_TASKS, Configuration, Results, numbers, rounded, seeds_note
from maple.upstream import languages

# The task that asks the same items in every language.
PARALLEL = "belebele"
HEADER = ["group", "languages", "model", "dataset", "configuration", "column"]
HEADER += [f"{when}_{part}" for when in ("before", "after", "difference") for part in ("value", "low", "high", "n")]


def all_of(results: Results, statistics: dict[str, dict[str, Any]]) -> dict[str, tuple[Table, Table]]:
    """Name -> (long and unrounded for the machine, wide and rounded for the eye).

    `statistics` is the prepare stage's record of each training set; fertility is left out where it has none.
    """
    table = languages.table()
    made = {
        "trainable": trainable(results),
        "english": english(results),
        "resource": by_group(results, "Low-, medium- and high-resource languages", lambda code: table[code].resource),
        "family": by_group(results, "Language families", lambda code: table[code].family),
        "script": by_group(results, "Scripts", lambda code: table[code].script),
        "seen": seen(results),
    }
    return made | ({"fertility": fertility(results, statistics)} if statistics else {})


def trainable(results: Results) -> tuple[Table, Table]:
    """Percentage of trainable parameters against the average over tasks, one row per cell."""
    rows, groups = [], {}
    for (model, dataset), configurations in results.rows.items():
        for configuration in configurations:
            for name in configuration.names:
                adapter = results.collected.records.get(name, {}).get("adapter")
                if not adapter:
                    continue
                share, one = (
                    adapter["trainable_percent"],
                    Configuration(configuration.rank, configuration.bits, (name,)),
                )
                score = results.score(one, AVERAGE)
                found = numbers(score, results.params.tables.confidence)
                rows.append([model, dataset, str(one.rank), str(one.bits), name, repr(share), *found])
                groups.setdefault((model, one.rank), []).append((share, score))
    long = ["model", "dataset", "rank", "bits", "cell", "trainable_percent", "value", "low", "high", "n"]
    summary = [
        [model, str(rank), f"{found[0][0]:.4f}", str(len(found)), _text(results, _mean([score for _, score in found]))]
        for (model, rank), found in sorted(groups.items())
    ]
    title = "Percentage of trainable parameters against the average over tasks"
    header = ["model", "rank", "trainable %", "cells", "average over training sets and bits"]
    return _tables(results, title, long, rows, header, summary)


def english(results: Results) -> tuple[Table, Table]:
    """English before and after finetuning: what was forgotten."""
    columns = [
        column
        for column in (*PAPER_TASKS, "alpaca_eval", AVERAGE)
        if results.languages(column, lambda code: code == "en")
    ]
    rows, summary = [], []
    for model, dataset, configuration in _chosen(results):
        summary.append([model, dataset, configuration.text])
        for column in columns:
            row, difference = _change(results, "en", model, dataset, configuration, column, lambda code: code == "en")
            rows.append(row)
            summary[-1].append(_text(results, difference, signed=True))
    title = "English before and after finetuning: difference, with its interval"
    return _tables(results, title, HEADER, rows, ["model", "dataset", "configuration", *columns], summary)


def by_group(results: Results, title: str, group_of: Callable[[str], str]) -> tuple[Table, Table]:
    """Difference by finetuning for each group of languages, on each task and on average over those that have any."""
    every = {code for task in PAPER_TASKS for code in results.collected.languages(task)}
    groups = sorted({group_of(code) for code in every})
    chosen = list(_chosen(results))
    rows, summary = [], []
    for group in groups:
        inside = [code for code in sorted(every) if group_of(code) == group]
        summary.append([group, " ".join(inside)])
        for model, dataset, configuration in chosen:
            for column in (*PAPER_TASKS, AVERAGE):
                if not results.languages(column, inside.__contains__):
                    continue
                row, difference = _change(results, group, model, dataset, configuration, column, inside.__contains__)
                rows.append(row)
            # The last column is the average, which every group has.
            summary[-1].append(_text(results, difference, signed=True))
    header = ["group", "languages", *(f"{model} {dataset}" for model, dataset, _ in chosen)]
    return _tables(results, f"{title}: difference by finetuning, average over tasks", HEADER, rows, header, summary)


def seen(results: Results) -> tuple[Table, Table]:
    """Difference by finetuning for languages inside and outside each training set."""
    rows, summary = [], []
    for model, dataset, configuration in _chosen(results):
        trained = set(results.params.datasets[dataset].languages)
        gains = {}
        for group, keep in (
            ("seen", trained.__contains__),
            ("unseen", lambda code, trained=trained: code not in trained),
        ):
            for column in (*PAPER_TASKS, AVERAGE):
                if results.languages(column, keep):
                    row, gains[group] = _change(results, group, model, dataset, configuration, column, keep)
                    rows.append(row)
        both = gains.get("seen"), gains.get("unseen")
        apart = both[0] - both[1] if None not in both else None
        summary.append([model, dataset, *(_text(results, q, signed=True) for q in (*both, apart))])
    header = ["model", "dataset", "seen", "unseen", "seen - unseen"]
    title = "Languages inside and outside the training set: difference by finetuning, average over tasks"
    return _tables(results, title, HEADER, rows, header, summary)


def fertility(results: Results, statistics: dict[str, dict[str, Any]]) -> tuple[Table, Table]:
    """Tokens per character of each training language against its score, on the task whose items are parallel.

    The rank correlation is over languages; its interval comes from the examples, not from the choice of languages.
    """
    rows, summary = [], []
    for model, dataset, configuration in _chosen(results):
        found = {
            code: language["models"][model]
            for code, language in sorted(statistics.get(dataset, {}).get("languages", {}).items())
            if language["models"].get(model, {}).get("answer_tokens_per_character")
            and code in results.collected.languages(PARALLEL)
        }
        scored: dict[str, list[Quantity]] = {"before": [], "after": []}
        for code, tokens in found.items():
            row, _ = _change(results, code, model, dataset, configuration, PARALLEL, code.__eq__)
            per_word = tokens["answer_tokens_per_word"]
            rows.append([*row, str(tokens["answer_tokens_per_character"]), "" if per_word is None else str(per_word)])
            base = Configuration.base(model, configuration.bits)
            scored["before"].append(results.score(base, PARALLEL, [code]))
            scored["after"].append(results.score(configuration, PARALLEL, [code]))
        per_character = [tokens["answer_tokens_per_character"] for tokens in found.values()]
        correlations = [_text(results, rank_correlation(per_character, q), signed=True) for q in scored.values()]
        summary.append([model, dataset, configuration.text, str(len(found)), *correlations])
    title = f"Tokens per character against {PARALLEL} by language: rank correlation, with its interval"
    header = ["model", "dataset", "configuration", "languages", "before", "after"]
    long = [*HEADER, "answer_tokens_per_character", "answer_tokens_per_word"]
    return _tables(results, title, long, rows, header, summary)


def fertility_lift(results: Results, costs: dict[str, dict[str, float]]) -> tuple[Table, Table]:
    """Whether languages whose text costs more tokens gain more or less: `costs` is model -> language -> tokens of a text
    as a multiple of the same text's in English (benchmarks/fertility.csv: real tokenisers on XQuAD).

    Over the languages that were measured, seen in training or not; on the task whose items are parallel.
    """
    rows, summary = [], []
    for model, dataset, configuration in _chosen(results):
        base = Configuration.base(model, configuration.bits)
        codes = [code for code in sorted(costs.get(model, {})) if code in results.collected.languages(PARALLEL)]
        befores, lifts = [], []
        for code in codes:
            row, lift = _change(results, code, model, dataset, configuration, PARALLEL, code.__eq__)
            rows.append([*row, str(costs[model][code])])
            befores.append(results.score(base, PARALLEL, [code]))
            lifts.append(lift)
        values = [costs[model][code] for code in codes]
        found = [_text(results, rank_correlation(values, each), signed=True) for each in (befores, lifts)]
        summary.append([model, dataset, configuration.text, str(len(codes)), *found])
    title = (
        f"Tokens of a text as a multiple of English against {PARALLEL} by language: rank correlation, with its interval"
    )
    header = [
        "model",
        "dataset",
        "configuration",
        "languages",
        "with the score before",
        "with the difference by finetuning",
    ]
    return _tables(results, title, [*HEADER, "times_english"], rows, header, summary)


def rank_correlation(values: list[float], scores: list[Quantity | None]) -> Quantity | None:
    """Spearman's, between fixed values and scores with noise; None under three languages or when a score is missing."""
    if len(values) < 3 or None in scores:
        return None
    fixed = _ranks(np.array(values)[:, None])
    value = _correlation(fixed, _ranks(np.array([[q.value] for q in scores])))[0]
    replicates = _correlation(fixed, _ranks(np.stack([q.replicates for q in scores])))
    return Quantity(float(value), replicates, n=min(q.n for q in scores))


def _ranks(columns: np.ndarray) -> np.ndarray:
    """Ranks within each column, equal values sharing their mean rank. Shape (languages, columns)."""
    smaller = (columns[None, :, :] < columns[:, None, :]).sum(axis=1)
    equal = (columns[None, :, :] == columns[:, None, :]).sum(axis=1)
    return smaller + (equal - 1) / 2


def _correlation(fixed: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each column with the fixed one; 0 where all ranks are equal."""
    fixed, ranks = fixed - fixed.mean(axis=0), ranks - ranks.mean(axis=0)
    spread = np.sqrt((fixed**2).sum(axis=0) * (ranks**2).sum(axis=0))
    return np.divide((fixed * ranks).sum(axis=0), spread, out=np.zeros(ranks.shape[1]), where=spread > 0)


def _chosen(results: Results) -> Iterator[tuple[str, str, Configuration]]:
    for model, dataset in results.rows:
        configuration = results.chosen(model, dataset, AVERAGE)
        if configuration:
            yield model, dataset, configuration


def _change(
    results: Results,
    group: str,
    model: str,
    dataset: str,
    configuration: Configuration,
    column: str,
    keep: Callable[[str], bool],
) -> tuple[list[str], Quantity | None]:
    """A row of HEADER, and the difference."""
    before = results.score_among(Configuration.base(model, configuration.bits), column, keep)
    after = results.score_among(configuration, column, keep)
    difference = after - before if before and after else None
    count = len({code for codes in results.languages(column, keep).values() for code in codes})
    found = [numbers(quantity, results.params.tables.confidence) for quantity in (before, after, difference)]
    return [group, str(count), model, dataset, configuration.text, column, *sum(found, [])], difference


def _tables(
    results: Results, title: str, long: list[str], rows: list[list[str]], header: list[str], summary: list[list[str]]
) -> tuple[Table, Table]:
    notes = [
        f"{AVERAGE.capitalize()} over tasks mixes accuracy, F1 and ROUGE-L: an index.",
        seeds_note(results.params).capitalize(),
    ]
    return Table(title, long, rows, label=results.label), Table(
        title, header, summary, notes=notes, label=results.label
    )


def _mean(quantities: list[Quantity | None]) -> Quantity | None:
    return None if None in quantities or not quantities else mean(quantities)


def _text(results: Results, quantity: Quantity | None, signed: bool = False) -> str:
    """0.431 [0.412, 0.450]; with a sign for differences."""
    if quantity is None:
        return MISSING
    value, low, high = (rounded(n, 3) for n in quantity.interval(results.params.tables.confidence))
    return f"{'+' if signed and not value.startswith('-') else ''}{value} [{low}, {high}]"
