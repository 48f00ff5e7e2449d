"""A bad parameter file is one error that names the key and the nearest right one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from maple.config import params
from maple.core.errors import MapleError

SMOKE = Path("params.yaml")


def changed(tmp_path: Path, change) -> Path:
    content = yaml.safe_load(SMOKE.read_text())
    change(content)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize("profile", ["smoke", "paper", "v1"])
def test_every_profile_is_valid(profile):
    assert params.load(profile).profile == profile


def test_the_paper_grid_has_the_papers_120_cells():
    paper = params.load("paper")
    assert len(paper.cells) == len(set(paper.cells)) == 120
    assert len(paper.bases) == 6


def test_version_1_is_made_from_the_paper_profile():
    assert subprocess.run([sys.executable, "profiles/v1/make.py", "--check"]).returncode == 0


def test_version_1_is_the_paper_profile_with_what_it_lacks_left_out():
    """Five tasks, MultiAlpaca alone; everything else has the paper profile's value, whatever that becomes."""
    paper, first = (yaml.safe_load(Path(f"profiles/{name}/params.yaml").read_text()) for name in ("paper", "v1"))
    asked = {task: options["languages"] for task, options in first["evaluation"]["tasks"].items()}
    assert set(paper["evaluation"]["tasks"]) - set(asked) == {"xlsum"}
    spoken = {code for task, codes in asked.items() if task not in ("belebele", "alpaca_eval") for code in codes}
    assert len(spoken) == 22 and set(asked["belebele"]) == spoken - {"qu"}
    assert (
        first["grid"]["datasets"] == list(first["datasets"]) == ["multialpaca"] and len(params.load("v1").cells) == 30
    )
    assert first["tables"]["best"] == "cell", "Table 1's average needs its six tasks"

    del paper["evaluation"]["tasks"]["xlsum"]
    paper["evaluation"]["tasks"]["belebele"]["languages"] = asked["belebele"]
    paper["datasets"] = {"multialpaca": paper["datasets"]["multialpaca"]}
    paper["grid"]["datasets"] = ["multialpaca"]
    paper["tables"]["best"] = "cell"
    paper |= {"profile": "v1", "params_file": "profiles/v1/params.yaml", "dataset": "multialpaca"}
    assert first == paper


def test_the_smoke_grid_has_every_model_training_set_and_bit_width():
    cells = params.load("smoke").cells
    assert {c.base.model for c in cells} == {"llama-2-7b", "mistral-7b"}
    assert {c.base.bits for c in cells} == {4, 8, 16}
    assert {c.dataset for c in cells} == {"multialpaca", "bactrian-x-22", "bactrian-x-11", "alpaca"}


WRONG = {
    "unknown key": (
        lambda p: p["lora"].update(rank=3),
        r"unknown key 'lora.rank'.*",
    ),
    "near key": (
        lambda p: p["recipe"].update(learning_rat=1),
        r"'recipe.learning_rat'(.|\n)*did you mean 'learning_rate'",
    ),
    "missing key": (lambda p: p["recipe"].pop("schedule"), r"'recipe.schedule' is missing"),
    "wrong type": (lambda p: p["lora"].update(r="eight"), r"'lora.r' is 'eight'(.|\n)*a whole number"),
    "bool for number": (lambda p: p["prepare"].update(rows=True), r"'prepare.rows' is True"),
    "not in choices": (
        lambda p: p["recipe"].update(schedule="cosin"),
        r"'recipe.schedule' is 'cosin'(.|\n)*did you mean 'cosine'",
    ),
    "model": (lambda p: p.update(model="mistral-7B"), r"unknown model 'mistral-7B'(.|\n)*did you mean 'mistral-7b'"),
    "model in grid": (
        lambda p: p["grid"]["bases"].append("llama-7b-4bit"),
        r"unknown model 'llama-7b' in 'grid.bases'(.|\n)*llama-2-7b",
    ),
    "base": (lambda p: p["grid"]["bases"].append("mistral-7b-5bit"), r"'mistral-7b-5bit' names no base"),
    "bits": (lambda p: p["quantisation"].update(bits=6), r"'quantisation.bits' is 6(.|\n)*one of 4, 8, 16"),
    "training set": (
        lambda p: p.update(dataset="bactrian-x-12"),
        r"unknown training set 'bactrian-x-12'(.|\n)*did you mean 'bactrian-x-11|22'",
    ),
    "training language": (
        lambda p: p["datasets"]["alpaca"]["languages"].append("eng"),
        r"unknown alpaca language 'eng' in 'datasets.alpaca.languages'",
    ),
    "language of another set": (
        lambda p: p["datasets"]["multialpaca"]["languages"].append("hi"),
        r"unknown multialpaca language 'hi' in 'datasets.multialpaca.languages'",
    ),
    "task": (
        lambda p: p["evaluation"]["tasks"].update(xcoppa=p["evaluation"]["tasks"]["xcopa"]),
        r"unknown task 'xcoppa'(.|\n)*did you mean 'xcopa'",
    ),
    "task language": (
        lambda p: p["evaluation"]["tasks"]["xcopa"]["languages"].append("de"),
        r"unknown xcopa language 'de'",
    ),
    "target module": (
        lambda p: p["recipe"]["lora"]["targets"].append("q_pro"),
        r"'recipe.lora.targets\[7\]' is 'q_pro'(.|\n)*did you mean 'q_proj'",
    ),
    "alpha": (lambda p: p["recipe"]["lora"].update(alpha="r2"), r"'recipe.lora.alpha' is 'r2'"),
    "rank": (lambda p: p["grid"]["ranks"].append(0), r"'grid.ranks\[2\]' is 0"),
    "shots": (lambda p: p["evaluation"]["tasks"]["xnli"].update(shots=9), r"'evaluation.tasks.xnli.shots' is 9"),
    "limit": (lambda p: p["evaluation"]["tasks"]["xnli"].update(limit=0), r"'evaluation.tasks.xnli.limit' is 0"),
    "new tokens": (
        lambda p: p["evaluation"]["tasks"]["xquad"].update(max_new_tokens=-1),
        r"'evaluation.tasks.xquad.max_new_tokens' is -1",
    ),
    "template": (lambda p: p["prepare"].update(template="bactrian"), r"prompt_set english(.|\n)*set both to bactrian"),
    "alpha in quotes": (lambda p: p["lora"].update(alpha="16"), r"'lora.alpha' is '16'"),
    "alpha of 0": (lambda p: p["lora"].update(alpha=0), r"'lora.alpha' is 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named(tmp_path, name):
    change, message = WRONG[name]
    with pytest.raises(MapleError) as caught:
        params.parse(changed(tmp_path, change))
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("mistral-7B-4bit.alpaca.r8.s42", "mistral-7b"),
        ("mistral-7b-4bit.alpacca.r8.s42", "alpaca"),
        ("mistral-7b-4bit.alpaca.r0.s42", "rank"),
    ],
)
def test_a_cell_of_an_unknown_model_or_training_set_is_none(name, word):
    with pytest.raises(MapleError, match=f"names no cell(.|\n)*{word}"):
        params.load().cell_of(name)


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(MapleError, match="no profile 'papr'(.|\n)*did you mean 'paper'"):
        params.load("papr")


@pytest.mark.parametrize("profile", ["paper", "v1"])
def test_every_value_says_where_it_comes_from(profile):
    values = [
        line
        for line in params.path_of(profile).read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    leaves = [line for line in values if not re.fullmatch(r"\s*[\w.-]+:", line)]
    unsaid = [line for line in leaves if not re.search(r"# (stated|assumed): \S+", line)]
    assert len(leaves) > 100
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


# -- Files as users write them: (text of params.yaml, its replacement, what the message must say) ----------------------


def put(key, value):
    """A change that sets one dotted key."""

    def change(p):
        *blocks, last = key.split(".")
        for name in blocks:
            p = p[name]
        p[last] = value

    return change


NUMBERS = [
    ("lora.r", (0, -1, 1.5, "8", True, None, 10**9), "a whole number from 1 to 4096"),
    ("lora.dropout", (-0.1, 1, "half"), "a share from 0 to below 1"),
    ("recipe.learning_rate", (0, -1e-4, float("nan"), float("inf"), "fast", True, [1e-4]), "a number above 0"),
    ("recipe.epochs", (0, "one"), "a number above 0"),
    ("recipe.warmup", (1.0, -0.1), "a share from 0 to below 1"),
    ("recipe.weight_decay", (-0.1,), "a number from 0"),
    ("recipe.batch_rows", (0, 2.5), "a whole number from 1"),
    ("recipe.micro_batch_tokens", (0,), "a whole number from 1"),
    ("train.seed", (-1, 2**32, 1.0), "a whole number from 0 to 4294967295"),
    ("evaluation.seed", (-1,), "a whole number from 0 to 4294967295"),
    ("grid.seeds", ([-1], [2**40]), "a whole number from 0 to 4294967295"),
    ("prepare.max_length", (1, 31), "a whole number from 32"),
    ("tables.confidence", (0, 1, 95), "a share between 0 and 1"),
    ("evaluation.tasks.xnli.limit", (0, -5), "a whole number from 1"),
    ("evaluation.tasks.xnli.shots", (9, -1), "0 to 8"),
    ("datasets.bactrian-x-11.translations_per_instruction", (0, "some"), "all, one, or a number from 1"),
    ("datasets.alpaca.english_share", (1.5, -0.1), "a share from 0 to 1"),
    ("recipe.lora.alpha", ("r2", "16", 0), "a number from 1, or a multiple of the rank"),
]
LISTS = [
    ("grid.ranks", [8, 8], "8 stands in it twice"),
    ("grid.seeds", [42, 42], "42 stands in it twice"),
    ("grid.datasets", ["alpaca", "alpaca"], "'alpaca' stands in it twice"),
    ("grid.bases", ["mistral-7b-8bit"] * 2, "stands in it twice"),
    ("recipe.lora.targets", ["q_proj", "q_proj"], "'q_proj' stands in it twice"),
    ("evaluation.tasks.xnli.languages", ["en", "en"], "'en' stands in it twice"),
    ("datasets.bactrian-x-11.languages", ["ar", "ar"], "'ar' stands in it twice"),
    *(
        (key, [], "a list that is not empty")
        for key in ("grid.ranks", "grid.seeds", "grid.datasets", "grid.bases", "recipe.lora.targets")
    ),
    *((f"evaluation.tasks.{task}.languages", [], "a list that is not empty") for task in ("xnli", "mlqa")),
    ("datasets.alpaca.languages", [], "a list that is not empty"),
    ("evaluation.tasks", {}, "it is empty"),
    ("datasets", {}, "it is empty"),
    ("grid.ranks", 8, "a list that is not empty"),
    ("grid.bases", "mistral-7b-8bit", "a list that is not empty"),
    ("scoring.normalisation", {"xnli": "none", "xcopa": "none"}, "'scoring.normalisation.belebele' is missing"),
    ("scoring.repair", ["xnli"], "it must be one of 'mlqa'"),
    ("dataset", "nope", "unknown training set 'nope'"),
    ("root", "..", "outside of the repository"),
    ("profile", "../../x", "small letters, digits and hyphens"),
    ("profile", "Smoke", "small letters, digits and hyphens"),
    ("judge.annotator", "../x", "an annotator of alpaca_eval"),
    ("sources", "hubs", "did you mean 'hub'?"),
    ("lora", None, "a block of keys"),
    ("model", "", "text that is not empty"),
    *(("datasets", {name: {}}, "small letters, digits and hyphens") for name in ("/x", "x; touch F", "v1.5", "A")),
]
BAD = [(key, value, says) for key, values, says in NUMBERS for value in values] + LISTS


@pytest.mark.parametrize(("key", "value", "says"), BAD, ids=[f"{key}={value!r}"[:60] for key, value, _ in BAD])
def test_a_value_that_cannot_be_meant_is_refused_in_three_lines(tmp_path, monkeypatch, key, value, says):
    path = changed(tmp_path, put(key, value)).rename(tmp_path / "changed.yaml")
    if key in ("root", "profile"):
        (tmp_path / "paper_tables").mkdir()
        path = path.rename(tmp_path / "params.yaml").relative_to(tmp_path)
        monkeypatch.chdir(tmp_path)
    with pytest.raises(MapleError) as caught:
        params.parse(path)
    message = str(caught.value)
    assert says in message and len(message.splitlines()) == 3, message


def test_a_file_that_is_none_is_refused(tmp_path, monkeypatch):
    text = SMOKE.read_text()
    for content, says in [
        (text.replace("  r: 8", "  r: 8\n  r: 16", 1).encode(), "the key 'r' stands there twice"),
        (text.encode("utf-16"), "is not UTF-8 text"),
        (text.replace("lora:", "lora: [", 1).encode(), "is not valid YAML"),
        (b"", "holds no keys"),
        (b"- 1\n", "holds no keys"),
    ]:
        (tmp_path / "params.yaml").write_bytes(content)
        with pytest.raises(MapleError, match=says) as caught:
            params.parse(tmp_path / "params.yaml")
        assert len(str(caught.value).splitlines()) == 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").unlink()
    with pytest.raises(MapleError, match="params.yaml does not exist\n  do:  run in the repository's folder"):
        params.load()
    for name in ("../smoke", "a/b", "Paper", ""):
        with pytest.raises(MapleError, match="names no profile"):
            params.load(name)


@pytest.mark.parametrize("text", ["1e-5", "2e-4", "1E5", "+1.5e3", ".5e-3", "3.e-4"])
def test_a_number_that_yaml_reads_as_text_is_the_number_that_it_looks_like(tmp_path, text):
    written = SMOKE.read_text().replace("  learning_rate: 0.003", f"  learning_rate: {text}", 1)
    (tmp_path / "params.yaml").write_text(written)
    assert params.parse(tmp_path / "params.yaml").recipe.learning_rate == float(text)


def test_a_learning_rate_given_by_dvc_is_a_number(tmp_path):
    """DVC writes what `-S train.learning_rate=1e-5` gives with ruamel, as 1e-05."""
    from dvc.utils.serialize import modify_yaml

    (tmp_path / "params.yaml").write_text(SMOKE.read_text())
    with modify_yaml(tmp_path / "params.yaml") as content:
        content["train"]["learning_rate"] = 1e-5
    assert "learning_rate: 1e-05" in (tmp_path / "params.yaml").read_text()
    assert params.parse(tmp_path / "params.yaml").train.learning_rate == 1e-5


def test_a_profile_on_the_sample_world_is_smoke_whatever_its_name(tmp_path):
    other = params.parse(changed(tmp_path, put("profile", "other")).rename(tmp_path / "x.yaml"))
    assert other.profile == "other" and other.is_smoke and not params.load("paper").is_smoke
