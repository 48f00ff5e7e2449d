"""Everything a cell opens, as compact JSON: values that many records share are written once, referred to by number."""

import json
from typing import Any

from maple.config.bills import VERBS
from maple.config.methods import METHODS
from maple.config.params import Params
from maple.report import examples, runs
from maple.results.collect import Collected
from maple.results.quantities import Resampled

CURVE_POINTS = 120
Bills = dict[tuple[str, str], dict[str, Any]]


def compact(found: Collected, params: Params, spent: Bills) -> dict[str, Any]:
    """`records` by name; `shared` values that a record's `shared` refers to; the layout of scores; examples."""
    shared = Shared()
    layout = _layout(found)
    scores = _scores(
        found, layout, shared, Resampled(found, params.tables.bootstrap_samples, params.tables.seed), params
    )
    records = {
        name: _record(name, found.records[name], spent, shared) | {"scores": scores[name]}
        for name in found.asked
        if name in found.records
    }
    return {
        "records": records,
        "layout": [
            {"task": task, "metric": metric, "chance": chance, "languages": codes}
            for task, metric, chance, codes in layout
        ],
        "examples": examples.compact(
            {name: (params.folder("answers", name), params.folder("scores", name)) for name in records},
            [(task, code) for task, _, _, codes in layout for code in codes],
        ),
        "shared": shared.values,
    }


class Shared:
    """Distinct values in order of first use."""

    def __init__(self):
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True, ensure_ascii=False)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def _record(name: str, entry: dict[str, Any], spent: Bills, shared: Shared) -> dict[str, Any]:
    """Facts in the order they are shown; parts that repeat over the grid as references."""
    adapter = entry.get("adapter") or {}
    loss = adapter.get("heldout_loss") or {}
    facts = {
        "kind": entry["kind"],
        "base model": entry["model"],
        "training set": entry.get("dataset"),
        "method": METHODS[adapter["recipe"]["method"]].label if adapter else None,
        "rank": entry.get("rank"),
        "bits": entry["bits"],
        "evaluated at bits": entry.get("evaluated_bits"),
        "seed": entry.get("seed"),
        "trainable parameters": adapter.get("trainable_parameters"),
        "trainable percent": _rounded(adapter.get("trainable_percent"), 4),
        "steps": adapter.get("steps"),
        "tokens": (adapter.get("tokens") or {}).get("all"),
        "held-out loss before": _rounded(loss.get("before"), 4),
        "held-out loss after": _rounded(loss.get("after"), 4),
    }
    for verb in VERBS:
        bill = spent.get((verb, name), {})
        facts[f"{verb}: time"] = runs.duration(bill.get("seconds")) or None
        facts[f"{verb}: peak memory (GB)"] = bill.get("peak_gpu_gb", bill.get("peak_gb"))
        facts[f"{verb}: hardware"] = runs.hardware(bill["hardware"]) if "hardware" in bill else None
    parts = {
        "recipe": adapter.get("recipe"),
        "base model files": adapter.get("base"),
        "data sources": entry.get("sources"),
        "library versions": entry.get("versions"),
    }
    return {
        "facts": {key: value for key, value in facts.items() if value is not None},
        "parts": {key: shared.place(value) for key, value in parts.items() if value},
        "curve": curve(adapter.get("loss") or []),
    }


def curve(losses: list[float]) -> list[list[float]]:
    """[step, loss] of at most CURVE_POINTS points: means of equal stretches of steps, so no spike decides a point.

    >>> curve([2.0, 1.0])
    [[1, 2.0], [2, 1.0]]
    """
    count = min(CURVE_POINTS, len(losses))
    points = []
    for place in range(count):
        first, last = place * len(losses) // count, (place + 1) * len(losses) // count
        stretch = losses[first:last]
        points.append([last, round(sum(stretch) / len(stretch), 3)])
    return points


def _layout(found: Collected) -> list[tuple[str, str, float | None, list[str]]]:
    """(task, metric, chance, languages) of every task and metric, primary metrics first within a task."""
    codes: dict[tuple[str, str], set[str]] = {}
    chances, primary = {}, {}
    for score in found.scores:
        key = (score.task, score.metric)
        codes.setdefault(key, set()).add(score.language)
        chances.setdefault(key, score.chance)
        primary[key] = score.primary
    return [(*key, _rounded(chances[key], 4), sorted(codes[key])) for key in codes if primary[key]]


def _scores(
    found: Collected, layout: list[tuple], shared: Shared, noise: Resampled, params: Params
) -> dict[str, list[list]]:
    """Per name, entry of the layout and language: [value, low, high, n, signature], scores times 10,000; or 0."""
    primary = found.primary()
    table: dict[str, list[list]] = {}
    for name in found.records:
        table[name] = []
        for task, _, _, codes in layout:
            line = []
            for code in codes:
                score = primary.get((name, task, code))
                quantity = noise.score(name, task, [code]) if score else None
                ends = quantity.interval(params.tables.confidence) if quantity else ()
                line.append(
                    [*(round(end * 10000) for end in ends), score.n, shared.place(score.signature)] if quantity else 0
                )
            table[name].append(line)
    return table


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
