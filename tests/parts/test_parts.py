"""Parts of a grid: what a claim reads, what it costs, and that its verdict is the whole grid's."""

import dataclasses
from functools import cache

import pytest
import synthetic

from maple.config import params as parameters
from maple.core import storage
from maple.core.errors import MapleError
from maple.parts import answers, cost, parts, query
from maple.planning import plan
from maple.results import claims, tables
from stages import plan_claims

CONTENT = claims.load()
CLAIMS = {claim["id"]: claim for claim in CONTENT["claims"]}


def profile(**options):
    return synthetic.params(bootstrap_samples=100, **options)


def exact(name, params=None):
    return parts.of_claim(CLAIMS[name], params or profile(), CONTENT["minimum_examples"])[0]


def check(name, results):
    return next(claim for claim in claims.check(CONTENT, results) if claim.id == name)


def tasks(part):
    return {task: len(options.languages) for task, options in part.params.evaluation.tasks.items()}


# -- What is read ------------------------------------------------------------------------------------------------------


def test_a_claim_on_one_model_reads_that_models_cells_and_what_its_choice_of_the_best_needs():
    by_row, by_cell = (exact("mistral-above-gpt4-and-palm2", profile(best=best)) for best in ("row", "cell"))
    assert len(by_row.params.cells) == len(by_cell.params.cells) == 60 and not by_row.bases
    assert {cell.base.model for cell in by_row.params.cells} == {"mistral-7b"}
    assert list(tasks(by_row)) == list(tables.PAPER_TASKS), "the best configuration is chosen by the average"
    assert tasks(by_cell) == {"xquad": 11, "mlqa": 7}, "here by the column itself"
    assert tasks(exact("mistral-above-gpt4-and-palm2", profile(best="heldout"))) == {"xquad": 11, "mlqa": 7}


def test_a_claim_on_english_over_the_whole_grid_reads_english_alone():
    part = exact("rank-keeps-english")
    assert len(part.params.cells) == 120 and set(tasks(part).values()) == {1}
    assert "xcopa" not in tasks(part) and "alpaca_eval" in tasks(part)


def test_what_is_compared_with_before_finetuning_asks_the_bases_too():
    part = exact("finetuning-lifts-low-resource")
    assert part.bases and set(part.names) >= set(part.params.grid.bases)
    assert "alpaca" not in part.params.grid.datasets


def test_every_comparison_of_every_claim_reads_something_in_the_paper_profile():
    assert all(question.reads for claim in CLAIMS.values() for question in query.questions(claim, profile()))


def test_a_profile_that_lacks_what_a_claim_reads_cannot_tell_and_says_why():
    few = dataclasses.replace(profile(), grid=dataclasses.replace(profile().grid, datasets=["multialpaca"]))
    with pytest.raises(MapleError, match="our grid has no llama-2-7b on alpaca"):
        exact("crosslingual-transfer", few)
    assert parts.lacking(CLAIMS["english-can-take-a-hit"], few) and exact("english-can-take-a-hit", few).names


def test_unknown_claims_and_parts_are_refused_with_the_nearest_name():
    with pytest.raises(MapleError, match="groups-alike"):
        query.claim_named(CONTENT, "group-alike")
    with pytest.raises(MapleError, match="exact"):
        parts.chosen([exact("groups-alike")], "exat")


# -- The verdict from the part is the whole grid's ---------------------------------------------------------------------


@cache
def small():
    """The profile with the ends of its ranks and bits, in the languages of the made-up grid."""
    params = profile()
    bases = [name for name in params.grid.bases if "8bit" not in name]
    options = {
        task: dataclasses.replace(options, languages=sorted(synthetic.task_languages(task)))
        for task, options in params.evaluation.tasks.items()
    }
    return dataclasses.replace(
        params,
        grid=dataclasses.replace(params.grid, bases=bases, ranks=[8, 128]),
        evaluation=dataclasses.replace(params.evaluation, tasks=options),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    kept = {*(cell.name for cell in small().cells), *small().grid.bases}
    others = tuple(name for name in synthetic.names() if name not in kept)
    return synthetic.write(tmp_path_factory.mktemp("whole"), examples=120, without=others)


@pytest.fixture(scope="module")
def judged(whole):
    return {claim.id: claim for claim in claims.check(CONTENT, tables.Results(whole, small()))}


@pytest.fixture(scope="module")
def results_of(whole, tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("parts"), {}

    def results(part):
        key = storage.fingerprint([part.names, dataclasses.asdict(part.params)])
        if key not in made:
            made[key] = tables.Results(synthetic.part(whole, part.params, part.names, folder / key), part.params)
        return made[key]

    return results


@pytest.mark.parametrize("name", CLAIMS)
def test_the_verdict_from_the_part_alone_is_the_whole_grids(name, judged, results_of):
    found = check(name, results_of(exact(name, small())))
    assert found.verdict("ours") == judged[name].verdict("ours")
    values = [[c.quantity.value for c in claim.ours] for claim in (found, judged[name])]
    # What a score owes to the choice is a mean of resamples in float32, whose sums depend on how many cells stand together.
    assert values[0] == pytest.approx(values[1], abs=1e-6)


@pytest.mark.parametrize("name", ["gap-sometimes-bridged", "english-can-take-a-hit", "rank-helps-low-resource"])
def test_the_smallest_part_has_the_scores_of_its_comparisons(name, results_of):
    smallest = parts.of_claim(CLAIMS[name], small(), 100)[-1]
    assert smallest.choice == parts.SMALLEST
    found = check(name, results_of(smallest))
    assert any(comparison.quantity for comparison in found.ours)


# -- Cheaper parts and what they cost ----------------------------------------------------------------------------------


@cache
def costs(name):
    params = parameters.load("paper")
    device, _ = plan.device_of(params)
    return {p.choice: (p, cost.of(p, params, device)) for p in parts.of_claim(CLAIMS[name], params, 100)}


def test_every_part_costs_less_than_the_exact_one_and_says_what_it_gives_up():
    for name in ("groups-alike", "rank-keeps-english", "english-can-take-a-hit"):
        (_, whole), *others = costs(name).values()
        assert others and all(spent.hours < whole.hours for _, spent in others), name
        assert all(part.gives_up for part, _ in others)
        assert min(spent.hours for _, spent in others) == costs(name)["smallest"][1].hours


def test_a_claim_that_one_comparison_decides_has_a_smallest_part_of_one():
    part, spent = costs("english-can-take-a-hit")["smallest"]
    assert spent.cells == 1 and spent.models == 2 and "can only say that it holds" in part.gives_up
    assert costs("crosslingual-transfer")["smallest"][1].cells == 6, "two models, three training sets"


def test_a_trend_over_rank_keeps_its_two_ends():
    part, _ = costs("rank-keeps-english")["one-configuration"]
    assert part.params.grid.ranks == [8, 128] and {base.bits for base in part.params.bases} == {4}


def test_the_whole_evaluation_costs_what_the_plan_says():
    params = parameters.load("paper")
    device, _ = plan.device_of(params)
    everything = parts.Part("exact", "", params, bases=True)
    spent = cost.of(everything, params, device)
    assert spent.asking_hours == pytest.approx(sum(found.hours for found in plan.scorings(params, device)))
    assert spent.training_hours == pytest.approx(sum(line.hours for line in plan.lines(params, device)))
    assert (spent.cells, spent.models) == (120, 126)


@pytest.mark.parametrize("name", ["paper", "v1"])
def test_the_plan_of_all_claims_has_a_line_or_a_reason_for_each(name, capsys):
    plan_claims.main(parameters.load(name), "all")
    told = capsys.readouterr().out
    lines = {
        line.split()[0]: line.split() for line in told.splitlines() if line.split()[:1] and line.split()[0] in CLAIMS
    }
    without = [line for line in told.splitlines() if line.startswith("not with this profile")]
    assert all(claim in lines or any(claim in line for line in without) for claim in CLAIMS)
    assert (len(lines), len(without) > 0) == ((18, False) if name == "paper" else (9, True))
    *_, effect, margin = lines["rank-helps-low-resource"]
    assert float(margin) <= float(effect)


def test_the_plan_of_a_claim_says_what_each_part_costs_gives_up_and_can_tell(capsys):
    plan_claims.main(parameters.load("paper"), "groups-alike")
    told = capsys.readouterr().out
    assert told.count("gives up: ") == told.count("power: finds effects from ") == 6
    assert "one-configuration: 4 cells, 4 to train" in told and "make claim CLAIM=groups-alike PROFILE=paper" in told


# -- Answers -----------------------------------------------------------------------------------------------------------


def test_answers_to_some_languages_are_taken_from_those_to_all(tmp_path):
    sheets = [{"task": "xnli", "language": code, "n": 1} for code in ("en", "ar", "el")]
    for sheet in sheets:
        rows = [{"id": "0", "options": [], "language": sheet["language"]}]
        storage.write_jsonl_gz(tmp_path / "whole" / f"xnli-{sheet['language']}.jsonl.gz", rows)
    storage.write_json(tmp_path / "whole" / "record.json", {"schema": "maple.answers/1", "sheets": sheets})
    params = parameters.load("smoke")
    options = dataclasses.replace(params.evaluation.tasks["xnli"], languages=["el", "en"])
    few = dataclasses.replace(params.evaluation, tasks={"xnli": options})
    answers.take(tmp_path / "whole", few, tmp_path / "few")
    assert sorted(path.name for path in (tmp_path / "few").iterdir()) == [
        "record.json",
        "xnli-el.jsonl.gz",
        "xnli-en.jsonl.gz",
    ]
    record = storage.read_json(tmp_path / "few" / "record.json")
    assert [sheet["language"] for sheet in record["sheets"]] == ["el", "en"]
    more = dataclasses.replace(few, tasks={"xnli": dataclasses.replace(options, languages=["sw"])})
    with pytest.raises(MapleError, match="no answers for xnli sw"):
        answers.take(tmp_path / "whole", more, tmp_path / "more")
