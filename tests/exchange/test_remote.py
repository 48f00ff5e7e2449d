"""Push and pull through real servers on loopback, S3's (moto) and SSH's: nothing runs again, and one message per fault.

The pipeline is the project's own dvc.yaml with the commands replaced: each stage only writes its outputs, as text.
"""

import asyncio
import re
import shutil
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import copies
import pytest
import s3
import yaml
from copies import ran

ROOT = Path(__file__).parents[2]
BASE, SET = "llama-2-7b-4bit", "alpaca"
CELL = f"{BASE}.{SET}.r8.s42"
ENVIRONMENT = {
    key: value for key, value in copies.ENVIRONMENT.items() if "proxy" not in key.lower() and not key.startswith("AWS_")
}
ENVIRONMENT |= s3.ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
MAKE = """
import pathlib, sys
for name in sys.argv[1:]:
    path = pathlib.Path(name if name.endswith(".json") else f"{name}/record.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
"""

pytestmark = pytest.mark.slow


def run(folder: Path, *command: str, code: int = 0, **changed: str) -> str:
    return copies.run(folder, *command, code=code, environment=ENVIRONMENT | changed)


def stage(folder: Path, name: str, *options: str, code: int = 0, **changed: str) -> str:
    return run(folder, sys.executable, "-m", f"stages.{name}", *options, code=code, **changed)


def kept(entries: list[Any]) -> list[Any]:
    """Of a stage's deps or outs those that a stage makes and DVC caches."""
    plain = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    # A part of an output is not made here: the stage then needs all of it.
    whole = [re.sub(r"/tokens$|(?<=/sources)/.*", "", path) for path in plain if path.startswith("artifacts/")]
    return list(dict.fromkeys(whole))


def toy(stages: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, entry in stages.items():
        inner = entry["do"] if "do" in entry else entry
        outs = kept(inner.get("outs", []) + inner.get("metrics", []))
        if outs:
            # A stage without dependencies would never be found in the run-cache.
            deps = kept(inner.get("deps", [])) or ["make.py"]
            small = {"cmd": f"python make.py {' '.join(outs)}", "deps": deps, "outs": outs}
            frame = {key: entry[key] for key in ("matrix", "foreach") if key in entry}
            found[name] = frame | ({"do": small} if "do" in entry else small)
    return found


@pytest.fixture(scope="module")
def server():
    with s3.serving() as found:
        yield found


@pytest.fixture(scope="module")
def finished(server, tmp_path_factory) -> Path:
    """A repository whose run is in the store."""
    folder = tmp_path_factory.mktemp("finished")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["grid"] |= {"bases": [BASE], "datasets": [SET], "ranks": [8]}
    params |= {"model": "llama-2-7b", "dataset": SET, "datasets": {SET: params["datasets"][SET]}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": toy(pipeline["stages"])}, sort_keys=False))
    (folder / "make.py").write_text(MAKE)
    shutil.copy(ROOT / ".gitignore", folder)
    for name in ("config", ".gitignore"):
        (folder / ".dvc").mkdir(exist_ok=True)
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc")
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "repro")
    assert "no store is set" in stage(folder, "push", code=1)
    run(folder, "dvc", "remote", "add", "-d", "store", "s3://lab/runs")
    run(folder, "dvc", "remote", "modify", "store", "endpointurl", server[0])
    assert "`verify` is off" in stage(folder, "push", code=1)
    run(folder, "dvc", "remote", "modify", "store", "verify", "true")
    stage(folder, "push")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "finished")
    return folder


@pytest.fixture
def ssh(tmp_path):
    """(port, file with a key that it accepts) of an SSH server with SFTP."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    key.write_public_key(tmp_path / "accepted")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    async def listen():
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=str(tmp_path / "accepted"),
            sftp_factory=True,
        )

    server = wait(listen())
    yield server.get_port(), tmp_path / "key"
    server.close()
    wait(server.wait_closed())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def clone(finished, tmp_path) -> Path:
    run(tmp_path, "git", "clone", "-q", str(finished), "clone")
    return tmp_path / "clone"


def objects(client, path: str, finished: Path) -> list[str]:
    """The store's keys of one output: its list of files, and the file."""
    lock = yaml.safe_load((finished / "dvc.lock").read_text())["stages"]
    md5 = next(out["md5"] for entry in lock.values() for out in entry["outs"] if out["path"] == path)
    inner = client.get_object(Bucket="lab", Key=f"runs/files/md5/{md5[:2]}/{md5[2:]}")["Body"].read().decode()
    files = [part.split('"')[0] for part in inner.split('"md5": "')[1:]] if md5.endswith(".dir") else []
    return [f"runs/files/md5/{name[:2]}/{name[2:]}" for name in [md5, *files]]


@pytest.fixture
def without(server, finished):
    """Takes an output out of the store, or writes `bytes` over its files; put back after the test."""
    _, client = server
    saved: dict[str, bytes] = {}

    def take(path: str, instead: bytes | None = None) -> None:
        keys = objects(client, path, finished)
        for key in keys[1:] if instead else keys:
            saved[key] = client.get_object(Bucket="lab", Key=key)["Body"].read()
            client.delete_object(Bucket="lab", Key=key)
            if instead:
                client.put_object(Bucket="lab", Key=key, Body=instead)

    yield take
    for key, content in saved.items():
        client.put_object(Bucket="lab", Key=key, Body=content)


def test_a_fresh_clone_pulls_everything_and_runs_nothing(clone):
    said = stage(clone, "pull")
    assert "->" in said.splitlines()[3] and "WHAT=all" in said.splitlines()[3]
    assert ran(run(clone, "dvc", "repro")) == []
    assert run(clone, "git", "status", "--porcelain") == ""


def test_a_server_that_is_reached_by_ssh_and_a_folder_serve_as_well(finished, tmp_path, ssh):
    port, key = ssh
    for number, (address, settings) in enumerate(
        {
            f"ssh://127.0.0.1:{port}{tmp_path}/served": {"user": "lab", "keyfile": str(key)},
            f"{tmp_path}/folder": {},
        }.items()
    ):
        owner, reader = tmp_path / f"owner{number}", tmp_path / f"reader{number}"
        shutil.copytree(finished, owner, symlinks=True)
        run(owner, "dvc", "remote", "add", "--force", "--default", "store", address)
        run(owner, "dvc", "remote", "modify", "store", "verify", "true")
        for name, value in settings.items():
            run(owner, "dvc", "remote", "modify", "store", name, value)
        assert address in stage(owner, "push")
        run(owner, "git", "commit", "-qam", "another store")
        run(tmp_path, "git", "clone", "-q", str(owner), reader.name)
        stage(reader, "pull")
        assert ran(run(reader, "dvc", "repro")) == []


def test_another_experiment_that_was_pushed_comes_from_the_run_cache(clone):
    """Its outputs are in no dvc.lock of this commit; the run-cache knows them by what they were made from."""
    (clone / "dvc.lock").unlink()
    run(clone, "dvc", "pull", "--quiet", "--run-cache", "--allow-missing")
    assert ran(run(clone, "dvc", "repro", "--pull")) == []


def test_sizes_come_from_the_lock_and_scores_alone_can_be_had(clone):
    assert stage(clone, "pull", "--sizes", "--profile", "smoke").count("WHAT=") == 4
    stage(clone, "pull", "--what", "scores")
    here = {path.name for path in (clone / "artifacts/smoke").iterdir()}
    assert here == {"scores", "judgements", "collected", "report", "experiment.json"}
    stage(clone, "pull", "--what", "adapters")
    assert (clone / "artifacts/smoke/adapters" / CELL / "record.json").is_file()
    assert not (clone / "artifacts/smoke/answers").exists()


def test_with_one_adapter_missing_only_that_cell_runs(clone, without):
    without(f"artifacts/smoke/adapters/{CELL}")
    said = stage(clone, "pull", code=1)
    assert f"the store lacks 1 of 13 outputs: artifacts/smoke/adapters/{CELL}" in said and "runs their 1 stages" in said
    assert ran(run(clone, "dvc", "repro")) == [f"train@{BASE}-{SET}-8-42"]


def test_a_half_pushed_run_says_what_is_missing(clone, without):
    for path in (
        f"artifacts/smoke/answers/grid/{CELL}",
        f"artifacts/smoke/answers/grid/{BASE}",
        "artifacts/smoke/collected",
    ):
        without(path)
    assert "the store lacks 3 of 13 outputs" in stage(clone, "pull", code=1)


def test_a_damaged_file_is_not_taken(clone, without):
    without("artifacts/smoke/collected", b"another text")
    assert "artifacts/smoke/collected" in stage(clone, "pull", code=1)
    assert not (clone / "artifacts/smoke/collected/record.json").exists()


@pytest.mark.parametrize(
    "option, value, what",
    [
        ("endpointurl", "http://127.0.0.1:9", "s3://lab/runs cannot be reached"),
        ("url", "s3://no-such-bucket/runs", "s3://no-such-bucket/runs does not exist"),
    ],
)
def test_a_wrong_address_is_one_message_with_the_address(clone, option, value, what):
    run(clone, "dvc", "remote", "modify", "--local", "store", option, value)
    said = stage(clone, "pull", code=1)
    assert said.splitlines()[4] == what and "Traceback" not in said and len(said.splitlines()) == 8


def test_missing_credentials_are_one_message(clone, tmp_path):
    said = stage(clone, "pull", code=1, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", HOME=str(tmp_path))
    assert "s3://lab/runs refuses us" in said and "AWS_ACCESS_KEY_ID" in said and len(said.splitlines()) == 8


def test_wrong_credentials_are_one_message(clone, server):
    def checked_from_now_on(requests: str) -> None:
        """moto looks at no key until it has been told to, after that many requests."""
        header = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(f"{server[0]}/moto-api/reset-auth", requests.encode(), header))

    checked_from_now_on("0")
    try:
        said = stage(clone, "pull", code=1)
    finally:
        checked_from_now_on("inf")
    assert "s3://lab/runs refuses us" in said and len(said.splitlines()) == 8
