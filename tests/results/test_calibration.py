"""Planted truth, a few draws at full size: what is there is found, what is not is not. The full table: make calibrate."""

import dataclasses

import numpy as np
import pytest

from benchmarks import calibrate
from maple.config import params as parameters
from maple.results import claims, collect, power
from maple.results.tables import Results

PARAMS = parameters.load("paper")
MARGIN = PARAMS.tables.claim_margin


def small(**limits):
    """The paper profile with fewer examples of each task."""
    tasks = {
        name: dataclasses.replace(options, limit=limits.get(name, 100))
        for name, options in PARAMS.evaluation.tasks.items()
    }
    return dataclasses.replace(PARAMS, evaluation=dataclasses.replace(PARAMS.evaluation, tasks=tasks))


@pytest.fixture(scope="module")
def rows():
    found = calibrate.calibrate(PARAMS, list(calibrate.WORLDS.values()), draws=2)
    return {(row.claim, row.effect): row for row in found}


def test_every_claim_is_planted_in_one_world():
    planted = [claim for world in calibrate.WORLDS.values() for claim in world.claims]
    assert sorted(planted) == sorted(claim["id"] for claim in claims.load()["claims"])


def test_the_planted_effects_are_what_they_are_called():
    """At the margin exactly: an equivalence can be said neither to hold nor not to; a positive effect is positive."""
    content = claims.load()
    for world, effect in calibrate._settings(list(calibrate.WORLDS.values())):
        size = calibrate.LEVELS[effect] * MARGIN
        found = calibrate.sayable(PARAMS, content, world, calibrate.truth(PARAMS, world, size))
        for claim in content["claims"]:
            if claim["id"] not in world.claims:
                continue
            equal = claim["check"]["test"] in ("equivalent", "not_better")
            expected = {
                "absent": {claims.HOLDS} if equal else {claims.FAILS},
                "margin": set() if equal else {claims.HOLDS},
                "twice": {claims.FAILS} if equal else {claims.HOLDS},
            }[effect]
            assert found[claim["id"]] == expected, (claim["id"], effect)


def test_twice_the_margin_is_found_and_nothing_false_is_said(rows):
    for (claim, effect), row in rows.items():
        assert row.wrong == 0, (claim, effect)
        if claim != calibrate.ANY and effect == "twice":
            assert row.cannot_tell <= 1, claim


def test_the_verdicts_without_an_effect_are_what_the_power_says(rows):
    for claim, found in power.all_of(PARAMS).items():
        if found.at_zero > 0.99:
            assert rows[claim, "absent"].cannot_tell == 0, claim
        if found.at_zero < 0.01:
            assert rows[claim, "absent"].cannot_tell >= 1, claim


def test_a_broken_test_is_caught(monkeypatch):
    """Were the bounds ignored, equal training sets would count as different."""
    monkeypatch.setattr(claims, "_verdict", lambda c, *rest: dataclasses.replace(c, verdict=claims.FAILS))
    world = calibrate.WORLDS["more-languages"]
    found = calibrate.calibrate(small(), [world], draws=1)
    assert {row.wrong for row in found if row.effect == "absent"} == {1}


def test_scores_have_the_planted_means_and_the_assumed_spread():
    params = small(xnli=2000, xquad=1190, xlsum=1000)
    world = calibrate.World("level", "", (), lambda *where: 0.0, lambda task: 0.1 if task == "xlsum" else 0.5)
    means, noise = calibrate.truth(params, world, 0), calibrate.Noise(params, power.ASSUMED)
    drawn = {
        g: calibrate.scores_of(g[0], noise.of(*g, 0), means[g]) for g in means if g[0] in ("xnli", "xquad", "xlsum")
    }
    for task in ("xnli", "xquad", "xlsum"):
        values = np.concatenate([v.mean(axis=1) for g, v in drawn.items() if g[0] == task])
        assert values.mean() == pytest.approx(means[task, "en"][0], abs=0.01)
    assert set(np.unique(drawn["xnli", "en"])) == {0, 1} and set(np.unique(drawn["xquad", "en"])) == {0, 0.5, 1}
    found, assumed = power.measured(calibrate.collected(params, drawn))["xnli"], power.ASSUMED["xnli"]
    for field in ("item", "bits", "dataset", "cell", "languages"):
        assert getattr(found, field) == pytest.approx(getattr(assumed, field), rel=0.35), field


def test_drawn_scores_are_judged_as_files_are(tmp_path):
    """The same scores through scores.csv and examples.parquet give the same claims."""
    params = small()
    world = calibrate.WORLDS["transfer"]
    means, noise = calibrate.truth(params, world, 2 * MARGIN), calibrate.Noise(params, power.ASSUMED)
    drawn = calibrate.collected(params, {g: calibrate.scores_of(g[0], noise.of(*g, 0), means[g]) for g in means})
    collect.write(tmp_path, "paper", drawn.asked, [], drawn.records, drawn.scores)
    groups = (
        (task, code, {n: dict(zip(e.ids, row.tolist())) for n, row in zip(e.names, e.scores)})
        for (task, code), e in drawn.drawn.items()
    )
    collect.write_examples(tmp_path / "examples.parquet", groups)
    few = dataclasses.replace(params, tables=dataclasses.replace(params.tables, bootstrap_samples=50))
    from_memory, from_files = (
        claims.as_json("paper", claims.check(claims.load(), Results(found, few), world.claims))
        for found in (drawn, collect.load(tmp_path))
    )
    assert from_memory == from_files


def test_the_committed_table_is_complete_and_keeps_what_the_page_promises():
    """At most 5 % wrong; at twice the margin less than 20 % cannot tell."""
    found = [row for row in calibrate.read() if (row.seeds, row.seed_sd) == (1, 0)]
    known = {claim["id"] for claim in claims.load()["claims"]}
    assert {row.claim for row in found} - {calibrate.ANY} == known and len(found) >= 3 * len(known)
    for row in found:
        assert row.draws >= 200 and row.wrong <= 0.05 * row.draws
        assert row.effect != "twice" or row.claim == calibrate.ANY or row.cannot_tell < 0.2 * row.draws
