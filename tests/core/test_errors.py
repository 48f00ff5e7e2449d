"""Where memory ends while a file is read, the file is not to blame: nobody is told to delete it."""

import pytest

from maple.core.errors import MapleError
from maple.results import collect
from maple.upstream import readers

SAID = "Unknown error: Failed to launch worker thread: Resource temporarily unavailable"


@pytest.mark.parametrize(
    "error, raised", [(MemoryError(), MemoryError), (OSError(SAID), OSError), (OSError("no magic bytes"), MapleError)]
)
def test_a_parquet_file_is_damaged_only_if_it_is(tmp_path, monkeypatch, error, raised):
    import pyarrow.parquet

    def fail(*arguments, **options):
        raise error

    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(pyarrow.parquet, "ParquetFile", fail)
    monkeypatch.setattr(pyarrow.parquet, "read_metadata", fail)
    for read in (
        lambda: list(readers.rows(tmp_path / "a.parquet")),
        lambda: readers.count(tmp_path / "a.parquet"),
        lambda: collect.read_examples(tmp_path / "a.parquet", "xnli", "en"),
    ):
        with pytest.raises(raised):
            read()


def test_a_collected_file_that_was_cut_is_named(tmp_path):
    (tmp_path / "cells.json").write_text('{"profile": "smoke", "asked": [], "missing": [], "records": {}}')
    for content in ("name,base\na", "name,base\na,b\n", ""):
        (tmp_path / "scores.csv").write_text(content)
        with pytest.raises(MapleError, match="scores.csv"):
            collect.load(tmp_path)
    (tmp_path / "examples.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(MapleError, match="examples.parquet is damaged"):
        collect.read_examples(tmp_path / "examples.parquet", "xnli", "en")
