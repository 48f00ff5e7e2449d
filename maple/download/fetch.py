"""Fetching the sources that the parameters need, checked before they count, and the record of what they were.

    artifacts/<profile>/sources/{datasets,models}/<key>/<upstream path>
    artifacts/<profile>/sources/record.json      written last: per source the commit, per file bytes, sha256, rows

A later run of the same revision must find the same bytes. They are compared with the record of the last run (kept
in work/<profile>) and with profiles/<profile>/sources.lock.json where somebody committed a record there.
"""

import fnmatch
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.config import catalogue
from maple.config.catalogue import Source
from maple.config.params import PROFILES, Params
from maple.core import storage
from maple.core.errors import MapleError
from maple.core.progress import Progress, size
from maple.download import hub
from maple.download.hub import Listing, NoAccess
from maple.upstream import readers

SCHEMA = "maple.sources/1"
# Larger files are hard links to the Hub's cache where that is possible: two base models are 27 GB.
LINK_ABOVE = 100_000_000


@dataclass(frozen=True)
class Need:
    """A source with the languages and splits that a profile uses of it (both empty for a model)."""

    source: Source
    parts: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Wanted:
    """One upstream file to fetch; `part` is its split and upstream language name."""

    source: Source
    path: str
    part: tuple[str, str]
    bytes: int | None
    sha256: str | None


def needs(params: Params) -> list[Need]:
    """What the stages of a profile will read, models first, no part twice. MapleError for a task that cannot be asked
    so.
    """
    from maple import tasks

    wanted: dict[tuple[str, str], list[tuple[str, str, str]]] = {}

    def add(source: Source, codes: list[str], splits: list[str]) -> None:
        known = wanted.setdefault((source.kind, source.key), [])
        known += [part for part in source.parts(codes, splits) if part not in known]

    for model in params.models:
        add(catalogue.models()[model], [], [])
    for training_set in params.datasets.values():
        source = catalogue.datasets()[training_set.source]
        add(source, training_set.languages, ["train"])
        if source.original:
            add(source, [source.original], ["train"])
    for name, options in params.evaluation.tasks.items():
        task = tasks.get(name)
        task.check(options)
        add(catalogue.datasets()[task.source], options.languages, [options.split])
        if options.shots:
            shot_task, split = task.shot_split(options.split)
            add(catalogue.datasets()[tasks.get(shot_task).source], options.shots_in(options.languages), [split])
        if name == "alpaca_eval" and params.judge.reference in catalogue.datasets()["alpaca_eval"].files:
            add(catalogue.datasets()["alpaca_eval"], [], [params.judge.reference])
    every = {"models": catalogue.models(), "datasets": catalogue.datasets()}
    return [Need(every[kind][key], tuple(parts)) for (kind, key), parts in wanted.items()]


def match(need: Need, listing: Listing) -> list[Wanted]:
    """The files at the revision that the need's patterns name; raises MapleError for a pattern without a file."""
    source, found = need.source, {}
    for split, name, pattern in need.parts:
        # * stays inside a folder.
        paths = [p for p in fnmatch.filter(listing.files, pattern) if p.count("/") == pattern.count("/")]
        if not paths:
            raise MapleError(
                f"{source.label}: no file {pattern}",
                why=f"{source.hub_id} at {listing.commit[:12]} has {len(listing.files)} files, none of that name",
                do="connect to the internet if an earlier run left only some languages in the cache; "
                "else correct `files` or `revision` in sources.yaml",
            )
        _check_shards(source, pattern, paths)
        for path in sorted(paths):
            upstream = listing.files[path]
            known_bytes, known_sha256 = upstream.bytes, upstream.sha256
            if listing.is_upstream:
                known_bytes, known_sha256 = source.bytes.get(path, known_bytes), source.sha256.get(path, known_sha256)
            found[path] = Wanted(source, path, (split, name), known_bytes, known_sha256)
    return list(found.values())


def _check_shards(source: Source, pattern: str, paths: list[str]) -> None:
    """All N files of `...-00000-of-0000N...`. Where a cache or a folder has to say what there is, some may be missing."""
    groups: dict[tuple[str, int, str], int] = {}
    for path in paths:
        # What follows the number may be a hash of the shard alone.
        if found := re.fullmatch(r"(.*)-\d+-of-(\d+)(?:\D.*)?\.(\w+)", path):
            group = found[1], int(found[2]), found[3]
            groups[group] = groups.get(group, 0) + 1
    for (_, total, _), count in groups.items():
        if count != total:
            raise MapleError(
                f"{source.label}: {count} of {total} files of {pattern}",
                why="a part of a split would be taken for the whole; an earlier download was cut off, or files were removed",
                do="connect to the internet and run the command again; of a folder of your own: put the others there",
            )


def of(source: Source, origin):
    """Where a source comes from: its own folder, else `origin`."""
    return hub.Local() if source.is_local else origin


def resolve(needs: list[Need], origin) -> list[tuple[Need, Listing, list[Wanted]]]:
    """Ask about every source, gated ones included, before the first byte; raises one MapleError for all refusals."""
    resolved, denied = [], []
    for need in needs:
        try:
            place = of(need.source, origin)
            listing = place.resolve(need.source)
            wanted = match(need, listing)
            place.ask_access(need.source, wanted[0].path)
        except NoAccess as error:
            denied.append(error)
            continue
        _check_commit(need.source, listing)
        resolved.append((need, listing, wanted))
    if denied:
        raise hub.refused(denied)
    return resolved


def _check_commit(source: Source, listing: Listing) -> None:
    if source.commit_starts and listing.is_upstream and not listing.commit.startswith(source.commit_starts):
        raise MapleError(
            f"{source.label}: {source.revision} is now at {listing.commit}",
            why=f"sources.yaml expects a commit that begins with {source.commit_starts}",
            do=f"put the full hash of the old commit in place of '{source.revision}' in sources.yaml (history on {source.page})",
        )


def warnings(resolved: list[tuple[Need, Listing, list[Wanted]]]) -> list[str]:
    """Sources that answered with another commit than the one asked for, as a stand-in for the Hub does."""
    return [
        f"warning: {need.source.hub_id} answered revision {need.source.revision[:12]} with commit {listing.commit[:12]}"
        for need, listing, _ in resolved
        if len(need.source.revision) == 40 and listing.is_upstream and listing.commit != need.source.revision
    ]


def download(params: Params, origin, asked: list[Need] | None = None, keep: bool = False) -> dict[str, Any]:
    """Fetch, check and record everything a profile needs; returns the record.

    With `keep`, what an earlier call fetched from the Hub stays beside them and in the record; else it is removed.
    """
    root = params.artifacts / "sources"
    earlier = _earlier_records(params, root) if origin.name == "hub" else []
    resolved = resolve(needs(params) if asked is None else asked, origin)
    for line in warnings(resolved):
        print(line, file=sys.stderr)
    files_wanted = [wanted for _, _, group in resolved for wanted in group]
    _check_space(files_wanted, origin)

    (root / "record.json").unlink(missing_ok=True)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "profile": params.profile,
        "origin": origin.name,
        "models": {},
        "datasets": {},
    }
    total = sum(wanted.bytes or 0 for wanted in files_wanted)
    with Progress(total, "download", "bytes") as bar:
        for need, listing, group in resolved:
            source = need.source
            entry = source.card() | {"commit": listing.commit, "files": {}}
            for wanted in group:
                entry["files"][wanted.path] = _fetch(
                    wanted, of(source, origin), root, bar, [_files_of(r, source) for r in earlier]
                )
            _check_rows(source, group, entry["files"], listing.is_upstream)
            result[source.kind][source.key] = entry
    if keep and earlier:
        _keep(root, earlier[0], result)
    _remove_others(root, result)
    for kind in ("models", "datasets"):
        result[kind] = dict(sorted(result[kind].items()))
    if origin.name == "hub":
        storage.write_json(_last_record(params), result)
    storage.write_json(root / "record.json", result)
    return result


def _last_record(params: Params) -> Path:
    return params.work / "sources" / "record.json"


def _earlier_records(params: Params, root: Path) -> list[dict]:
    candidates = [root / "record.json", _last_record(params), PROFILES / params.profile / "sources.lock.json"]
    return [found for path in candidates if path.exists() and (found := storage.read_json(path))["origin"] == "hub"]


def _files_of(earlier: dict, source: Source) -> dict[str, dict]:
    """The files of a source in an earlier record, if they were of the same revision."""
    entry = earlier[source.kind].get(source.key, {})
    return entry["files"] if entry and (entry["hub_id"], entry["revision"]) == (source.hub_id, source.revision) else {}


def _check_space(wanted: list[Wanted], origin) -> None:
    missing = sum(w.bytes or 0 for w in wanted if not of(w.source, origin).cached(w.source, w.path))
    if not missing:
        return
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if missing > free:
        raise MapleError(
            f"not enough disk for the sources: {size(missing)} to fetch, {size(free)} free",
            why=f"the Hub's cache is at {constants.HF_HUB_CACHE}",
            do="free some space, or set HF_HOME to a larger disk. Nothing was downloaded",
        )


def _fetch(wanted: Wanted, origin, root: Path, bar: Progress, earlier: list[dict[str, dict]]) -> dict[str, Any]:
    """Fetch one file, check it, put it in place; returns its entry in the record."""
    source, before = wanted.source, bar.done
    found = origin.fetch(source, wanted.path, lambda n: bar.advance(n, f"{source.key} {wanted.path}"))
    # Files from the cache are not heard of, those fetched in several tries are heard of twice.
    bar.advance(before + (wanted.bytes or found.stat().st_size) - bar.done)
    entry: dict[str, Any] = {"bytes": found.stat().st_size, "sha256": storage.sha256(found)}
    name = f"{source.label}: {wanted.path}"
    again = f"delete {os.path.realpath(found)} and run the download stage again"
    if wanted.bytes is not None and entry["bytes"] != wanted.bytes:
        raise MapleError(f"{name} has {entry['bytes']:,} bytes", why=f"it should have {wanted.bytes:,}", do=again)
    if wanted.sha256 and entry["sha256"] != wanted.sha256:
        raise MapleError(
            f"{name} is not the expected file",
            why=f"its sha256 is {entry['sha256']}, expected {wanted.sha256}",
            do=again,
        )
    for known in earlier:
        if wanted.path in known and known[wanted.path]["sha256"] != entry["sha256"]:
            raise MapleError(
                f"{name} differs from what an earlier run fetched at the same revision",
                why=f"its sha256 was {known[wanted.path]['sha256']}, now it is {entry['sha256']}",
                do=f"{again}; if upstream really changed, results before and after are not comparable: "
                "remove the earlier record (work/<profile>/sources, artifacts/<profile>/sources) to go on",
            )
    if source.kind == "datasets":
        entry["rows"] = readers.count(found)
    _place(found, source.folder(root) / wanted.path)
    return entry


def _place(found: Path, path: Path) -> None:
    """A copy, or for large files a hard link, of `found` at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        if found.stat().st_size > LINK_ABOVE:
            try:
                os.link(os.path.realpath(found), part)
            except OSError:
                shutil.copyfile(found, part)
        else:
            shutil.copyfile(found, part)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise MapleError(
            f"could not write {path}",
            why=str(error),
            do="free some space or fix the permissions, then run the command again",
        ) from error


def _check_rows(source: Source, group: list[Wanted], entries: dict[str, dict], is_upstream: bool) -> None:
    """Rows of a split's shards together: some, and as many as sources.yaml knows of upstream's."""
    found: dict[tuple[str, str], int] = {}
    for wanted in group:
        found[wanted.part] = found.get(wanted.part, 0) + entries[wanted.path].get("rows", 0)
    for (split, name), rows in found.items():
        if source.kind != "datasets":
            continue
        expected = source.expected_rows(split, name) if is_upstream else None
        paths = [w.path for w in group if w.part == (split, name)]
        if rows == 0:
            raise MapleError(
                f"{source.label}: {', '.join(paths)} {'holds' if len(paths) == 1 else 'hold'} no rows",
                why="nothing can be trained on them or scored by them",
                do=f"compare with {source.page}; delete them from the Hub's cache if they are whole there",
            )
        if expected is not None and rows != expected:
            raise MapleError(
                f"{source.label}: {', '.join(paths)} {'has' if len(paths) == 1 else 'have'} {rows:,} rows",
                why=f"sources.yaml expects {expected:,}",
                do=f"compare the revision with {source.page}; correct `revision` or `rows` in sources.yaml. {source.notes}".strip(),
            )


def _keep(root: Path, earlier: dict[str, Any], result: dict[str, Any]) -> None:
    """Adds to the result what an earlier record has and is still there; of the same source only at the same commit."""
    for kind in ("models", "datasets"):
        for key, before in earlier[kind].items():
            entry = result[kind].get(key, before | {"files": {}})
            there = {path: file for path, file in before["files"].items() if (root / kind / key / path).exists()}
            if there and entry["commit"] == before["commit"]:
                result[kind][key] = entry | {"files": dict(sorted((there | entry["files"]).items()))}


def _remove_others(root: Path, result: dict[str, Any]) -> None:
    """Files of languages or models that the parameters no longer name would change the folder's hash."""
    wanted = {
        root / kind / key / path
        for kind in ("models", "datasets")
        for key, entry in result[kind].items()
        for path in entry["files"]
    }
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in wanted:
            path.unlink()
