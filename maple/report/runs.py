"""What ran and what it cost: the bills that git keeps, summed and one by one."""

from typing import Any

from maple.config.bills import VERBS
from maple.core import progress
from maple.results.collect import Collected


def summary(found: Collected, spent: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """Totals per verb, one row per record, versions of the libraries."""
    rows = [
        _row(name, found.records[name], {verb: spent.get((verb, name), {}) for verb in VERBS})
        for name in found.asked
        if name in found.records
    ]
    hardware = sorted({row["hardware"] for row in rows if row["hardware"]})
    started = sorted(
        bill["started"] for (_, name), bill in spent.items() if name in found.records and "started" in bill
    )
    return {
        "asked": len(found.asked),
        "present": len(found.records),
        "missing": found.missing,
        "seconds": {verb: sum(row[verb] or 0 for row in rows) for verb in VERBS},
        "peak_gb": max((row["peak_gb"] for row in rows if row["peak_gb"]), default=None),
        "hardware": hardware,
        "started": (started[0], started[-1]) if started else None,
        "languages": len({score.language for score in found.scores}),
        "tasks": len({score.task for score in found.scores}),
        "scores": sum(score.primary for score in found.scores),
        "examples": sum(score.n for score in found.scores if score.primary),
        "rows": rows,
        "versions": _versions(found),
    }


def _row(name: str, entry: dict[str, Any], bills: dict[str, dict[str, Any]]) -> dict[str, Any]:
    adapter = entry.get("adapter") or {}
    loss = adapter.get("heldout_loss") or {}
    tokens = adapter.get("tokens") or {}
    return {
        "name": name,
        **{verb: bill.get("seconds") for verb, bill in bills.items()},
        "peak_gb": max(
            (bill[key] for bill in bills.values() for key in ("peak_gb", "peak_gpu_gb") if key in bill), default=None
        ),
        "hardware": next((hardware(bill["hardware"]) for bill in bills.values() if "hardware" in bill), ""),
        "percent": adapter.get("trainable_percent"),
        "before": loss.get("before"),
        "after": loss.get("after"),
        "steps": adapter.get("steps"),
        "tokens": tokens.get("all"),
    }


def hardware(value: str | dict[str, Any]) -> str:
    """The GPU where there is one, else processor and cores."""
    if isinstance(value, str):
        return value
    return value.get("gpu") or f"{value.get('processor', 'unknown processor')}, {value.get('cores', '?')} cores"


def duration(seconds: float | None) -> str:
    """Empty where a bill does not say."""
    return "" if seconds is None else progress.duration(seconds)


def _versions(found: Collected) -> dict[str, list[str]]:
    """Library -> versions seen; more than one means that records come from different environments."""
    seen: dict[str, set[str]] = {}
    for entry in found.records.values():
        for library, version in (entry.get("versions") or {}).items():
            seen.setdefault(library, set()).add(str(version))
    return {library: sorted(versions) for library, versions in sorted(seen.items())}
