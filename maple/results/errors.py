"""What finetuning won and lost against the base, example by example: for each task and language, and where to look.

    won      scored higher after finetuning        both     the same score, above 0
    lost     scored lower                          neither  0 before and after

Where a score is right or wrong, this is the usual table of two classifiers, and `p` is McNemar's exact test; where it
is graded (F1, ROUGE), it is the sign test, which is the same sum. `p_holm` is corrected for all rows of the table.
"""

import math
from collections.abc import Iterator

import numpy as np

from maple.results.render import Table
from maple.results.tables import AVERAGE, EXPERIMENT, Configuration, Results

OUTCOMES = ("won", "lost", "both", "neither")
# Answers shown side by side: of each row and task, this many won and lost, in the language that lost most.
SHOWN = 2
WHERE = ["model", "dataset", "configuration", "task", "language"]


def mcnemar(won: int, lost: int) -> float:
    """Two-sided exact p-value of "an example is as likely won as lost".

    >>> round(mcnemar(1, 9), 4), mcnemar(0, 0), mcnemar(5, 5)
    (0.0215, 1.0, 1.0)
    """
    n, fewer = won + lost, min(won, lost)
    logs = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(fewer + 1))
    return min(1.0, 2 * math.fsum(math.exp(value - n * math.log(2)) for value in logs))


def holm(p_values: list[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), in the order given; at most 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    count, highest = len(p_values), 0.0
    corrected = [0.0] * count
    for place, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - place) * p_values[index]))
        corrected[index] = highest
    return corrected


def changes(
    results: Results, before: Configuration, after: Configuration, task: str, language: str
) -> dict[str, list[str]]:
    """Outcome -> ids of the examples that both were asked; scores are means over replicate seeds."""
    examples = results.collected.examples(task, language)
    places = {name: place for place, name in enumerate(examples.names)}
    if not all(name in places for name in (*before.names, *after.names)):
        return {outcome: [] for outcome in OUTCOMES}
    old, new = (examples.scores[[places[name] for name in one.names]].mean(axis=0) for one in (before, after))
    masks = (new > old, new < old, (new == old) & (new > 0), (new == old) & (new == 0))
    return {
        outcome: [examples.ids[i] for i in np.flatnonzero(mask)] for outcome, mask in zip(OUTCOMES, masks, strict=True)
    }


def _found(results: Results) -> Iterator[tuple[list[str], Configuration, Configuration, dict[str, list[str]]]]:
    """(values of WHERE, base, finetuned, outcomes) of every row of Table 1 and the experiment."""
    rows = [(model, dataset, results.chosen(model, dataset, AVERAGE)) for model, dataset in results.rows]
    if results.experiment:
        record = results.collected.records[EXPERIMENT]
        rows.append((record["model"], f"{record['dataset']} (experiment)", results.experiment))
    for model, dataset, after in rows:
        if after is None:
            continue
        before = Configuration.base(model, after.bits)
        for task in results.params.evaluation.tasks:
            # A win rate is against the reference's answers already.
            for language in results.collected.languages(task) if task != "alpaca_eval" else ():
                outcomes = changes(results, before, after, task, language)
                if any(outcomes.values()):
                    yield [model, dataset, after.text, task, language], before, after, outcomes


def table(results: Results) -> tuple[Table, Table]:
    """Counts by language for the machine; by task for the eye, with the languages that surely gained or lost."""
    found = [(where, outcomes) for where, _, _, outcomes in _found(results)]
    counts = [[len(outcomes[name]) for name in OUTCOMES] for _, outcomes in found]
    p = [mcnemar(won, lost) for won, lost, *_ in counts]
    corrected = holm(p)
    rows, summed = [], {}
    for (where, _), count, raw, value in zip(found, counts, p, corrected, strict=True):
        rows.append([*where, str(sum(count)), *map(str, count), f"{raw:.6g}", f"{value:.6g}"])
        total = summed.setdefault(tuple(where[:4]), [0, 0, 0, 0, [], []])
        for place, number in enumerate(count):
            total[place] += number
        if value < 1 - results.params.tables.confidence:
            total[4 if count[0] > count[1] else 5].append(where[4])
    summary = [
        [*where, *map(str, total[:4]), " ".join(total[4]), " ".join(total[5])] for where, total in summed.items()
    ]
    title = "Examples that finetuning won and lost against its base"
    header = [*WHERE[:4], *OUTCOMES, "languages that gained", "languages that lost"]
    notes = [
        "A language gained or lost where McNemar's exact test, corrected for all languages and tasks (Holm), says so."
    ]
    return (
        Table(title, [*WHERE, "n", *OUTCOMES, "p", "p_holm"], rows, label=results.label),
        Table(title, header, summary, notes=notes, label=results.label),
    )


def shown(results: Results) -> Table:
    """Which answers the report puts side by side: of each row and task a few of the language that lost most."""
    most: dict[tuple[str, ...], tuple[int, list[list[str]]]] = {}
    for where, before, after, outcomes in _found(results):
        lost = len(outcomes["lost"])
        if lost > most.get(tuple(where[:4]), (-1, []))[0]:
            rows = [
                [*where, before.names[0], after.names[0], outcome, id]
                for outcome in ("lost", "won")
                for id in outcomes[outcome][:SHOWN]
            ]
            most[tuple(where[:4])] = lost, rows
    header = [*WHERE, "base", "finetuned", "outcome", "id"]
    return Table("Answers shown side by side", header, [row for _, rows in most.values() for row in rows])
