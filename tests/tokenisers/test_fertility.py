"""The committed table of tokens, its page, and that it can be measured again."""

import csv
import os
from pathlib import Path

import pytest

from benchmarks import fertility
from maple.upstream import languages

PAGE = Path(__file__).parents[2] / "docs" / "FERTILITY.md"


def test_the_page_has_the_tables_of_the_csv():
    assert f"-->\n{fertility.table(fertility.load())}\n<!-- end -->" in PAGE.read_text(encoding="utf-8")


def test_the_csv_has_numbers_only_for_known_languages_once_each():
    rows = fertility.load()
    assert {row["tokeniser"] for row in rows} == {"llama-2-7b", "mistral-7b"}
    assert {row["language"] for row in rows} <= set(languages.table())
    keys = [tuple(row[name] for name in fertility.COLUMNS[:4]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(int(row["texts"]) > 0 and (row["value"] == "" or float(row["value"]) > 0) for row in rows)


def test_a_task_s_cost_is_less_than_what_its_prompts_are_alone():
    value = {
        (row["tokeniser"], row["source"], row["language"], row["measure"]): row["value"] for row in fertility.load()
    }
    read = {key: float(number) for key, number in value.items() if key[3] == "read"}
    assert read and all(number < float(value[*key[:3], "read_alone"]) for key, number in read.items())


def test_the_measures_are_right_for_a_tokeniser_that_one_can_count():
    """Letters as tokens: tokens per character is 1, per word what words are long."""

    def letters(texts, **_):
        return {"input_ids": [list(text) for text in texts]}

    assert list(fertility.fertility(letters, ["ab cd", "ab cd", "efgh"], "de")) == [
        ("tokens_per_word", 2, 3.0),
        ("tokens_per_character", 2, 1.0),
    ]
    assert list(fertility.fertility(letters, ["ไทย"], "th")) == [
        ("tokens_per_word", 1, ""),
        ("tokens_per_character", 1, 1.0),
    ]


@pytest.mark.slow
@pytest.mark.skipif(
    not {"MAPLE_TOKENISERS", "MAPLE_ROWS"} <= set(os.environ), reason="MAPLE_TOKENISERS and MAPLE_ROWS name no folders"
)
def test_measuring_again_gives_the_committed_numbers():
    found = fertility.measure(Path(os.environ["MAPLE_TOKENISERS"]), Path(os.environ["MAPLE_ROWS"]))
    again = [dict(zip(fertility.COLUMNS, map(str, row))) for row in found]
    with open(fertility.PATH, encoding="utf-8", newline="") as file:
        assert again == list(csv.DictReader(file))
