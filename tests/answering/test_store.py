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


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("change", [('"éé"', '"éa"'), ('"id": "2"', '"id": "7"'), (', "check"', ', "chick"')])
def test_an_answer_that_was_changed_on_disk_is_asked_for_again_and_the_others_are_not(tmp_path, sealed, change):
    path = tmp_path / "xnli-ar.jsonl"
    store = AnswerStore(path, {"split": "test"})
    store.append(ROWS)
    if sealed:
        store.seal()
    file = path if sealed else store.part
    lines = file.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace(*change)
    file.write_text("".join(lines))
    again = AnswerStore(path, {"split": "test"}, [row["id"] for row in ROWS])
    assert not again.sealed and list(again.rows.values()) == [row for row in ROWS if row["id"] != "2"]
    again.append(ROWS[2:3])
    again.seal()
    assert AnswerStore(path, {"split": "test"}, [row["id"] for row in ROWS]).rows == {row["id"]: row for row in ROWS}


def test_a_file_that_is_not_a_store_is_discarded(tmp_path):
    for content in (b"", b"\x00\x00", b'{"id": "1"}\n', b"[]\n"):
        (tmp_path / "t-en.jsonl.part").write_bytes(content)
        assert not AnswerStore(tmp_path / "t-en.jsonl", {}).rows


def test_a_full_disk_is_an_error_with_the_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MapleError, match="could not write"):
        AnswerStore(tmp_path / "file" / "t-en.jsonl", {}).append(ROWS)
