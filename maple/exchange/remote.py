"""A shared store of results, any that DVC knows: what it holds, what is fetched, and what is wrong when it cannot be.

Sizes come from dvc.lock, which is in git: a reader sees them before the first byte.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from maple.config import lock
from maple.config.params import EXPERIMENT, Params
from maple.core.errors import MapleError
from maple.planning import plan

What = Literal["scores", "answers", "adapters", "all"]

# Stages whose outputs belong to each choice; matrix stages by the word before @.
SCORES = ("score", "score_experiment", "judge", "collect", "report")
SETS: dict[What, tuple[str, ...]] = {
    "scores": SCORES,
    "answers": (*SCORES, "answer", "answer_base", "answer_experiment"),
    "adapters": ("train", "train_experiment"),
    "all": (),
}
FOR = {
    "scores": "scores, judgements and the report: read, compared and drawn again without a model",
    "answers": "these and every stored answer: scored again, by another metric too",
    "adapters": "the adapters: loaded with PEFT",
    "all": "everything: `dvc repro` then runs nothing",
}


@dataclass(frozen=True)
class Output:
    """One output of dvc.lock, with the stage that makes it."""

    stage: str
    path: Path
    size: int
    files: int


def outputs(params: Params, what: What) -> list[Output]:
    """What a choice consists of; outputs that git itself keeps are none of the store's."""
    stages = lock.stages(params)
    if not stages:
        raise MapleError(
            f"{params.pipeline.with_name('dvc.lock')} is missing",
            why="it says which outputs belong to this commit, and nothing else can",
            do="check out a commit that has it: `git log -- dvc.lock profiles`",
        )
    wanted, current = SETS[what], _stages(params)
    return [
        Output(stage, Path(out["path"]), out.get("size", 0), out.get("nfiles", 1))
        for stage, entry in stages.items()
        if stage in current
        if not wanted or stage.split("@")[0] in wanted
        for out in entry.get("outs", [])
        if out["path"].startswith(f"{params.artifacts}/")
    ]


def _stages(params: Params) -> set[str]:
    """Of this commit's pipeline: dvc.lock also keeps what earlier ones had, which the store may have lost long ago."""
    names = [*(model.name for model in [*params.cells, *params.bases]), EXPERIMENT]
    listed = yaml.safe_load(params.pipeline.read_text(encoding="utf-8"))["stages"]
    plain = {name for name, stage in listed.items() if "matrix" not in stage and "foreach" not in stage}
    return (
        plain
        | {f"prepare@{key}" for key in params.datasets}
        | {s for name in names for s in plan.stages_of(params, name)}
    )


def check(params: Params) -> str:
    """The store's address, once it has been reached. Raises MapleError for each thing that can be wrong with it."""
    from dvc.config import NoRemoteError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo() as repo:
        try:
            store = repo.cloud.get_remote_odb()
        except NoRemoteError as error:
            raise MapleError(
                "no store is set",
                why="neither .dvc/config nor .dvc/config.local names a remote",
                do="make remote URL=s3://bucket/folder (or ssh://host/folder, /a/folder): docs/RELEASE.md",
            ) from error
        except DvcException as error:
            raise MapleError(
                "the store cannot be used", why=str(error), do="mend .dvc/config: docs/RELEASE.md"
            ) from error
        # Beyond it, DVC's own folders begin.
        address = store.fs.unstrip_protocol(store.path).removesuffix("/files/md5")
        if not store.verify:
            raise MapleError(
                f"{address} would be believed without a look",
                why="its setting `verify` is off: a damaged file would enter the cache under the name of a whole one",
                do=f"dvc remote modify {_name(repo)} verify true",
            )
        try:
            _reach(store.fs, store.path)
        except Exception as error:
            raise _unreachable(address, error) from error
    return address


def _reach(filesystem: Any, path: str) -> None:
    """List the nearest folder that exists: a store that was never written to has none of its own yet. HTTP lists nothing."""
    if filesystem.protocol in ("http", "https"):
        filesystem.exists(path)
        return
    while True:
        try:
            filesystem.ls(path, detail=False)
            return
        except FileNotFoundError:
            above = filesystem.parent(path)
            if above in ("", path):
                raise
            path = above


def _name(repo: Any) -> str:
    return repo.config["core"].get("remote", "NAME")


def _unreachable(address: str, error: Exception) -> MapleError:
    """Credentials, address or network: what the failing library says, in one line, and what mends it."""
    kind, text = type(error).__name__, " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, PermissionError) or "credential" in text.lower():
        return MapleError(
            f"{address} refuses us",
            why=text,
            do="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile in ~/.aws; a public store needs `dvc remote modify --local NAME allow_anonymous_login true`",
        )
    if isinstance(error, FileNotFoundError):
        return MapleError(
            f"{address} does not exist",
            why=text,
            do="check the address: `dvc remote list`; a bucket must be made before",
        )
    return MapleError(
        f"{address} cannot be reached", why=f"{kind}: {text}", do="check the network and the address: `dvc remote list`"
    )


def pull(params: Params, what: What) -> list[Output]:
    """Fetch a choice and check it out; what was fetched. Raises MapleError that names the stages whose outputs are not there.

    Whatever did arrive is kept, and not fetched again.
    """
    wanted = outputs(params, what)
    command = ["pull", "--quiet", "--force"]
    if what == "all":
        command += ["--run-cache", str(params.pipeline)]
    else:
        command += sorted({f"{params.pipeline}:{output.stage}" for output in wanted})
    done = subprocess.run([sys.executable, "-m", "dvc", *command], check=False, capture_output=True, text=True)
    lacking = [output for output in wanted if not output.path.exists()]
    if lacking:
        stages = list(dict.fromkeys(output.stage for output in lacking))
        shown = ", ".join(str(output.path) for output in lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise MapleError(
            f"the store lacks {len(lacking)} of {len(wanted)} outputs: {shown}",
            why=_said(done.stderr) or "they were not pushed, or only in part",
            do=f"`dvc repro {params.pipeline}` runs their {len(stages)} stages here, or ask who made the run for `make push`",
        )
    if done.returncode:
        raise MapleError(
            "not all was fetched", why=_said(done.stderr), do="run the same command again; what arrived is kept"
        )
    return wanted


def push(params: Params) -> None:
    """Store all outputs of the profile and the run-cache, by which another clone knows that it need not run."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "push", "--quiet", "--run-cache", str(params.pipeline)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise MapleError(
            "not all was stored",
            why=_said(done.stderr),
            do="run the same command again; what has arrived is not sent twice",
        )


def _said(text: str) -> str:
    """The one line of DVC's complaint that says most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or [""])[0]
