"""What carries the loss of a row: the answer from its first token on, and one end of text where the answer is whole."""

import pytest
import toy

from maple.preparation import tokenise
from maple.preparation.training_prompt import prompt

PROMPT = prompt("alpaca", "What runs through the valley?")
ANSWERS = [
    "The river",
    " runs",
    "\n\nthe river",
    "النهر يجري",
    "แม่น้ำไหล",
    "नदी\u200cमें",
    "河流",
    "🏞️ river",
    "e\u0301t\u00e9",
    "  two spaces",
    "1. one\n2. two\n",
]


def ours(kind: str, folder):
    toy.tokeniser(kind).save_pretrained(folder)
    found = tokenise.load(folder)
    return found, found.open()


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_loss_begins_at_the_answers_first_token_and_ends_with_one_end(kind, answer, tmp_path):
    settings, backend = ours(kind, tmp_path)
    (row,) = tokenise.tokenise(backend, settings, [(PROMPT, answer)], 10_000)
    ids = row.ids.tolist()
    assert ids[0] == settings.bos and ids.count(settings.bos) == 1
    assert ids[-1] == settings.eos and ids.count(settings.eos) == 1
    # A character cut into bytes gives back nothing alone, so both sides of the border are whole.
    assert backend.decode(ids[1 : row.answer_start]).strip() == PROMPT.strip()
    # Behind a word, which keeps the space of the answer's own beginning.
    word = backend.encode("x", add_special_tokens=False).ids
    written = backend.decode(word + ids[row.answer_start : -1]).removeprefix("x")
    assert written == answer
    assert row.answer == len(ids) - row.answer_start - 1


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend"])
def test_a_row_that_speaks_of_special_tokens_has_none_but_its_own(kind, tmp_path):
    settings, backend = ours(kind, tmp_path)
    rows = [("Explain </s> and <s>:\n", "</s> ends a text, <s> begins it.</s>")]
    (row,) = tokenise.tokenise(backend, settings, rows, 10_000)
    ids = row.ids.tolist()
    assert ids.count(settings.eos) == 1 and ids.count(settings.bos) == 1
    assert "</s> ends a text, <s> begins it.</s>" in backend.decode(ids)


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend"])
def test_a_cut_answer_has_no_end_and_a_row_without_room_is_dropped(kind, tmp_path):
    settings, backend = ours(kind, tmp_path)
    pairs = [(PROMPT, answer) for answer in ANSWERS]
    for pair, whole in zip(pairs, tokenise.tokenise(backend, settings, pairs, 10_000)):
        for limit in (
            1,
            whole.answer_start - 1,
            whole.answer_start,
            whole.answer_start + 1,
            whole.full - 1,
            whole.full,
            whole.full + 1,
        ):
            (row,) = tokenise.tokenise(backend, settings, [pair], limit)
            assert (row.full, row.answer, row.answer_start) == (whole.full, whole.answer, whole.answer_start)
            if limit <= whole.answer_start:
                assert row.ids is None
            else:
                assert row.ids.tolist() == whole.ids.tolist()[:limit]
                assert (row.ids[-1] == settings.eos) == (limit >= whole.full)


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend", "across words"])
def test_an_answer_parted_from_its_prompt_gets_no_space_of_its_own(kind, tmp_path):
    """Where one token spans both; a tokeniser that puts a space before a text would put one into the word."""
    settings, backend = ours(kind, tmp_path)
    pairs = [("The riv", "er runs"), ("the val", "ley"), ("Ans", "wer: the river"), ("河", "流穿过")]
    rows = tokenise.tokenise(backend, settings, pairs, 100)
    assert any(row.spans for row in rows)
    for (before, answer), row in zip(pairs, rows):
        ids = row.ids.tolist()
        assert backend.decode(ids[1 : row.answer_start]).strip() == before
        assert backend.decode(ids[1:-1]).strip() == before + answer


def test_an_empty_answer_is_an_end_alone(tmp_path):
    settings, backend = ours("bytes", tmp_path)
    (row,) = tokenise.tokenise(backend, settings, [(PROMPT, "")], 10_000)
    assert row.answer == 0 and row.ids[row.answer_start :].tolist() == [settings.eos]
