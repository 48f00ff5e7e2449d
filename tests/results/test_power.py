"""What a grid can tell apart, against textbook formulas and against simulation."""

import dataclasses

import numpy as np
import pytest
import synthetic
from scipy.stats import norm

from maple.results import claims, collect, power

CLAIMS = {claim["id"]: claim for claim in claims.load()["claims"]}
ONE = {"test": "equivalent", "first": "alpaca", "second": "multialpaca", "columns": "xnli", "languages": "english"}
ONE = {"id": "one", "check": ONE | {"models": "mistral-7b"}}


def design(claim=ONE, **changes):
    params = synthetic.params()
    grid = dataclasses.replace(params.grid, **changes)
    return power.Design(claim, dataclasses.replace(params, grid=grid))


def error_of_one(examples=5010, seeds=1):
    """The standard error of a difference of two means of the same examples, from the variance of a difference."""
    spread = power.ASSUMED["xnli"]
    per_example = 2 * (spread.dataset + spread.cell / seeds) / examples
    return (per_example + (2 * spread.seed / seeds if seeds > 1 else 0)) ** 0.5


def test_the_error_of_a_difference_is_the_textbooks():
    assert design().errors() == pytest.approx([error_of_one()])
    assert design(seeds=[1, 2, 3]).errors() == pytest.approx([error_of_one(seeds=3)])
    assert design().errors(examples=4) == pytest.approx([error_of_one(examples=4 * 5010)])


def test_one_comparison_has_the_power_of_a_normal_test():
    """Found: beyond the margin at the level of 1 of 18 claims and 2 sides, in 80 of 100 runs."""
    found, error = design().power(), error_of_one()
    level, margin = 0.05 / len(CLAIMS), synthetic.params().tables.claim_margin
    assert found.effect == pytest.approx(margin + error * (norm.isf(level / 2) + norm.ppf(0.8)), rel=0.01)
    # Recognised as none: both one-sided tests (Schuirmann 1987) pass.
    assert found.at_zero == pytest.approx(2 * norm.cdf(margin / error - norm.isf(level)) - 1, abs=0.02)
    assert found.at_twice == pytest.approx(norm.cdf(margin / error - norm.isf(level / 2)), abs=0.02)


def test_a_mean_over_languages_is_as_sure_as_the_items_they_share_allow():
    two = {"id": "two", "check": ONE["check"] | {"languages": "all", "columns": "xquad"}}
    spread, languages = power.ASSUMED["xquad"], 11
    shared = spread.languages + (1 - spread.languages) / languages
    assert design(two).errors() == pytest.approx([(2 * (spread.dataset + spread.cell) * shared / 1190) ** 0.5])


def test_what_is_needed_for_an_effect_is_what_finds_it():
    asked = design()
    times = asked.examples_needed(0.025)
    assert asked.power(times).effect == pytest.approx(0.025, abs=1e-4) and times > 1
    assert asked.examples_needed(0.02) is None, "no number of examples tells the margin from more than the margin"
    times = asked.examples_needed(margin=0.01)
    assert asked.power(times).margin == pytest.approx(0.01, abs=1e-4)
    seeds = asked.seeds_needed(0.04)
    assert asked.power(1, seeds).effect <= 0.04 < asked.power(1, seeds - 1).effect


def test_seeds_that_count_make_a_single_difference_less_sure_than_examples_alone_pretend():
    assert design(seeds=[1, 2]).power().effect > design().power().effect


def test_fewer_ranks_make_a_whole_grid_less_sure():
    claim = CLAIMS["crosslingual-transfer-whole-grid"]
    assert design(claim, ranks=[8]).power().effect > design(claim).power().effect


@pytest.mark.parametrize(
    "claim, changes, says",
    [
        ("rank-helps-low-resource", {"ranks": [8]}, "one value of rank"),
        ("translated-like-generated", {"datasets": ["alpaca"]}, "no complete llama-2-7b on bactrian-x-11"),
    ],
)
def test_a_grid_that_lacks_what_a_claim_reads_has_no_power_and_says_why(claim, changes, says):
    with pytest.raises(ValueError, match=says):
        design(CLAIMS[claim], **changes)


def test_every_claim_of_the_paper_profile_has_a_power_in_seconds():
    found = power.all_of(synthetic.params())
    assert set(found) == set(CLAIMS) and all(isinstance(one, power.Power) for one in found.values())
    assert all(0 < one.effect < 0.1 and 0 < one.margin < 0.1 for one in found.values())
    assert "cannot tell 0.02 from none" in found["crosslingual-transfer-by-task"].text


def test_the_spread_of_finished_cells_is_measured(tmp_path):
    """Scores drawn with known variances, two languages of the same items."""
    rng = np.random.default_rng(1)
    names = [f"mistral-7b-{b}bit.{d}.r{r}.s1" for b in (4, 8) for d in ("alpaca", "multialpaca") for r in (8, 16)]
    ids = [str(i) for i in range(4000)]
    spread = {"item": 0.10, "bits": 0.03, "dataset": 0.05, "cell": 0.02}
    shared = {kind: {} for kind in spread}
    groups, rows = [], []
    for code in ("en", "de"):
        found, own = {}, {kind: {} for kind in spread}
        for name in names:
            cell = power.Cell.parse(name)
            owner = {"item": "", "bits": cell.base.bits, "dataset": cell.dataset, "cell": name}
            value = 0
            for kind, variance in spread.items():
                share = 0.5 if kind == "item" else 0.2
                parts = [d[kind].setdefault(owner[kind], rng.standard_normal(len(ids))) for d in (shared, own)]
                value = value + variance**0.5 * (share**0.5 * parts[0] + (1 - share) ** 0.5 * parts[1])
            found[name] = dict(zip(ids, value.tolist()))
            where = (name, "cell", "mistral-7b", cell.base.bits, cell.dataset, cell.rank, 1, "xnli", code, "accuracy")
            rows.append(collect.Score(*where, True, float(np.mean(value)), len(ids), None, ""))
        groups.append(("xnli", code, found))
    collect.write(tmp_path, "paper", names, [], {}, rows)
    collect.write_examples(tmp_path / "examples.parquet", groups)
    found = power.measured(collect.load(tmp_path))["xnli"]
    assert {kind: getattr(found, kind) for kind in spread} == pytest.approx(spread, rel=0.15)
    assert (found.item_languages, found.languages) == pytest.approx((0.5, 0.2), abs=0.06)
    assert found.seed == power.ASSUMED["xnli"].seed, "one seed shows no spread of seeds"
