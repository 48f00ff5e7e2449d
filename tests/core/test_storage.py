"""A result is there whole or not at all, whatever happens while it is written."""

import subprocess
import sys

import pytest

from maple.core import storage
from maple.core.errors import MapleError


def test_a_written_file_reads_back(tmp_path):
    storage.write_json(tmp_path / "a" / "b.json", {"word": "naïve", "value": 0.1})
    assert storage.read_json(tmp_path / "a" / "b.json") == {"word": "naïve", "value": 0.1}


def test_nan_is_no_score(tmp_path):
    with pytest.raises(ValueError):
        storage.write_json(tmp_path / "a.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from maple.core import storage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
storage.write_text(Path(sys.argv[1]), "x" * 5000)
"""


def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path):
    target = tmp_path / "record.json"
    target.write_text("old")
    result = subprocess.run([sys.executable, "-c", FULL_DISK, str(target)], capture_output=True, text=True)
    assert result.returncode != 0 and "could not write" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"] and target.read_text() == "old"


def test_a_folder_appears_only_when_its_body_succeeds(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with storage.folder(tmp_path / "out") as part:
            (part / "half").write_text("half")
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with storage.folder(tmp_path / "out") as part:
        (part / "whole").write_text("whole")
    assert (tmp_path / "out" / "whole").read_text() == "whole"


def test_equal_rows_give_equal_gzip_bytes(tmp_path):
    for name in "ab":
        storage.write_jsonl_gz(tmp_path / name, [{"text": "สวัสดี"}])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert list(storage.read_jsonl_gz(tmp_path / "a")) == [{"text": "สวัสดี"}]


def test_missing_and_broken_json_say_what_to_do(tmp_path):
    with pytest.raises(MapleError, match="is missing(.|\n)*dvc repro"):
        storage.read_json(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(MapleError, match="not valid JSON"):
        storage.read_json(tmp_path / "broken.json")


def test_a_fingerprint_does_not_depend_on_key_order():
    assert storage.fingerprint({"a": 1, "b": [2]}) == storage.fingerprint({"b": [2], "a": 1})
