"""The store of answers: what was flushed survives, what is torn or of other settings goes."""

import json

import pytest

from maple.answering.store import AnswerStore
from maple.core.errors import MapleError

ROWS = [{"id": str(i), "output": "é" * i} for i in range(5)]


def test_answers_survive_a_process_that_was_killed_while_writing(tmp_path):
    path = tmp_path / "xnli-ar.jsonl"
    AnswerStore(path, {"split": "test"}).append(ROWS[:3])
    with open(path.with_name("xnli-ar.jsonl.part"), "ab") as file:
        file.write('{"id": "3", "output": "é'.encode()[:-1])
    store = AnswerStore(path, {"split": "test"})
    assert list(store.rows.values()) == ROWS[:3] and not store.sealed
    store.append(ROWS[3:])
    store.seal()
    again = AnswerStore(path, {"split": "test"})
    assert again.sealed and list(again.rows.values()) == ROWS
    assert [p.name for p in tmp_path.iterdir()] == ["xnli-ar.jsonl"]


@pytest.mark.parametrize("sealed", [False, True])
def test_answers_of_other_settings_are_discarded(tmp_path, sealed):
    path = tmp_path / "xnli-ar.jsonl"
    store = AnswerStore(path, {"adapter": "a"})
    store.append(ROWS)
    if sealed:
        store.seal()
    other = AnswerStore(path, {"adapter": "b"})
    assert not other.rows and not other.sealed
    other.append(ROWS[:1])
    assert json.loads(other.part.read_text().splitlines()[0])["settings"] == {"adapter": "b"}


def test_a_file_that_is_not_a_store_is_discarded(tmp_path):
    for content in (b"", b"\x00\x00", b'{"id": "1"}\n', b"[]\n"):
        (tmp_path / "t-en.jsonl.part").write_bytes(content)
        assert not AnswerStore(tmp_path / "t-en.jsonl", {}).rows


def test_a_full_disk_is_an_error_with_the_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MapleError, match="could not write"):
        AnswerStore(tmp_path / "file" / "t-en.jsonl", {}).append(ROWS)
