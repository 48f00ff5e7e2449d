"""A result is there whole or not at all, whatever happens while it is written."""

import subprocess
import sys
from pathlib import Path

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


def test_a_file_or_a_link_where_the_half_folder_stands_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    for make in (lambda path: path.write_text("a file"), lambda path: path.symlink_to(tmp_path / "elsewhere")):
        for name in ("out.part", "out"):
            make(tmp_path / name)
        with storage.folder(tmp_path / "out") as part:
            (part / "whole").write_text("whole")
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["whole"] and not (tmp_path / "out").is_symlink()
        storage._remove(tmp_path / "out")
    assert (tmp_path / "elsewhere" / "mine").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_error_of_three_parts(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MapleError, match="could not write"):
        with storage.folder(tmp_path / "file" / "out"):
            pass


ROWS = [{"id": str(i), "text": "ข้อความ " * 20 + str(i * 7919)} for i in range(200)]


@pytest.mark.parametrize("keep", [0, 5, 12, 200, 1000, -9, -8, -1], ids=str)
def test_a_cut_gzip_is_named_with_its_row_and_never_read_as_a_shorter_file(tmp_path, keep):
    path = tmp_path / "rows.jsonl.gz"
    storage.write_jsonl_gz(path, ROWS)
    path.write_bytes(path.read_bytes()[:keep])
    if keep == 0:
        path.write_bytes(b"\x1f\x8b")
    with pytest.raises(MapleError, match=r"rows.jsonl.gz, row \d+: the file is damaged or cut short(.|\n)*dvc repro"):
        list(storage.read_jsonl_gz(path))


def test_flipped_bytes_bad_utf8_and_other_rows_of_a_gzip_are_named(tmp_path):
    import gzip

    path = tmp_path / "rows.jsonl.gz"
    storage.write_jsonl_gz(path, ROWS)
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    for content in (
        bytes(flipped),
        gzip.compress(b'{"id": "\xff"}\n'),
        gzip.compress(b"[1]\n"),
        gzip.compress(b"{\n"),
        b"plain text",
    ):
        path.write_bytes(content)
        with pytest.raises(MapleError, match="damaged or cut short"):
            list(storage.read_jsonl_gz(path))
    with pytest.raises(MapleError, match="is missing"):
        list(storage.read_jsonl_gz(tmp_path / "none.gz"))


def test_a_cut_csv_is_named_wherever_it_was_cut(tmp_path):
    path = tmp_path / "scores.csv"
    storage.write_csv(path, [{"name": 'a "quoted", cell', "value": i} for i in range(5)], ["name", "value"])
    assert storage.read_csv(path)[4] == {"name": 'a "quoted", cell', "value": "4"}
    whole = path.read_bytes()
    ends = {i + 1 for i, byte in enumerate(whole) if byte == ord("\n")}
    for keep in range(len(whole)):
        path.write_bytes(whole[:keep])
        if keep not in ends:  # at the end of a line nothing tells it from a shorter file: there DVC's hash does
            with pytest.raises(MapleError, match="damaged or cut short"):
                storage.read_csv(path)
    path.write_bytes(b"name,value\n\xff,1\n")
    with pytest.raises(MapleError, match="damaged or cut short"):
        storage.read_csv(path)


SCRATCH = """
import os, signal, sys
from pathlib import Path
from maple.core import storage
with storage.scratch(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_goes_with_the_next_and_a_living_one_keeps_its_own(tmp_path):
    killed, living = (
        subprocess.Popen(
            [sys.executable, "-c", SCRATCH, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    )
    left, kept = (Path(process.stdout.readline().strip()) for process in (killed, living))
    killed.communicate("go\n")
    assert left.exists()
    with storage.scratch(tmp_path) as folder:
        assert not left.exists() and (kept / "half").exists() and folder.is_dir()
    assert not folder.exists()
    living.communicate("go\n")
