"""What the Hub answers when it does not simply give: each a message of three parts, and a public source in spite of a bad token."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import hub as stand_in

ROOT = Path(__file__).parents[2]
PIN = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_" + "SeCrEtMaRk" * 3
COLUMNS = {"instruction": "instruction", "input": "input", "output": "output", "id": "id"}


def entry(name: str, gated: bool, **fields) -> dict:
    return {
        "label": name.title(),
        "hub_id": f"org/{name}",
        "revision": PIN,
        "licence": "CC0",
        "gated": gated,
        "origin": "human",
    } | fields


@pytest.fixture
def world(tmp_path):
    """A public data set `open` of three rows and a gated model `shut`; the file `sources.yaml` names the first."""
    data = tmp_path / "hub/datasets/org/open/data"
    data.mkdir(parents=True)
    rows = [{"instruction": "a", "input": "", "output": "b", "id": str(i)} for i in range(3)]
    (data / "en.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode(), mtime=0))
    model = tmp_path / "hub/models/org/shut"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    ask_for(tmp_path, shut=False)
    return tmp_path


def ask_for(world: Path, shut: bool) -> None:
    models = {"shut": entry("shut", True, files={"config": "config.json"})} if shut else {}
    data = entry("open", False, files={"train": "data/{code}.json.gz"}, columns=COLUMNS, languages=["en"])
    (world / "sources.yaml").write_text(yaml.safe_dump({"models": models, "datasets": {"open": data}}))


def fetched(world: Path, url: str, **environment: str) -> subprocess.CompletedProcess:
    base = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    base |= {"HF_ENDPOINT": url, "HF_HOME": str(world / "hf"), "PYTHONPATH": str(ROOT), "HF_HUB_DOWNLOAD_TIMEOUT": "5"}
    command = [sys.executable, ROOT / "tests/fetch.py", world / "sources.yaml", "en", "train"]
    return subprocess.run(command, cwd=world, env=base | environment, capture_output=True, text=True, timeout=120)


def clear(result: subprocess.CompletedProcess, *texts: str) -> None:
    """Ended with one message of three parts that holds the texts, and no traceback."""
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert result.stderr.count("  why: ") == result.stderr.count("  do:  ") == 1, result.stderr
    for text in texts:
        assert text in result.stderr, result.stderr


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_hub_is_asked_again_after_growing_pauses(world, status):
    with stand_in.serve(world / "hub") as server:
        server.first = [(status, {}, b"{}", None)] * 2
        result = fetched(world, server.url)
    assert result.returncode == 0, result.stderr
    assert f"Open: the Hub gave no answer (status {status}); again in 1 s" in result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("waited")] == ["waited 1", "waited 4"]


def test_a_hub_that_says_how_long_to_wait_is_obeyed(world):
    with stand_in.serve(world / "hub") as server:
        server.first = [(429, {"Retry-After": "7"}, b"{}", None), (429, {"ratelimit": '"api";r=0;t=55'}, b"{}", None)]
        result = fetched(world, server.url)
    assert result.returncode == 0 and "waited 7\n" in result.stderr and "waited 56\n" in result.stderr, result.stderr


def test_a_busy_hub_is_asked_again_for_a_file_too(world):
    with stand_in.serve(world / "hub") as server:
        server.file_first = [(503, {}, b"", None), (429, {}, b"", None)]
        result = fetched(world, server.url)
    assert result.returncode == 0 and result.stderr.count("waited") == 2, result.stderr


@pytest.mark.parametrize("status, told", [(429, "too many requests"), (503, "is down or overloaded")])
def test_a_hub_that_stays_busy_is_said_to_be_so(world, status, told):
    with stand_in.serve(world / "hub") as server:
        server.first = [(status, {}, b"{}", None)] * 4
        result = fetched(world, server.url)
    clear(result, f"(status {status})", told, "4 tries")


def test_a_public_source_never_fails_for_a_bad_token(world):
    for token in (TOKEN, "hf_ключ", "hf_two words"):
        shutil.rmtree(world / "hf", ignore_errors=True)
        with stand_in.serve(world / "hub") as server:
            server.tokens = set()
            result = fetched(world, server.url, HF_TOKEN=token)
        assert result.returncode == 0, result.stderr
        assert ("does not take your token" in result.stderr) == (token == TOKEN) and token not in result.stderr


def test_a_fine_grained_token_without_the_right_still_reads_public_sources(world):
    with stand_in.serve(world / "hub") as server:
        server.fine_grained = {"org/open"}
        assert fetched(world, server.url, HF_TOKEN=TOKEN).returncode == 0


@pytest.mark.parametrize("token", [TOKEN, "hf_ключ"])
def test_a_gated_source_with_a_bad_token_says_that_the_token_is_bad(world, token):
    ask_for(world, shut=True)
    with stand_in.serve(world / "hub") as server:
        server.gated, server.tokens = {"org/shut"}, set()
        result = fetched(world, server.url, HF_TOKEN=token)
    clear(result, "Shut is gated. Nothing was downloaded.", "mistyped, expired or revoked", "make a new token")
    assert token not in result.stderr and server.files_sent() == []


def test_a_gated_source_names_the_right_that_a_fine_grained_token_lacks(world):
    ask_for(world, shut=True)
    with stand_in.serve(world / "hub") as server:
        server.gated, server.fine_grained = {"org/shut"}, {"org/shut"}
        result = fetched(world, server.url, HF_TOKEN=TOKEN)
    clear(result, "fine-grained one without the right", "tick 'Read access to contents of all public gated repos'")


@pytest.mark.parametrize("status", [401, 403])
def test_a_mirror_that_asks_for_a_login_of_its_own_is_named(world, status):
    with stand_in.serve(world / "hub") as server:
        server.first = [(status, {}, b"{}", None)] * 4
        result = fetched(world, server.url)
    clear(result, f"(status {status})", "unset HF_ENDPOINT")


NOT_THE_HUB = {
    "a page": b"<html>Please log in</html>",
    "a list": b"[1, 2]",
    "no commit": json.dumps({"id": "org/open", "siblings": [], "tags": []}).encode(),
    "null": b"null",
    "text": b'"hello"',
    "siblings that are none": json.dumps({"id": "org/open", "sha": PIN, "siblings": [7], "tags": []}).encode(),
}


@pytest.mark.parametrize("body", NOT_THE_HUB.values(), ids=NOT_THE_HUB)
def test_an_answer_at_status_200_that_is_no_description_is_named(world, body):
    with stand_in.serve(world / "hub") as server:
        server.first = [(200, {}, body, None)]
        result = fetched(world, server.url)
    clear(result, "is not the Hub's description", "HF_ENDPOINT")


def test_half_a_description_is_asked_for_again(world):
    whole = json.dumps({"id": "org/open", "sha": PIN}).encode()
    with stand_in.serve(world / "hub") as server:
        server.first = [(200, {}, whole, 10)]
        result = fetched(world, server.url)
    assert result.returncode == 0 and "again in 1 s" in result.stderr, result.stderr


def test_a_page_in_place_of_a_file_is_named(world):
    page = b"<html>busy</html>"
    with stand_in.serve(world / "hub") as server:
        server.file_first = [(200, {"X-Repo-Commit": PIN, "ETag": '"0"'}, page, None)] * 3
        result = fetched(world, server.url)
    clear(result, "en.json.gz")


def test_a_page_without_the_hub_s_headers_is_named(world):
    with stand_in.serve(world / "hub") as server:
        server.file_first = [(200, {}, b"<html>busy</html>", None)] * 9
        result = fetched(world, server.url)
    clear(result, "en.json.gz")


def test_a_cache_that_cannot_be_written_is_named(world):
    (world / "a file").write_text("")
    with stand_in.serve(world / "hub") as server:
        result = fetched(world, server.url, HF_HOME=str(world / "a file" / "hf"))
    clear(result, "the Hub's cache cannot be written", "set HF_HOME")


def test_a_source_without_a_row_is_an_error(world):
    (world / "hub/datasets/org/open/data/en.json.gz").write_bytes(gzip.compress(b"[]", mtime=0))
    with stand_in.serve(world / "hub") as server:
        result = fetched(world, server.url)
    clear(result, "Open: data/en.json.gz holds no rows")
    assert not (world / "artifacts/tiny/sources/record.json").exists()


def test_a_cache_that_holds_the_files_is_only_read_so_it_may_be_shared_and_read_only(world):
    def seen() -> dict:
        return {str(path): path.lstat().st_mtime_ns for path in [world / "hf", *(world / "hf").rglob("*")]}

    with stand_in.serve(world / "hub") as server:
        assert fetched(world, server.url).returncode == 0
        before = seen()
        shutil.rmtree(world / "artifacts")
        assert fetched(world, server.url).returncode == 0
    assert seen() == before and len(before) > 3


def test_a_cache_with_a_part_of_the_shards_is_not_taken_for_the_whole(world):
    """Without a network the cache alone says what a revision holds: of an earlier run that was cut off, too little."""
    data = world / "hub/datasets/org/open/data"
    whole = (data / "en.json.gz").read_bytes()
    (data / "en.json.gz").unlink()
    for number, mark in enumerate(("", "-a09b74b3ef9c3b56")):
        (data / f"en-{number:05}-of-00002{mark}.json.gz").write_bytes(whole)
    described = yaml.safe_load((world / "sources.yaml").read_text())
    described["datasets"]["open"]["files"]["train"] = "data/{code}-*.json.gz"
    (world / "sources.yaml").write_text(yaml.safe_dump(described))
    with stand_in.serve(world / "hub") as server:
        assert fetched(world, server.url).returncode == 0
    shutil.rmtree(world / "artifacts")
    assert fetched(world, server.url, HF_HUB_OFFLINE="1").returncode == 0
    shutil.rmtree(world / "artifacts")
    next((world / "hf").rglob("snapshots/*/data/en-00001-of-00002*")).unlink()
    result = fetched(world, server.url, HF_HUB_OFFLINE="1")
    clear(result, "Open: 1 of 2 files of data/en-*.json.gz", "connect to the internet")
    assert not (world / "artifacts/tiny/sources/record.json").exists()
