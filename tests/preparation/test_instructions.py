"""Reading instruction rows: every trap of the upstream files, on rows in their exact shape."""

import dataclasses
import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from maple.config import catalogue
from maple.core.errors import MapleError
from maple.models import shapes
from maple.preparation import instructions
from maple.upstream import readers

ALPACA = catalogue.datasets()["alpaca"]
MULTIALPACA = catalogue.datasets()["multialpaca"]
BACTRIAN = catalogue.datasets()["bactrian-x"]


def read(source, folder: Path, *codes: str) -> list[instructions.Instruction]:
    return list(instructions.read(source, folder, codes))


def write_bactrian(folder: Path, code: str, rows: list, text: str | None = None) -> Path:
    path = folder / "data" / f"{code}.json.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress((json.dumps(rows, ensure_ascii=False) if text is None else text).encode()))
    return path


def test_bactrian_is_a_gzipped_array_whose_ids_name_the_seed_in_every_language(tmp_path):
    write_bactrian(
        tmp_path, "de", [{"instruction": "Nenne Farben.", "input": "", "id": "alpaca-107", "output": "Rot."}]
    )
    write_bactrian(
        tmp_path, "sw", [{"instruction": "Taja rangi.", "input": "", "id": "alpaca-107", "output": "Nyekundu."}]
    )
    german, swahili = read(BACTRIAN, tmp_path, "de", "sw")
    assert german.id == swahili.id == "alpaca-107"
    assert (german.language, swahili.language) == ("de", "sw")
    assert swahili.source == "bactrian-x" and "machine-translated" in swahili.origin


def test_an_empty_output_is_read_as_it_is(tmp_path):
    write_bactrian(tmp_path, "de", [{"instruction": "Nenne Farben.", "input": "", "id": "alpaca-1", "output": ""}])
    assert read(BACTRIAN, tmp_path, "de")[0].output == ""


def test_alpaca_reads_neither_its_text_column_nor_more_than_it_needs(tmp_path):
    rows = [{"instruction": "Add.", "input": "1, 2", "output": "3", "text": "prompt with the answer 3"}] * 2
    path = tmp_path / "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"
    path.parent.mkdir()
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    first, second = read(ALPACA, tmp_path, "en")
    assert (first.id, second.id) == ("alpaca-0", "alpaca-1")
    assert "prompt with the answer" not in repr(first)


@pytest.mark.parametrize("row", [{"input": None}, {"input": ""}, {}])
def test_null_missing_and_empty_inputs_of_multialpaca_are_the_same(tmp_path, row):
    (tmp_path / "ar.jsonl").write_text(json.dumps({"instruction": "سؤال", "output": "جواب"} | row) + "\n")
    (only,) = read(MULTIALPACA, tmp_path, "ar")
    assert only.input == "" and only.id == "multialpaca-ar-0"


@pytest.mark.parametrize(
    "row, field",
    [
        ({"instruction": 7, "output": "a", "id": "alpaca-1", "input": ""}, "field 'instruction' is 7"),
        ({"instruction": "a", "id": "alpaca-1", "input": ""}, "field 'output' is missing"),
        ({"instruction": "a", "output": "a", "input": ""}, "field 'id' is missing"),
        ({"instruction": "a", "output": "a", "input": ["x"], "id": "alpaca-1"}, "field 'input' is"),
        (["not", "an", "object"], "not an object"),
    ],
)
def test_a_malformed_row_names_file_row_and_field(tmp_path, row, field):
    good = {"instruction": "a", "output": "a", "input": "", "id": "alpaca-0"}
    write_bactrian(tmp_path, "de", [good, row])
    with pytest.raises(MapleError) as error:
        read(BACTRIAN, tmp_path, "de")
    assert "de.json.gz, row 1" in error.value.what and field in error.value.what


def test_a_gzip_file_cut_short_names_the_row(tmp_path):
    rows = [{"instruction": f"a {i}", "output": "b", "input": "", "id": f"alpaca-{i}"} for i in range(2000)]
    path = write_bactrian(tmp_path, "de", rows)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MapleError, match=r"de\.json\.gz, row \d+: the file is damaged or cut short"):
        read(BACTRIAN, tmp_path, "de")


def test_a_parquet_file_cut_short_is_named(tmp_path):
    path = tmp_path / "data/train-00000-of-00001.parquet"
    path.parent.mkdir()
    pa.parquet.write_table(pa.Table.from_pylist([{"instruction": "a", "input": "", "output": "b"}]), path)
    path.write_bytes(path.read_bytes()[:-20])
    for use in (lambda: read(ALPACA, tmp_path, "en"), lambda: readers.count(path)):
        with pytest.raises(MapleError, match="train-00000-of-00001.parquet is not a readable parquet file"):
            use()


def test_the_origin_of_the_original_language_is_its_own(tmp_path):
    for code in ("en", "de"):
        write_bactrian(tmp_path, code, [{"instruction": "a", "input": "", "id": "alpaca-1", "output": "b"}])
    english, german = read(BACTRIAN, tmp_path, "en", "de")
    assert "machine-translated" in german.origin and "machine-translated" not in english.origin


@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz"])
@pytest.mark.parametrize("layout", [{}, {"indent": 1}, {"separators": (",", ":")}])
@pytest.mark.parametrize("chunk", [7, 1 << 14])
def test_arrays_are_read_piece_by_piece_with_the_same_result_as_at_once(tmp_path, monkeypatch, name, layout, chunk):
    monkeypatch.setattr(readers, "_CHUNK", chunk)
    rows = [{"id": i, "text": '[{"]} ,' * (i % 50), "ж": {"a": [1, {}]}} for i in range(300)]
    text = "\ufeff" * (name == "rows.json") + json.dumps(rows, ensure_ascii=False, **layout) + "\n"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert list(readers.rows(tmp_path / name)) == rows
    assert readers.count(tmp_path / name) == 300


@pytest.mark.parametrize(
    "text, why",
    [
        ("{}", "not a JSON array"),
        ('[{"a": 1} {"a": 2}]', "row 1"),
        ('[{"a": 1},', "row 1"),
        ('[{"a": 1},]', "row 1"),
        ('[{"a": 1}', "row 1"),
        ('[{"a": 1}] x', "row 1"),
        ('[{"a": 1}, {"a": ' + "[" * 99_999, "row 1"),
        ("", "array"),
    ],
)
def test_what_is_no_array_is_refused(tmp_path, text, why):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(MapleError, match=why):
        list(readers.rows(tmp_path / "rows.json"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.json.gz"])
def test_a_line_or_paragraph_separator_in_a_text_ends_no_row(tmp_path, name):
    """Characters that Python's splitlines takes for line ends."""
    rows = [{"text": f"one{mark}two"} for mark in "\u2028\u2029\x85\x0b\x0c\x1c"]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(lines) + "\n" if name.endswith("jsonl") else f"[{', '.join(lines)}]"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert list(readers.rows(tmp_path / name)) == rows and readers.count(tmp_path / name) == len(rows)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_what_only_json_can_write_is_no_damage(tmp_path, name):
    """Half of a surrogate pair, as APIs that cut an emoji send it, and a number beyond 64 bits."""
    row = r'{"text": "cut \ud83d, whole \ud83d\ude00", "\uD83D": 123456789012345678901234567890}'
    (tmp_path / name).write_text(f"[{row}]" if name == "rows.json" else row)
    found = list(readers.rows(tmp_path / name))
    assert found == [{"text": "cut \ufffd, whole \U0001f600", "\ufffd": 123456789012345678901234567890}]


def test_an_empty_array_has_no_rows(tmp_path):
    (tmp_path / "rows.json").write_text("[ ]")
    assert list(readers.rows(tmp_path / "rows.json")) == []


def test_a_language_that_was_not_downloaded_is_named(tmp_path):
    with pytest.raises(MapleError, match="data/de.json.gz is missing"):
        read(BACTRIAN, tmp_path, "de")


def test_a_language_the_source_does_not_have_is_named(tmp_path):
    with pytest.raises(MapleError, match="multialpaca has no language 'en'"):
        read(MULTIALPACA, tmp_path, "en")


def test_a_new_source_is_one_entry(tmp_path):
    """The entry that docs/EXTENDING.md shows: other column names, JSON lines, no ids, languages listed in place."""
    page = (Path(__file__).parents[2] / "docs/EXTENDING.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    (aya,) = (block for block in blocks if "aya" in block)
    (llama,) = (block for block in blocks if "llama-2-13b" in block)
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"models": llama, "datasets": aya}))
    found = catalogue.load(tmp_path / "sources.yaml")
    assert shapes.Shape(**found["models"]["llama-2-13b"].shape).parameters == 13_015_864_320
    (tmp_path / "yo.jsonl").write_text(json.dumps({"inputs": "Kí ni?", "targets": "Ó dára."}) + "\n")
    (only,) = read(found["datasets"]["aya"], tmp_path, "yo")
    assert dataclasses.astuple(only) == ("aya-yo-0", "yo", "Kí ni?", "", "Ó dára.", "aya", "human", 0)
