"""Where sources come from: the Hugging Face Hub, or a folder laid out like it (the smoke profile's own inputs), or a
folder of your own.

All answer the same two questions: what is at a source's revision (`resolve`), and give me this file (`fetch`).
The Hub's client resumes interrupted files, retries, and keeps them in its cache (HF_HOME), from which a later run
works without a network (HF_HUB_OFFLINE=1, or simply no connection).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maple.config.catalogue import Source
from maple.core import storage
from maple.core.errors import MapleError

CONNECT = (
    "connect to the internet (behind a proxy: set HTTPS_PROXY), then run the command again; finished files are kept"
)


@dataclass(frozen=True)
class Upstream:
    """A file as its origin describes it; None where the origin does not say."""

    bytes: int | None
    sha256: str | None


@dataclass(frozen=True)
class Listing:
    """What stands at a source's revision: the commit behind it, and its files by path."""

    commit: str
    files: dict[str, Upstream]

    @property
    def is_upstream(self) -> bool:
        """False for files made here: what sources.yaml knows of upstream's bytes and rows does not hold for them."""
        return self.commit != Folder.name


class Folder:
    """`root/{datasets,models}/<org>/<name>/<path>`, as maple.smoke writes it."""

    name = "smoke"

    def __init__(self, root: Path):
        self.root = Path(root)

    def resolve(self, source: Source) -> Listing:
        repository = self.root / source.kind / source.hub_id
        paths = sorted(p for p in repository.rglob("*") if p.is_file())
        return Listing(
            self.name, {p.relative_to(repository).as_posix(): Upstream(p.stat().st_size, None) for p in paths}
        )

    def ask_access(self, source: Source, path: str) -> None:
        """Nothing to ask."""

    def cached(self, source: Source, path: str) -> Path:
        return self.root / source.kind / source.hub_id / path

    def fetch(self, source: Source, path: str, on_bytes: Callable[[int], None]) -> Path:
        return self.cached(source, path)


class Local:
    """The folder of a source that names a `path`; what sources.yaml knows of its files is checked as for the Hub's."""

    name = "local"

    def resolve(self, source: Source) -> Listing:
        root = Path(source.path)
        if not root.is_dir():
            raise MapleError(
                f"{source.label}: no folder {root}",
                why="sources.yaml names it as `path`",
                do="correct `path`, or put the files there",
            )
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        files = {
            path.relative_to(root).as_posix(): Upstream(path.stat().st_size, storage.sha256(path)) for path in paths
        }
        return Listing(storage.fingerprint({path: found.sha256 for path, found in files.items()}, 40), files)

    def ask_access(self, source: Source, path: str) -> None:
        """Nothing to ask."""

    def cached(self, source: Source, path: str) -> Path:
        return Path(source.path) / path

    def fetch(self, source: Source, path: str, on_bytes: Callable[[int], None]) -> Path:
        return self.cached(source, path)


class Hub:
    """The Hub through huggingface_hub (imported late: it costs half a second)."""

    name = "hub"

    def resolve(self, source: Source) -> Listing:
        """Asks the Hub; without a connection, what an earlier run left in the cache answers."""
        import httpx2
        from huggingface_hub import HfApi, errors

        try:
            info = HfApi().repo_info(
                source.hub_id, revision=source.revision, repo_type=_type(source), files_metadata=True, timeout=30
            )
        except errors.GatedRepoError as error:
            raise NoAccess(source) from error
        except (errors.OfflineModeIsEnabled, httpx2.TransportError) as error:
            return self._cached_listing(source, error)
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise MapleError(
                f"{source.label}: the Hub has no {source.hub_id} at revision {source.revision}",
                why=_first_line(error),
                do="see whether the repository moved, and correct hub_id or revision in sources.yaml",
            ) from error
        except errors.HfHubHTTPError as error:
            raise MapleError(
                f"{source.label}: the Hub failed to describe {source.hub_id}", why=str(error), do="try again later"
            ) from error
        files = {s.rfilename: Upstream(s.size, s.lfs.sha256 if s.lfs else None) for s in info.siblings or ()}
        return Listing(info.sha, files)

    def _cached_listing(self, source: Source, error: Exception) -> Listing:
        from huggingface_hub import constants

        cache = Path(constants.HF_HUB_CACHE, f"{source.kind}--{source.hub_id.replace('/', '--')}")
        reference = cache / "refs" / source.revision
        commit = reference.read_text().strip() if reference.is_file() else source.revision
        snapshot = cache / "snapshots" / commit
        if not snapshot.is_dir():
            raise MapleError(
                "no connection to the Hugging Face Hub, and its cache is empty"
                if not cache.exists()
                else f"{source.label} is not cached",
                why=f"{source.hub_id} at {source.revision[:12]} was never fetched to {constants.HF_HUB_CACHE} ({error})",
                do=CONNECT,
            ) from error
        files = {
            p.relative_to(snapshot).as_posix(): p.stat().st_size for p in sorted(snapshot.rglob("*")) if p.is_file()
        }
        return Listing(commit, {path: Upstream(size, None) for path, size in files.items()})

    def ask_access(self, source: Source, path: str) -> None:
        """Raises NoAccess if the Hub would refuse this file; transfers nothing."""
        import httpx2
        from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

        try:
            get_hf_file_metadata(hf_hub_url(source.hub_id, path, repo_type=_type(source), revision=source.revision))
        except errors.GatedRepoError as error:
            raise NoAccess(source) from error
        except (errors.OfflineModeIsEnabled, httpx2.TransportError):
            pass  # Then the cache has to answer, which `fetch` finds out.
        except errors.HfHubHTTPError as error:
            raise MapleError(
                f"{source.label}: the Hub refuses {path}", why=str(error), do="look at " + source.page
            ) from error

    def cached(self, source: Source, path: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(source.hub_id, path, repo_type=_type(source), revision=source.revision)
        return Path(found) if isinstance(found, str) else None

    def fetch(self, source: Source, path: str, on_bytes: Callable[[int], None]) -> Path:
        """The file in the Hub's cache; `on_bytes` hears of the bytes as they come."""
        import httpx2
        from huggingface_hub import errors, hf_hub_download

        if found := self.cached(source, path):
            return found
        try:
            found = hf_hub_download(
                source.hub_id, path, repo_type=_type(source), revision=source.revision, tqdm_class=_listener(on_bytes)
            )
        except errors.GatedRepoError as error:
            raise NoAccess(source) from error
        except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx2.TransportError) as error:
            raise MapleError(
                f"{source.label}: connection lost while fetching {path}", why=_first_line(error), do=CONNECT
            ) from error
        except (errors.HfHubHTTPError, errors.EntryNotFoundError, OSError) as error:
            raise MapleError(
                f"{source.label}: {path} could not be fetched",
                why=_first_line(error),
                do="run the command again; it goes on where it stopped",
            ) from error
        return Path(found)


class NoAccess(Exception):
    """The Hub refuses a gated source to this user."""

    def __init__(self, source: Source):
        super().__init__(source.hub_id)
        self.source = source


def refused(sources: list[Source]) -> MapleError:
    """One error for all gated sources that the Hub refuses."""
    from huggingface_hub import get_token

    names = " and ".join(source.label for source in sources)
    copies = [
        f"{s.label} has an ungated copy, {s.alternative['hub_id']} (see sources.yaml)" for s in sources if s.alternative
    ]
    return MapleError(
        f"{names} {'is' if len(sources) == 1 else 'are'} gated. Nothing was downloaded.",
        why="the Hub has not granted access to "
        + ("the account of your token" if get_token() else "anyone without a token"),
        do="accept the licence at "
        + " and ".join(source.page for source in sources)
        + ", then set HF_TOKEN"
        + "".join("; " + copy for copy in copies),
    )


def _type(source: Source) -> str:
    return source.kind.removesuffix("s")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _listener(on_bytes: Callable[[int], None]) -> type:
    """A silent tqdm that passes on what it is told, for the client's `tqdm_class`."""
    from tqdm import tqdm

    class Listener(tqdm):
        def __init__(self, *args, **options):
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})
            on_bytes(options.get("initial") or 0)

        def update(self, n=1):
            on_bytes(n or 0)

    return Listener
