"""Where sources come from: the Hugging Face Hub, or a folder laid out like it (the smoke profile's own inputs), or a
folder of your own.

All answer the same two questions: what is at a source's revision (`resolve`), and give me this file (`fetch`).
The Hub's client resumes interrupted files, retries, and keeps them in its cache (HF_HOME), from which a later run
works without a network (HF_HUB_OFFLINE=1, or simply no connection).
"""

import errno
import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.config.catalogue import Source
from maple.core import storage
from maple.core.errors import MapleError

CONNECT = (
    "connect to the internet (behind a proxy: set HTTPS_PROXY), then run the command again; finished files are kept"
)
# Seconds before the second, third and fourth try where the Hub is busy; it may ask for longer ones.
PAUSES = (1.0, 4.0, 15.0)
LONGEST_PAUSE = 300


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
    """`root/{datasets,models}/<org>/<name>/<path>`, as maple.smoke writes it; a model with a stand-in is that one."""

    name = "smoke"

    def __init__(self, root: Path):
        self.root = Path(root)

    def resolve(self, source: Source) -> Listing:
        repository = self._repository(source)
        known = source.stand_in.sha256 if source.stand_in else {}
        files = {p.relative_to(repository).as_posix(): p for p in sorted(repository.rglob("*")) if p.is_file()}
        # Of a stand-in every file that is pinned, so that one that is gone is missed, and none that is not.
        paths = known or files
        return Listing(
            self.name, {p: Upstream(files[p].stat().st_size if p in files else None, known.get(p)) for p in paths}
        )

    def ask_access(self, source: Source, path: str) -> None:
        """Nothing to ask."""

    def cached(self, source: Source, path: str) -> Path:
        return self._repository(source) / path

    def fetch(self, source: Source, path: str, on_bytes: Callable[[int], None]) -> Path:
        found = self.cached(source, path)
        if not found.is_file():
            raise MapleError(
                f"{source.label}: {found} is missing", why="the smoke profile needs it", do=f"git checkout {found}"
            )
        return found

    def _repository(self, source: Source) -> Path:
        return Path(source.stand_in.folder) if source.stand_in else self.root / source.kind / source.hub_id


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
    """The Hub through huggingface_hub (imported late: it costs half a second).

    A token that the Hub does not take is left out from then on: a public source needs none.
    """

    name = "hub"

    def __init__(self, wait: Callable[[float], None] = time.sleep):
        self._wait = wait
        self._without_token = False

    def resolve(self, source: Source) -> Listing:
        """Asks the Hub; without a connection, what an earlier run left in the cache answers."""
        import httpx2
        from huggingface_hub import HfApi, errors

        def describe(token: bool | None) -> Any:
            options = {"revision": source.revision, "repo_type": _type(source), "files_metadata": True, "timeout": 30}
            return HfApi(token=token).repo_info(source.hub_id, **options)

        try:
            info = self._asked(source, describe)
            files = {s.rfilename: Upstream(s.size, s.lfs.sha256 if s.lfs else None) for s in info.siblings or ()}
            if not isinstance(info.sha, str):
                raise TypeError("the answer names no commit")
        except (errors.OfflineModeIsEnabled, httpx2.TransportError) as error:
            return self._cached_listing(source, error)
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise MapleError(
                f"{source.label}: the Hub has no {source.hub_id} at revision {source.revision}",
                why=_first_line(error),
                do="see whether the repository moved, and correct hub_id or revision in sources.yaml",
            ) from error
        except errors.HfHubHTTPError as error:
            raise _unanswered(source, f"the Hub did not describe {source.hub_id}", error) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MapleError(
                f"{source.label}: what answered for {source.hub_id} is not the Hub's description",
                why=f"its status was 200, but: {_first_line(error)}",
                do="a proxy or a login page may answer in its place, or a mirror only in part: open "
                f"{_endpoint()} in a browser, and correct HF_ENDPOINT if it is set",
            ) from error
        return Listing(info.sha, files)

    def _asked(self, source: Source, call: Callable[[bool | None], Any]) -> Any:
        """`call(token)` with the user's token, and once more without it where the Hub refuses it.

        NoAccess where a gated source needs another token, or the right to it.
        """
        from huggingface_hub import errors

        refused = self._without_token
        for token in (False,) if self._without_token or not _token_to_send() else (None, False):
            try:
                found = self._with_pauses(source, functools.partial(call, token))
            except errors.GatedRepoError as error:
                raise NoAccess(source, _reason(error, token, refused or _unsendable())) from error
            except errors.HfHubHTTPError as error:
                if token is None and _status(error) in (401, 403):
                    if "fine-grained" in str(error) and source.gated:
                        raise NoAccess(source, RIGHT) from error
                    refused = True
                    continue
                if source.gated and _status(error) in (401, 403):
                    raise NoAccess(source, BAD_TOKEN if refused or _unsendable() else NO_TOKEN) from error
                raise
            if refused and not self._without_token:
                self._without_token = True
                print(
                    "warning: the Hub does not take your token; going on without it, as public sources allow",
                    file=sys.stderr,
                )
            return found

    def _with_pauses(self, source: Source, call: Callable[[], Any]) -> Any:
        """Again after each of PAUSES where the Hub is busy or failing, or the line breaks off in the middle of an answer."""
        import httpx2
        from huggingface_hub import errors

        for pause in (*PAUSES, None):
            try:
                return call()
            except errors.HfHubHTTPError as error:
                if pause is None or not (_status(error) == 429 or _status(error) >= 500):
                    raise
                seconds, why = _asked_pause(error) or pause, f"status {_status(error)}"
            except (httpx2.ReadError, httpx2.RemoteProtocolError) as error:
                if pause is None:
                    raise
                seconds, why = pause, f"{type(error).__name__}: {_first_line(error)}"
            print(f"{source.label}: the Hub gave no answer ({why}); again in {seconds:.0f} s", file=sys.stderr)
            self._wait(seconds)

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

        url = hf_hub_url(source.hub_id, path, repo_type=_type(source), revision=source.revision)
        try:
            self._asked(source, lambda token: get_hf_file_metadata(url, token=token))
        except (errors.OfflineModeIsEnabled, httpx2.TransportError):
            pass  # Then the cache has to answer, which `fetch` finds out.
        except errors.HfHubHTTPError as error:
            raise _unanswered(source, f"the Hub refuses {path}", error) from error

    def cached(self, source: Source, path: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(source.hub_id, path, repo_type=_type(source), revision=source.revision)
        return Path(found) if isinstance(found, str) else None

    def fetch(self, source: Source, path: str, on_bytes: Callable[[int], None]) -> Path:
        """The file in the Hub's cache; `on_bytes` hears of the bytes as they come."""
        import httpx2
        from huggingface_hub import constants, errors, hf_hub_download

        if found := self.cached(source, path):
            return found

        def transfer(token: bool | None) -> str:
            options = {"repo_type": _type(source), "revision": source.revision, "tqdm_class": _listener(on_bytes)}
            try:
                return hf_hub_download(source.hub_id, path, token=token, **options)
            except errors.LocalEntryNotFoundError as error:
                # The client looks into its cache after any failure; what failed before decides.
                if isinstance(error.__cause__, errors.HfHubHTTPError):
                    raise error.__cause__ from error
                raise

        try:
            found = self._asked(source, transfer)
        except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx2.TransportError) as error:
            raise MapleError(
                f"{source.label}: connection lost while fetching {path}", why=_first_line(error), do=CONNECT
            ) from error
        except errors.HfHubHTTPError as error:
            raise _unanswered(source, f"{path} could not be fetched", error) from error
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT):
                raise MapleError(
                    f"{source.label}: the Hub's cache cannot be written",
                    why=str(error),
                    do=f"set HF_HOME to a folder that you may write; now it is {constants.HF_HOME}. A cache that is "
                    "shared and read-only serves the files that it holds",
                ) from error
            raise MapleError(
                f"{source.label}: {path} could not be fetched",
                why=_first_line(error),
                do="run the command again; it goes on where it stopped",
            ) from error
        except (errors.EntryNotFoundError, ValueError, TypeError, KeyError) as error:
            raise MapleError(
                f"{source.label}: {path} could not be fetched",
                why=f"what answered is not the Hub's file: {_first_line(error)}",
                do=f"open {_endpoint()} in a browser, and correct HF_ENDPOINT if it is set; finished files are kept",
            ) from error
        return Path(found)


class NoAccess(Exception):
    """The Hub refuses a gated source to this user; `why` is one of the reasons below."""

    def __init__(self, source: Source, why: str):
        super().__init__(source.hub_id)
        self.source, self.why = source, why


NO_TOKEN = "the Hub has not granted access to anyone without a token"
LICENCE = "the Hub has not granted access to the account of your token"
BAD_TOKEN = "the Hub does not take your token: it is mistyped, expired or revoked"
RIGHT = "your token is a fine-grained one without the right to read public gated repositories"
_REMEDY = {
    NO_TOKEN: "accept the licence at {pages}, then set HF_TOKEN",
    LICENCE: "accept the licence at {pages}, then set HF_TOKEN to a token of that account",
    BAD_TOKEN: "make a new token on the Hub's page of access tokens, then set HF_TOKEN to it or run `hf auth login`; the licence is at {pages}",
    RIGHT: "tick 'Read access to contents of all public gated repos' where the Hub lists that token, or set HF_TOKEN to a "
    "read token; the licence is at {pages}",
}


def refused(denied: list[NoAccess]) -> MapleError:
    """One error for all gated sources that the Hub refuses."""
    sources = [one.source for one in denied]
    reasons = list(dict.fromkeys(one.why for one in denied))
    names = " and ".join(source.label for source in sources)
    copies = [
        f"{s.label} has an ungated copy, {s.alternative['hub_id']} (see sources.yaml)" for s in sources if s.alternative
    ]
    remedies = [
        _REMEDY[reason].format(pages=" and ".join(one.source.page for one in denied if one.why == reason))
        for reason in reasons
    ]
    return MapleError(
        f"{names} {'is' if len(sources) == 1 else 'are'} gated. Nothing was downloaded.",
        why="; ".join(reasons),
        do="; ".join(remedies + copies),
    )


def _reason(error: Exception, token: bool | None, refused: bool) -> str:
    if token is False:
        return BAD_TOKEN if refused else NO_TOKEN
    if "fine-grained" in str(error):
        return RIGHT
    # To an account that lacks the licence the Hub says 403; 401 means that it knows no such account.
    return BAD_TOKEN if _status(error) == 401 else LICENCE


def _token_to_send() -> bool:
    """Whether there is a token that a header can carry, as the Hub's client finds it."""
    return bool(_token()) and not _unsendable()


def _unsendable() -> bool:
    token = _token()
    return token is not None and not (token.isascii() and token.isprintable() and " " not in token)


def _token() -> str | None:
    """None without one; of a file that is no text, something that no header can carry."""
    from huggingface_hub import get_token

    try:
        return get_token()
    except (OSError, ValueError):
        return "\n"


def _status(error: Any) -> int:
    response = getattr(error, "response", None)
    return response.status_code if response is not None else 0


def _asked_pause(error: Any) -> float | None:
    """Seconds that a busy Hub asks to wait, up to LONGEST_PAUSE; its windows for counting requests are five minutes."""
    from huggingface_hub.utils import parse_ratelimit_headers

    told = error.response.headers.get("Retry-After", "").strip()
    limit = parse_ratelimit_headers(error.response.headers)
    seconds = int(told) if told.isdigit() else limit.reset_in_seconds + 1 if limit and not limit.remaining else 0
    return min(seconds, LONGEST_PAUSE) or None


def _unanswered(source: Source, what: str, error: Any) -> MapleError:
    """What a status other than 200 means to a user."""
    status = _status(error)
    do = "look at " + source.page
    if status == 429:
        do = f"too many requests came from this address or account: wait some minutes, then run the command again ({len(PAUSES) + 1} tries were made)"
    elif status >= 500:
        do = f"the Hub, or the mirror of HF_ENDPOINT, is down or overloaded: run the command again later ({len(PAUSES) + 1} tries were made); finished files are kept"
    elif status in (401, 403):
        do = f"see in a browser whether {source.page} is open to you; unset HF_ENDPOINT if it names a mirror that asks for a login of its own"
    return MapleError(f"{source.label}: {what} (status {status})", why=_first_line(error), do=do)


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


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
