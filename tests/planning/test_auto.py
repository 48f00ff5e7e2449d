"""`auto` takes the largest passes that the estimate lets fit, and the same on every CPU."""

import dataclasses

import pytest

from maple.config import catalogue, params
from maple.models.shapes import Shape
from maple.planning import auto, cell_cost

PAPER = params.load("paper")
MISTRAL = Shape(**catalogue.models()["mistral-7b"].shape)
ROWS = cell_cost.RowCounts(48000, 300.0, 0.6, assumed=False)


def chosen(gigabytes, bits=16, rank=8, **changes):
    return auto.recipe(dataclasses.replace(PAPER.recipe, **changes), MISTRAL, bits, rank, ROWS, gigabytes * 1e9)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("rank", [8, 128])
@pytest.mark.parametrize("gigabytes", [24, 48, 80, 141])
def test_what_is_chosen_fits_the_card_with_the_margin_or_is_the_least(gigabytes, bits, rank):
    found = chosen(gigabytes, bits, rank)
    peak = cell_cost.memory(MISTRAL, bits, rank, found, ROWS, on_gpu=True).peak
    least = (found.micro_batch_tokens, found.gradient_checkpointing) == (auto.PASSES[-1], True)
    assert peak <= auto.USABLE * gigabytes * 1e9 - 1e9 or least
    if found.gradient_checkpointing and not least:
        without = dataclasses.replace(found, gradient_checkpointing=False, micro_batch_tokens=8192)
        assert (
            cell_cost.memory(MISTRAL, bits, rank, without, ROWS, on_gpu=True).peak > auto.USABLE * gigabytes * 1e9 - 1e9
        )


def test_a_larger_card_takes_a_larger_pass_and_drops_checkpointing():
    found = [chosen(gigabytes, bits=4) for gigabytes in (12, 24, 80, 141)]
    assert [one.gradient_checkpointing for one in found] == sorted(
        (one.gradient_checkpointing for one in found), reverse=True
    )
    assert found[0].gradient_checkpointing and not found[-1].gradient_checkpointing
    same = [one.micro_batch_tokens for one in found if not one.gradient_checkpointing]
    assert same == sorted(same)


def test_a_pass_is_no_larger_than_a_step():
    assert chosen(1000, batch_rows=4).micro_batch_tokens <= 1.5 * 4 * 300


def test_what_is_set_stays_and_only_the_rest_is_chosen():
    given = {"micro_batch_tokens": 777, "gradient_checkpointing": True, "unpack_4bit": False}
    assert chosen(80, **given) == dataclasses.replace(PAPER.recipe, **given)
    assert chosen(80, micro_batch_tokens=2048).micro_batch_tokens == 2048
    assert chosen(80, gradient_checkpointing=True).gradient_checkpointing is True


def test_a_cpu_has_fixed_values():
    found = auto.recipe(PAPER.recipe, MISTRAL, 16, 8, ROWS, None)
    assert (found.micro_batch_tokens, found.gradient_checkpointing) == (auto.CPU_TRAINING, False)
    assert auto.recipe(PAPER.recipe, MISTRAL, 4, 8, ROWS, None).unpack_4bit is False
    found = auto.evaluation(PAPER.evaluation, MISTRAL, 4, None)
    assert (found.batch_tokens, found.unpack_4bit) == (auto.CPU_ANSWERS, False)


def test_4_bit_weights_are_unpacked_where_a_card_holds_them():
    for gigabytes, unpacked in ((16, False), (80, True)):
        assert chosen(gigabytes, bits=4).unpack_4bit is unpacked
        assert auto.evaluation(PAPER.evaluation, MISTRAL, 4, gigabytes * 1e9).unpack_4bit is unpacked
    assert chosen(80, bits=16).unpack_4bit is False and chosen(80, bits=4, unpack_4bit=False).unpack_4bit is False
    weights = [
        cell_cost.memory(MISTRAL, 4, 8, chosen(80, bits=4, unpack_4bit=one), ROWS, on_gpu=True).weights
        for one in (True, False)
    ]
    assert weights[0] == cell_cost.weight_bytes(MISTRAL, 16) > 3 * weights[1]


def test_at_8_bits_every_card_asks_in_the_same_batches():
    sizes = {
        g: {b: auto.evaluation(PAPER.evaluation, MISTRAL, b, g * 1e9).batch_tokens for b in (4, 8, 16)}
        for g in (24, 80)
    }
    assert sizes[24][8] == sizes[80][8] == auto.ANSWERS_AT_8_BITS
    assert sizes[24][16] < sizes[80][16] and sizes[24][4] <= sizes[80][4]
    given = dataclasses.replace(PAPER.evaluation, batch_tokens=1234, unpack_4bit=False)
    assert auto.evaluation(given, MISTRAL, 8, 80e9) is given
