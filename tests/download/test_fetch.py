"""sources.yaml, and fetching through the real Hub client from a loopback stand-in (tests/hub.py)."""

import dataclasses
import errno
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from maple import tasks
from maple.config import catalogue, params
from maple.core import progress, storage
from maple.core.errors import MapleError
from maple.download import fetch, hub
from maple.models import shapes
from maple.upstream import languages
from tests import hub as stand_in

ROOT = Path(__file__).parents[2]
PIN = "0123456789abcdef0123456789abcdef01234567"
ENTRY = {"label": "Tiny", "hub_id": "org/tiny", "revision": PIN, "licence": "CC0", "gated": False, "origin": "human"}
INSTRUCTIONS = {"instruction": "instruction", "input": "input", "output": "output", "id": "id"}


def row(i: int, language: str = "en") -> dict[str, str]:
    return {
        "instruction": f"question {i} in {language}",
        "input": "",
        "output": f"answer {i} in {language}",
        "id": f"alpaca-{i}",
    }


@pytest.fixture
def upstream(tmp_path):
    """A repository org/tiny with a gzipped array in two languages, and a sources.yaml that names it."""
    folder = tmp_path / "hub/datasets/org/tiny/data"
    folder.mkdir(parents=True)
    for code in ("en", "sw"):
        (folder / f"{code}.json.gz").write_bytes(
            gzip.compress(json.dumps([row(i, code) for i in range(40)]).encode(), mtime=0)
        )
    entry = ENTRY | {
        "files": {"train": "data/{code}.json.gz"},
        "rows": {"train": 40},
        "columns": INSTRUCTIONS,
        "languages": ["en", "sw"],
    }
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"models": {}, "datasets": {"tiny": entry}}))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def change_entry(upstream: Path, **fields) -> None:
    content = yaml.safe_load((upstream / "sources.yaml").read_text())
    content["datasets"]["tiny"] |= fields
    (upstream / "sources.yaml").write_text(yaml.safe_dump(content))


def fetched(upstream: Path, url: str, cache: str = "hf", **environment: str) -> subprocess.CompletedProcess:
    base = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    base |= {
        "HF_ENDPOINT": url,
        "HF_HOME": str(upstream / cache),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
    }
    command = [sys.executable, ROOT / "tests/fetch.py", upstream / "sources.yaml", "en,sw", "train"]
    return subprocess.run(command, cwd=upstream, env=base | environment, capture_output=True, text=True, timeout=120)


def found(upstream: Path) -> dict:
    return storage.read_json(upstream / "artifacts/tiny/sources/record.json")["datasets"]["tiny"]


def test_every_source_is_pinned_to_a_commit_and_states_its_licence():
    for source in [*catalogue.models().values(), *catalogue.datasets().values()]:
        assert re.fullmatch("[0-9a-f]{40}", source.revision) or source.commit_starts, source.key
        assert source.licence and source.origin and isinstance(source.gated, bool)


def test_sources_are_at_least_those_of_the_paper():
    assert set(catalogue.models()) >= {"llama-2-7b", "mistral-7b"}
    assert set(catalogue.datasets()) >= set(tasks.TASKS) | {"alpaca", "multialpaca", "bactrian-x"}


def test_shapes_give_the_known_numbers_of_parameters():
    counts = {key: shapes.Shape(**source.shape).parameters for key, source in catalogue.models().items()}
    assert counts["llama-2-7b"] == 6_738_415_616 and counts["mistral-7b"] == 7_241_732_096


def test_row_counts_add_up_to_the_published_totals():
    assert sum(catalogue.datasets()["multialpaca"].rows["train"].values()) == 132_701
    assert len(catalogue.datasets()["xlsum"].rows["test"]) == 45
    for name in ("mlqa", "xlsum", "multialpaca"):
        source = catalogue.datasets()[name]
        for code in source.codes:
            for split, upstream_name, _ in source.parts([code], source.files):
                assert source.expected_rows(split, upstream_name), (name, split, upstream_name)


def test_a_few_languages_of_xnli_never_need_its_training_set():
    for profile in ("smoke", "paper"):
        need = next(n for n in fetch.needs(params.load(profile)) if n.source.key == "xnli")
        assert not [pattern for split, _, pattern in need.parts if "train" in split + pattern]


def test_variants_are_exact_names_never_prefixes():
    belebele = catalogue.datasets()["belebele"]
    assert belebele.paths(["hi"], ["test"]) == ["data/hin_Deva.jsonl"]
    assert belebele.paths(["zh"], ["test"]) == ["data/zho_Hans.jsonl", "data/zho_Hant.jsonl"]
    assert catalogue.datasets()["xlsum"].paths(["sr"], ["test"]) == [
        "serbian_cyrillic/test/*.parquet",
        "serbian_latin/test/*.parquet",
    ]
    assert catalogue.datasets()["mlqa"].paths(["de"], ["test"]) == ["MLQA.de.de/test-*.parquet"]
    assert not [code for code in languages.CODES if len(set(languages.table()[code].upstream.get("belebele", ()))) > 2]


@pytest.mark.parametrize("change, named", [({"revison": PIN}, "revison"), ({"licence": None}, "licence")])
def test_a_wrong_field_of_sources_yaml_is_named(tmp_path, change, named):
    entry = {k: v for k, v in (ENTRY | {"files": {}} | change).items() if v is not None}
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"datasets": {"tiny": entry}}))
    with pytest.raises(MapleError, match=named):
        catalogue.load(tmp_path / "sources.yaml")


@pytest.mark.parametrize(
    "text, named",
    [
        ("models:\ndatasets: {}\n", "'models' holds no entries"),
        ("models: {}\ndatasets: {x: [1]}\n", "datasets.x is [1]"),
        ("models: {}\ndatasets: {../x: {}}\n", "has the entry '../x'"),
        ("models: {a.b: {}}\ndatasets: {}\n", "has the entry 'a.b'"),
        ("- 1\n", "holds no keys"),
        ("models: {}\ndatasets: {[a, b]: {}}\n", "line 2: a key is no word"),
        ("models: {}\ndatasets: {x: {}\n", "is not valid YAML"),
    ],
)
def test_sources_that_are_no_blocks_of_sources_are_refused_in_three_lines(tmp_path, text, named):
    (tmp_path / "sources.yaml").write_text(text)
    with pytest.raises(MapleError) as caught:
        catalogue.load(tmp_path / "sources.yaml")
    assert named in str(caught.value) and len(str(caught.value).splitlines()) == 3, str(caught.value)


def test_files_arrive_with_a_record_and_a_later_run_needs_no_network(upstream):
    with stand_in.serve(upstream / "hub") as server:
        first = fetched(upstream, server.url)
    assert first.returncode == 0, first.stderr
    entry = found(upstream)
    assert entry["commit"] == PIN and sorted(entry["files"]) == ["data/en.json.gz", "data/sw.json.gz"]
    arrived = upstream / "artifacts/tiny/sources/datasets/tiny/data/sw.json.gz"
    assert entry["files"]["data/sw.json.gz"] == {
        "bytes": arrived.stat().st_size,
        "sha256": storage.sha256(arrived),
        "rows": 40,
    }

    before = (upstream / "artifacts/tiny/sources/record.json").read_bytes()
    shutil.rmtree(upstream / "artifacts")
    for again in (fetched(upstream, server.url, HF_HUB_OFFLINE="1"), fetched(upstream, server.url)):
        assert again.returncode == 0, again.stderr
        assert (upstream / "artifacts/tiny/sources/record.json").read_bytes() == before


def test_a_file_that_breaks_off_is_resumed_not_fetched_again(upstream):
    """The client writes in pieces of 10 MB, so that is what an interruption can cost."""
    weights = upstream / "hub/models/org/big/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(bytes(24_000_000))
    entry = ENTRY | {"hub_id": "org/big", "files": {"weights": "model*.safetensors"}}
    (upstream / "sources.yaml").write_text(yaml.safe_dump({"models": {"big": entry}, "datasets": {}}))
    with stand_in.serve(upstream / "hub") as server:
        server.drop["model.safetensors"] = 1
        result = fetched(upstream, server.url)
    assert result.returncode == 0, result.stderr
    assert [span for method, path, span in server.requests if method == "GET" and "/resolve/" in path] == [
        None,
        "bytes=10485760-",
    ]
    assert (upstream / "artifacts/tiny/sources/models/big/model.safetensors").stat().st_size == 24_000_000


def test_the_checksum_that_the_hub_states_is_checked(upstream):
    change_entry(upstream, files={"train": "data/*.safetensors"})
    (upstream / "hub/datasets/org/tiny/data/a.safetensors").write_bytes(b"weights")
    with stand_in.serve(upstream / "hub") as server:
        server.lfs["a.safetensors"] = "0" * 64
        result = fetched(upstream, server.url)
    assert "Tiny: data/a.safetensors is not the expected file" in result.stderr, result.stderr


def test_no_network_and_an_empty_cache_is_one_clear_error(upstream):
    result = fetched(upstream, "http://127.0.0.1:9")
    assert result.returncode == 1
    assert "no connection to the Hugging Face Hub, and its cache is empty" in result.stderr and "do:" in result.stderr
    assert not (upstream / "artifacts").exists()


def test_gated_sources_are_refused_together_before_the_first_byte(upstream):
    content = yaml.safe_load((upstream / "sources.yaml").read_text())
    for name in ("llama", "mistral"):
        folder = upstream / f"hub/models/org/{name}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        content["models"][name] = ENTRY | {
            "label": name.title(),
            "hub_id": f"org/{name}",
            "gated": True,
            "files": {"config": "config.json"},
        }
    (upstream / "sources.yaml").write_text(yaml.safe_dump(content))
    with stand_in.serve(upstream / "hub") as server:
        server.gated = {"org/llama", "org/mistral"}
        without, with_token = fetched(upstream, server.url), fetched(upstream, server.url, HF_TOKEN="hf_nobody")
    assert "Llama and Mistral are gated. Nothing was downloaded." in without.stderr
    assert (
        "https://huggingface.co/org/llama and https://huggingface.co/org/mistral, then set HF_TOKEN" in without.stderr
    )
    assert "the account of your token" in with_token.stderr
    assert server.files_sent() == [] and not (upstream / "artifacts").exists()


def test_a_file_shorter_than_the_listing_says_is_named(upstream):
    with stand_in.serve(upstream / "hub") as server:
        server.shorten["data/sw.json.gz"] = 10
        result = fetched(upstream, server.url)
    assert result.returncode == 1 and "Tiny: data/sw.json.gz has" in result.stderr
    assert not (upstream / "artifacts/tiny/sources/record.json").exists()


def test_a_damaged_file_is_named_with_its_row(upstream):
    path = upstream / "hub/datasets/org/tiny/data/sw.json.gz"
    text = json.dumps([row(i) for i in range(40)])
    path.write_bytes(gzip.compress(text[: len(text) // 2].encode(), mtime=0))
    with stand_in.serve(upstream / "hub") as server:
        result = fetched(upstream, server.url)
    assert re.search(r"sw\.json\.gz, row 20: the file is damaged or cut short", result.stderr), result.stderr


def test_another_row_count_than_sources_yaml_knows_is_named(upstream):
    change_entry(upstream, rows={"train": 67017})
    with stand_in.serve(upstream / "hub") as server:
        result = fetched(upstream, server.url)
    assert "Tiny: data/en.json.gz has 40 rows" in result.stderr and "67,017" in result.stderr


def test_a_known_checksum_is_checked(upstream):
    change_entry(upstream, sha256={"data/en.json.gz": "0" * 64})
    with stand_in.serve(upstream / "hub") as server:
        result = fetched(upstream, server.url)
    assert "Tiny: data/en.json.gz is not the expected file" in result.stderr


def test_other_bytes_at_the_same_revision_are_refused_and_named(upstream):
    with stand_in.serve(upstream / "hub") as server:
        assert fetched(upstream, server.url).returncode == 0
        path = upstream / "hub/datasets/org/tiny/data/sw.json.gz"
        path.write_bytes(gzip.compress(json.dumps([row(i + 1, "sw") for i in range(40)]).encode(), mtime=0))
        shutil.rmtree(upstream / "artifacts")
        result = fetched(upstream, server.url, cache="another")
    assert result.returncode == 1 and "Tiny: data/sw.json.gz differs from what an earlier run fetched" in result.stderr


def test_a_commit_known_by_its_first_digits_is_checked(upstream):
    change_entry(upstream, revision="main", commit_starts="c75ee65")
    with stand_in.serve(upstream / "hub") as server:
        server.commits["org/tiny"] = "c75ee65" + PIN[7:]
        assert fetched(upstream, server.url).returncode == 0
        assert found(upstream)["commit"] == "c75ee65" + PIN[7:]
        server.commits["org/tiny"] = PIN
        moved = fetched(upstream, server.url)
    assert "main is now at " + PIN in moved.stderr


def test_another_commit_than_asked_for_is_a_warning_in_the_record_too(upstream):
    with stand_in.serve(upstream / "hub") as server:
        server.commits["org/tiny"] = "f" * 40
        result = fetched(upstream, server.url)
    assert (
        result.returncode == 0
        and f"warning: org/tiny answered revision {PIN[:12]} with commit ffffffffffff" in result.stderr
    )
    assert found(upstream)["commit"] == "f" * 40 and found(upstream)["revision"] == PIN


@pytest.fixture
def folder(upstream, monkeypatch):
    """The same repository as the smoke profile has it: a folder, no server."""
    monkeypatch.chdir(upstream)
    source = catalogue.load(upstream / "sources.yaml")["datasets"]["tiny"]
    settings = dataclasses.replace(params.load(), profile="tiny")

    def run(codes: list[str]) -> dict:
        return fetch.download(
            settings, hub.Folder(upstream / "hub"), [fetch.Need(source, tuple(source.parts(codes, ["train"])))]
        )

    return run


def test_a_language_no_longer_asked_for_leaves_the_folder(folder):
    folder(["en", "sw"])
    folder(["en"])
    assert [p.name for p in Path("artifacts/tiny/sources/datasets").rglob("*.gz")] == ["en.json.gz"]


def test_two_downloads_leave_the_same_bytes(folder):
    folder(["en"])
    before = Path("artifacts/tiny/sources/record.json").read_bytes()
    shutil.rmtree("artifacts")
    folder(["en"])
    assert Path("artifacts/tiny/sources/record.json").read_bytes() == before


def test_a_full_disk_leaves_no_record_and_no_half_file(folder, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch.shutil, "copyfile", full)
    with pytest.raises(MapleError, match="No space left"):
        folder(["en"])
    assert not [p for p in Path("artifacts").rglob("*") if p.is_file()]


def test_large_files_are_links_to_the_cache_not_copies(folder, monkeypatch):
    monkeypatch.setattr(fetch, "LINK_ABOVE", 0)
    folder(["en"])
    assert Path("artifacts/tiny/sources/datasets/tiny/data/en.json.gz").samefile(
        "hub/datasets/org/tiny/data/en.json.gz"
    )


class Terminal:
    def __init__(self, is_terminal: bool):
        self.text, self.isatty, self.flush = "", lambda: is_terminal, lambda: None

    def write(self, text: str) -> None:
        self.text += text


def test_progress_is_a_bar_with_time_left_on_a_terminal_and_a_line_every_30_seconds_elsewhere():
    for is_terminal, shown in ((True, 100), (False, 3)):
        stream, now = Terminal(is_terminal), [0.0]
        with progress.Progress(100, "download", "bytes", stream, clock=lambda now=now: now[0]) as bar:
            for _ in range(100):
                now[0] += 1.0
                bar.advance(1, "xcopa")
        lines = re.split(r"[\r\n]+", stream.text.strip())
        assert shown <= len(lines) <= shown + 1
        assert "30 B of 100 B (30 %), 1 min 10 s left, xcopa" in lines[29 if is_terminal else 0]
        assert ("[#######" in lines[29]) if is_terminal else ("[" not in stream.text)
