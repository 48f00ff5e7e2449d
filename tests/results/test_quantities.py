"""The choice of a configuration, and seeds, in intervals: against closed forms and against truth that is known."""

import dataclasses

import numpy as np
import pytest
import synthetic
from scipy import stats

from maple.results import render, tables
from maple.results.collect import Collected
from maple.results.quantities import Quantity, SeedNoise, choose


def candidates(values, error, samples, rng):
    """Independent estimates with their resamples."""
    return [Quantity(v, v + error * rng.standard_normal(samples), n=100) for v in values]


# -- The choice


def test_the_cost_of_choosing_among_equal_scores_is_the_expected_maximum():
    """Of two equal ones s / sqrt(pi), and generally the mean of the highest order statistic."""
    rng = np.random.default_rng(1)
    two = candidates([0.5, 0.5], 0.01, 200_000, rng)
    assert choose(two, two, 0).cost == pytest.approx(0.01 / np.pi**0.5, rel=0.01)
    fifteen = candidates([0.5] * 15, 0.01, 200_000, rng)
    expected = stats.norm.expect(lambda x: 15 * x * stats.norm.cdf(x) ** 14)
    assert choose(fifteen, fifteen, 0).cost == pytest.approx(0.01 * expected, rel=0.01)


def test_a_choice_that_was_never_in_doubt_costs_nothing_and_keeps_its_interval():
    rng = np.random.default_rng(2)
    found = candidates([0.5, 0.9], 0.01, 20_000, rng)
    choice = choose(found, found, 1)
    assert choice.cost == pytest.approx(0, abs=2e-4)
    assert choice.corrected.interval(0.95) == pytest.approx(found[1].interval(0.95), abs=1e-3)


def test_choosing_by_one_score_costs_another_only_as_far_as_they_go_together():
    rng = np.random.default_rng(3)
    by = candidates([0.5] * 5, 0.01, 100_000, rng)
    apart = candidates([0.3] * 5, 0.02, 100_000, rng)
    together = [Quantity(0.3, 0.3 + 2 * (q.replicates - q.value)) for q in by]
    assert choose(by, apart, 0).cost == pytest.approx(0, abs=3e-4)
    assert choose(by, together, 0).cost == pytest.approx(2 * choose(by, by, 0).cost)


def test_the_interval_that_covers_the_choice_holds_the_truth_more_often_than_the_plain_one():
    """Fifteen configurations that are equally good, 300 examples: the best one's score is too high."""
    rng, inside, bias = np.random.default_rng(4), {"printed": 0, "corrected": 0}, {"printed": 0.0, "corrected": 0.0}
    repeats, n = 300, 300
    for _ in range(repeats):
        scores = rng.random((15, n)) < 0.5
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=400).astype(np.float32)
        resampled = scores.astype(np.float32) @ drawn.T / n
        found = [Quantity(float(row.mean()), r, n=n) for row, r in zip(scores, resampled)]
        choice = choose(found, found, int(np.argmax([q.value for q in found])))
        for name in inside:
            quantity = getattr(choice, name)
            _, low, high = quantity.interval(0.95)
            inside[name] += low <= 0.5 <= high
            bias[name] += (quantity.value - 0.5) / repeats
    assert inside["printed"] / repeats < 0.75 and inside["corrected"] / repeats > 0.88
    assert abs(bias["corrected"]) < 0.4 * bias["printed"], "docs/CLAIMS.md: about a third of the cost stays"


def test_tables_print_the_cost_beside_each_chosen_cell_and_none_where_the_heldout_loss_chose():
    found = synthetic.shared()
    results = tables.Results(found, synthetic.params())
    entry = results.table("table1").scores["mistral-7b.alpaca", "average"]
    assert entry.choice.printed == entry.quantity and entry.choice.cost > 0
    assert entry.choice.corrected.value == pytest.approx(entry.quantity.value - entry.choice.cost)
    text = render.to_markdown(tables.choice_table(results, "table1"))
    value = tables.rounded(entry.choice.printed.value, 3)
    assert f"{value}, cost {tables.rounded(entry.choice.cost, 3)}: " in text and "index" in text
    row = next(r for r in tables.cells_csv(results, "table1").rows if r[:2] == ["mistral-7b.alpaca", "average"])
    assert float(row[-4]) == pytest.approx(entry.choice.cost, abs=1e-6)
    assert any("lifts them by" in note for note in tables.regenerated(results, "table1").notes)
    heldout = tables.Results(found, synthetic.params(best="heldout"))
    assert heldout.table("table1").scores["mistral-7b.alpaca", "average"].choice.cost == 0
    assert not any("lifts them by" in note for note in tables.regenerated(heldout, "table1").notes)


def test_the_best_of_each_column_has_a_cost_in_each_and_their_mean_in_the_average():
    scores = tables.Results(synthetic.shared(), synthetic.params(best="cell")).table("table1").scores
    costs = [scores["mistral-7b.alpaca", task].choice.cost for task in tables.PAPER_TASKS]
    assert scores["mistral-7b.alpaca", "average"].choice.cost == pytest.approx(np.mean(costs))


# -- Seeds


def seeds_of(values):
    """Configurations (rows) with a score per seed (columns), and the noise of the first one's mean."""
    names = [tuple(f"c{i}.s{j}" for j in range(len(row))) for i, row in enumerate(values)]
    known = {name: value for row, of in zip(names, values) for name, value in zip(row, of)}
    return SeedNoise({"model": names}, 20_000, seed=1).of(names[0], known.get)


def test_the_noise_of_a_mean_over_seeds_is_the_pooled_standard_error():
    """As in the analysis of variance: deviations within configurations, their degrees of freedom added."""
    values = np.random.default_rng(5).normal(0.5, 0.02, size=(12, 3))
    pooled = np.var(values, axis=1, ddof=1).mean()
    noise = seeds_of(values)
    assert noise.std() == pytest.approx((pooled / 3) ** 0.5, rel=0.02) and noise.mean() == pytest.approx(0, abs=3e-4)
    assert seeds_of([[0.5], [0.6]]) == 0.0, "one seed says nothing about others"


def test_a_test_of_two_configurations_with_three_seeds_is_wrong_as_often_as_it_says():
    """No difference but the seeds': a normal test on the pooled error rejects in 5 of 100 grids."""
    rng, rejected = np.random.default_rng(6), 0
    for _ in range(400):
        values = rng.normal(0.5, 0.01, size=(15, 3))
        names = [tuple(f"c{i}.s{j}" for j in range(3)) for i in range(15)]
        known = {name: value for row, of in zip(names, values) for name, value in zip(row, of)}
        noise = SeedNoise({"model": names}, 500, seed=1)
        first, second = (
            Quantity(float(values[i].mean()), values[i].mean() + noise.of(names[i], known.get)) for i in (0, 1)
        )
        difference = first - second
        rejected += 2 * min(difference.p_at_most(0), difference.p_at_least(0)) < 0.05
    assert stats.binomtest(rejected, 400, 0.05).pvalue > 0.01


def test_a_grid_of_two_seeds_has_wider_intervals_and_says_what_they_cover(tmp_path):
    params = synthetic.params()
    seeded = dataclasses.replace(params, grid=dataclasses.replace(params.grid, seeds=[42, 43]))
    found = synthetic.shared()
    # Seed 43 of a cell: the scores of another rank, which differ from its own by more than examples explain.
    twin = {
        c.name: f"{c.base.name}.{c.dataset}.r{synthetic.RANKS[-1 - synthetic.RANKS.index(c.rank)]}.s42"
        for c in params.cells
    }
    scores = [
        *found.scores,
        *(
            dataclasses.replace(s, name=c.name.replace(".s42", ".s43"), seed=43)
            for c in params.cells
            for s in _of(found, twin[c.name])
        ),
    ]
    both = _Twins(**{f.name: getattr(found, f.name) for f in dataclasses.fields(found)} | {"scores": scores})
    one, two = tables.Results(found, params), tables.Results(both, seeded)
    configuration = two.rows["mistral-7b", "alpaca"][0]
    assert len(configuration.names) == 2
    alone = two.resampled.score(configuration.names[0], "xnli"), two.resampled.score(configuration.names[1], "xnli")
    examples = np.std((alone[0].replicates + alone[1].replicates) / 2)
    assert np.std(two.score(configuration, "xnli").replicates) > examples
    assert "2 training seeds" in str(tables.regenerated(two, "table1").notes)
    assert "with one seed per cell nothing says" in str(tables.regenerated(one, "table1").notes)


def _of(found, name):
    return [s for s in found.scores if s.name == name]


class _Twins(Collected):
    """Examples of seed 43 are those of the mirrored rank."""

    def examples(self, task, language):
        found = super().examples(task, language)
        names = [n for n in found.names if ".s42" in n]
        ranks = [str(r) for r in synthetic.RANKS]
        mirrored = {}
        for name in names:
            base, dataset, rank, _ = name.rsplit(".", 3)
            other = f"{base}.{dataset}.r{ranks[-1 - ranks.index(rank[1:])]}.s42"
            mirrored[name.replace(".s42", ".s43")] = found.scores[found.names.index(other)]
        scores = np.vstack([found.scores, *mirrored.values()])
        return dataclasses.replace(found, names=[*found.names, *mirrored], scores=scores)
