"""Intervals and tests over examples."""

import doctest

import numpy as np
import pytest

from maple.metrics import bootstrap


def rng():
    return np.random.default_rng(7)


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(bootstrap).failed == 0


def test_an_interval_holds_the_true_mean_about_as_often_as_its_confidence_says():
    draws = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        found = bootstrap.interval(draws.random(60) < 0.6, samples=400, confidence=0.95, rng=draws)
        hits += found.low <= 0.6 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.linspace(0, 1, 50)
    first = bootstrap.interval(values, 500, 0.95, rng())
    assert first == bootstrap.interval(values, 500, 0.95, rng())
    assert first != bootstrap.interval(values, 500, 0.95, np.random.default_rng(8))


def test_one_value_or_equal_values_give_an_interval_of_width_zero():
    assert bootstrap.interval([0.3], 100, 0.95, rng()) == (0.3, 0.3, 0.3)
    assert bootstrap.interval([1, 1, 1], 100, 0.95, rng()) == (1, 1, 1)


@pytest.mark.parametrize("values", [[], [float("nan")], [[1, 2]]])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(ValueError):
        bootstrap.interval(values, 100, 0.95, rng())


def test_pairing_finds_a_small_difference_that_unpaired_intervals_would_hide():
    first = np.random.default_rng(2).random(200)
    found = bootstrap.paired_difference(first + 0.01, first, 1000, 0.95, rng())
    assert found.low == pytest.approx(0.01) and found.p < 0.01
    assert bootstrap.interval(first + 0.01, 1000, 0.95, rng()).low < first.mean()


def test_no_difference_gives_no_small_p_value():
    values = np.random.default_rng(3).random(100)
    assert bootstrap.paired_difference(values, values, 1000, 0.95, rng()).p == 1


def test_equal_scores_are_equivalent_and_few_examples_are_not_proof_of_equivalence():
    values = np.random.default_rng(4).random(400)
    assert bootstrap.equivalence(values, values, 0.02, 1000, 0.95, rng()).equivalent
    few = bootstrap.equivalence([0, 1, 0, 1], [1, 0, 0, 1], 0.02, 1000, 0.95, rng())
    assert not few.equivalent and few.value == 0 and few.p > 0.05


def test_a_difference_outside_the_margin_is_not_equivalent():
    values = np.random.default_rng(5).random(400)
    assert not bootstrap.equivalence(values + 0.05, values, 0.02, 1000, 0.95, rng()).equivalent


def test_unpaired_lengths_are_refused():
    with pytest.raises(ValueError, match="not paired"):
        bootstrap.paired_difference([1, 2], [1], 10, 0.95, rng())


def test_weights_draw_as_many_items_as_there_are_and_agree_with_the_multinomial_shortcut():
    drawn = bootstrap.weights(40, 2000, rng())
    assert drawn.shape == (2000, 40) and (drawn.sum(axis=1) == 40).all()
    values = (np.arange(40) % 4 == 0).astype(float)
    spread = (drawn @ values / 40).std()
    assert spread == pytest.approx(bootstrap.means(values, 2000, rng()).std(), rel=0.1)
