"""A bad parameter file is one error that names the key and the nearest right one."""

import functools
import re
from pathlib import Path

import pytest
import yaml

from maple.config import params
from maple.core.errors import MapleError

SMOKE = Path("params.yaml")
PAPER = Path("profiles/paper/params.yaml")


def changed(tmp_path: Path, change) -> Path:
    content = yaml.safe_load(SMOKE.read_text())
    change(content)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_both_profiles_are_valid(profile):
    assert params.load(profile).profile == profile


def test_the_paper_grid_has_the_papers_120_cells():
    paper = params.load("paper")
    assert len(paper.cells) == len(set(paper.cells)) == 120
    assert len(paper.bases) == 6


def test_the_smoke_grid_has_every_model_training_set_and_bit_width():
    cells = params.load("smoke").cells
    assert {c.base.model for c in cells} == {"llama-2-7b", "mistral-7b"}
    assert {c.base.bits for c in cells} == {4, 8, 16}
    assert {c.dataset for c in cells} == {"multialpaca", "bactrian-x-22", "bactrian-x-11", "alpaca"}


WRONG = {
    "unknown key": (lambda p: p["lora"].update(rank=3), r"unknown key 'lora.rank'.*", ),
    "near key": (lambda p: p["recipe"].update(learning_rat=1), r"'recipe.learning_rat'(.|\n)*did you mean 'learning_rate'"),
    "missing key": (lambda p: p["recipe"].pop("schedule"), r"'recipe.schedule' is missing"),
    "wrong type": (lambda p: p["lora"].update(r="eight"), r"'lora.r' is 'eight'(.|\n)*a whole number"),
    "bool for number": (lambda p: p["prepare"].update(rows=True), r"'prepare.rows' is True"),
    "not in choices": (lambda p: p["recipe"].update(schedule="cosin"), r"'recipe.schedule' is 'cosin'(.|\n)*did you mean 'cosine'"),
    "model": (lambda p: p.update(model="mistral-7B"), r"unknown model 'mistral-7B'(.|\n)*did you mean 'mistral-7b'"),
    "model in grid": (lambda p: p["grid"]["bases"].append("llama-7b-4bit"), r"unknown model 'llama-7b' in 'grid.bases'(.|\n)*llama-2-7b"),
    "base": (lambda p: p["grid"]["bases"].append("mistral-7b-5bit"), r"'mistral-7b-5bit' names no base"),
    "bits": (lambda p: p["quantisation"].update(bits=6), r"'quantisation.bits' is 6(.|\n)*4, 8 or 16"),
    "training set": (lambda p: p.update(dataset="bactrian-x-12"), r"unknown training set 'bactrian-x-12'(.|\n)*did you mean 'bactrian-x-11|22'"),
    "training language": (lambda p: p["datasets"]["alpaca"]["languages"].append("eng"), r"unknown alpaca language 'eng' in 'datasets.alpaca.languages'"),
    "language of another set": (
        lambda p: p["datasets"]["multialpaca"]["languages"].append("hi"),
        r"unknown multialpaca language 'hi' in 'datasets.multialpaca.languages'",
    ),
    "task": (lambda p: p["evaluation"]["tasks"].update(xcoppa=p["evaluation"]["tasks"]["xcopa"]), r"unknown task 'xcoppa'(.|\n)*did you mean 'xcopa'"),
    "task language": (lambda p: p["evaluation"]["tasks"]["xcopa"]["languages"].append("de"), r"unknown xcopa language 'de'"),
    "target module": (lambda p: p["recipe"]["lora"]["targets"].append("q_pro"), r"unknown target module 'q_pro'(.|\n)*did you mean 'q_proj'"),
    "alpha": (lambda p: p["recipe"]["lora"].update(alpha="r2"), r"'recipe.lora.alpha' is 'r2'"),
    "rank": (lambda p: p["grid"]["ranks"].append(0), r"'grid.ranks' is 0"),
    "shots": (lambda p: p["evaluation"]["tasks"]["xnli"].update(shots=9), r"'evaluation.tasks.xnli.shots' is 9"),
    "limit": (lambda p: p["evaluation"]["tasks"]["xnli"].update(limit=0), r"'evaluation.tasks.xnli.limit' is 0"),
    "new tokens": (lambda p: p["evaluation"]["tasks"]["xquad"].update(max_new_tokens=-1), r"'evaluation.tasks.xquad.max_new_tokens' is -1"),
    "template": (lambda p: p["prepare"].update(template="bactrian"), r"prompt_set english(.|\n)*set both to bactrian"),
    "alpha in quotes": (lambda p: p["lora"].update(alpha="16"), r"'lora.alpha' is '16'"),
    "alpha of 0": (lambda p: p["lora"].update(alpha=0), r"'lora.alpha' is 0"),
}
# One wrong value per key of params.RANGES.
WRONG |= {
    key: (lambda p, key=key: functools.reduce(dict.get, key.split(".")[:-1], p).update({key.split(".")[-1]: -1}), rf"'{key}' is -1")
    for _, _, keys in params.RANGES
    for key in keys
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named(tmp_path, name):
    change, message = WRONG[name]
    with pytest.raises(MapleError) as caught:
        params.parse(changed(tmp_path, change))
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("name", "word"),
    [("mistral-7B-4bit.alpaca.r8.s42", "mistral-7b"), ("mistral-7b-4bit.alpacca.r8.s42", "alpaca"), ("mistral-7b-4bit.alpaca.r0.s42", "rank")],
)
def test_a_cell_of_an_unknown_model_or_training_set_is_none(name, word):
    with pytest.raises(MapleError, match=f"names no cell(.|\n)*{word}"):
        params.load().cell_of(name)


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(MapleError, match="no profile 'papr'(.|\n)*did you mean 'paper'"):
        params.load("papr")


def test_every_value_of_the_paper_profile_says_where_it_comes_from():
    values = [line for line in PAPER.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    leaves = [line for line in values if not re.fullmatch(r"\s*[\w.-]+:", line)]
    unsaid = [line for line in leaves if not re.search(r"# (stated|assumed): \S+", line)]
    assert len(leaves) > 150
    assert unsaid == []


def test_the_experiment_takes_the_recipe_but_for_its_own_values(tmp_path):
    def change(p):
        p["lora"].update(r=32, dropout=0.2)
        p["train"].update(learning_rate=0.5, seed=7)

    given = params.parse(changed(tmp_path, change))
    cell, recipe = given.cell_of("experiment")
    assert (cell.rank, cell.seed) == (32, 7)
    assert (recipe.lora.dropout, recipe.learning_rate) == (0.2, 0.5)
    assert recipe.lora.targets == given.recipe.lora.targets
    assert given.cell_of(given.cells[0].name) == (given.cells[0], given.recipe)
