"""The tasks: readers on upstream's schema and its traps, prompts, label words, shots, extraction, scores."""

import csv
import dataclasses
import importlib.util
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import outside
import pyarrow.parquet
import pytest
import upstream

from maple import tasks
from maple.answering.questions import sheet
from maple.config import params
from maple.core.errors import MapleError
from maple.download import fetch
from maple.preparation import training_prompt
from maple.scoring import extraction, rules
from maple.tasks import TASKS, base, prompts, rows
from maple.upstream import languages

PARTS = [(task, code) for task, codes in upstream.LANGUAGES.items() for code in codes]
SPLIT = {"xquad": "validation", "alpaca_eval": "eval"}
SCORING = {"xnli": "loglikelihood", "xcopa": "loglikelihood", "belebele": "loglikelihood"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return upstream.write(tmp_path_factory.mktemp("sources"))


def load(sources, name, code, split=None, repair=False):
    return tasks.get(name).examples(sources / tasks.get(name).source, code, split or SPLIT.get(name, "test"), repair)


def form_of(name, code, prompt_set="english"):
    return tasks.get(name).form(prompt_set, code, SCORING.get(name, "generation"))


def test_every_task_of_the_parameters_exists_and_no_other():
    assert set(tasks.TASKS) == set(params.load("paper").evaluation.tasks)


def test_every_task_has_rows_to_be_tested_with():
    """Where this fails, a new task lacks its rows in tests/upstream.py: LANGUAGES, and a function in _FILES."""
    assert set(upstream.LANGUAGES) == set(tasks.TASKS)


def test_the_quiz_offers_the_files_order_among_its_rotations(sources):
    """Each answer stands once in each place, and the file's own order is in no fixed place."""
    quiz, plain = (load(sources, name, "zh") for name in ("belebele_order", "belebele"))
    form = tasks.get("belebele_order").form("english", "zh", "loglikelihood")
    assert [one.id for one in quiz] == [one.id for one in plain]
    for one, other in zip(quiz, plain):
        answers = [other.fields[f"option{i}"] for i in (1, 2, 3, 4)]
        orders = [[line.split(": ", 1)[1] for line in text.strip().split("\n")] for text in form.options(one)]
        assert orders[one.reference] == answers
        assert all(sorted(column) == sorted(answers) for column in zip(*orders))
        shown = form_of("belebele", "zh").prompt(other)
        assert form.prompt(one).split("\n")[1] in shown and form.options(one)[one.reference] in shown
    assert len({one.reference for one in quiz}) > 1


def test_an_unknown_task_is_named_with_the_nearest():
    with pytest.raises(MapleError, match="xcoppa") as error:
        tasks.get("xcoppa")
    assert "xcopa" in error.value.do


# -- Scores ------------------------------------------------------------------------------------------------------------


CHOICES = {"xnli": 1 / 3, "xcopa": 1 / 2, "belebele": 1 / 4}


def score(task, prediction, example, repair=False):
    return rules.get(task.rule).score(prediction, example.reference, example.language, repair)


@pytest.mark.parametrize(("name", "code"), PARTS)
def test_a_perfect_model_scores_one(sources, name, code):
    task, form = tasks.get(name), form_of(name, code)
    for example in load(sources, name, code):
        if form.options(example) is not None:
            scores = score(task, example.reference, example)
        else:
            row = {"output": form.answer(example) + "\nand more"}
            scores = score(task, extraction.predict(row, task.answer_part, "none"), example)
        assert scores == ({} if name == "alpaca_eval" else dict.fromkeys(rules.get(task.rule).metrics, 1.0))


@pytest.mark.parametrize("name", CHOICES)
def test_a_random_model_scores_chance(sources, name):
    task, rng, scores, chances = tasks.get(name), random.Random(1), [], []
    for code in upstream.LANGUAGES[name]:
        form = form_of(name, code)
        for example in load(sources, name, code):
            options = form.options(example)
            chances.append(rules.chance([{"options": options}]))
            scores += [score(task, rng.randrange(len(options)), example)["accuracy"] for _ in range(200)]
    assert set(chances) == {CHOICES[name]}
    assert sum(scores) / len(scores) == pytest.approx(CHOICES[name], abs=0.02)


@pytest.mark.parametrize("name", [name for name in upstream.LANGUAGES if name not in CHOICES and name != "alpaca_eval"])
def test_a_foreign_or_empty_answer_scores_zero_where_there_is_no_chance(sources, name):
    for code in upstream.LANGUAGES[name]:
        example = load(sources, name, code)[0]
        for prediction in ("", "qqq xxx"):
            assert score(tasks.get(name), prediction, example) == dict.fromkeys(
                rules.get(tasks.get(name).rule).metrics, 0.0
            )


def test_always_the_same_option_scores_chance_where_labels_are_balanced(sources):
    for name, chance in CHOICES.items():
        examples = load(sources, name, upstream.LANGUAGES[name][0])
        scores = [score(tasks.get(name), 0, example)["accuracy"] for example in examples]
        assert sum(scores) / len(scores) == pytest.approx(chance)


def test_a_generated_answer_that_names_no_option_is_wrong(sources):
    example = load(sources, "xnli", "en")[0]
    assert score(tasks.get("xnli"), None, example) == {"accuracy": 0.0}


# -- Readers and upstream's traps --------------------------------------------------------------------------------------


def test_belebele_counts_answers_from_one_as_text(sources):
    references = [example.reference for example in load(sources, "belebele", "en")]
    assert references == [0, 1, 2, 3] * 3


def test_both_scripts_of_chinese_and_serbian_are_read_under_ids_of_their_own(sources):
    for name, code, variants in [
        ("belebele", "zh", ("zho_Hans", "zho_Hant")),
        ("xlsum", "zh", ("chinese_simplified", "chinese_traditional")),
        ("xlsum", "sr", ("serbian_cyrillic", "serbian_latin")),
    ]:
        examples = load(sources, name, code)
        assert len(examples) == 24 and {example.language for example in examples} == {code}
        first, second = examples[0], examples[1]  # they alternate
        assert second.id == f"{first.id} {variants[1]}" and variants[0] not in first.id


def test_a_romanised_file_beside_the_right_one_is_not_read(sources):
    assert (sources / "belebele/data/hin_Latn.jsonl").exists()
    assert len(load(sources, "belebele", "hi")) == 12


def test_no_language_points_at_a_romanised_file():
    latin_elsewhere = {"hi", "ur", "bn", "ne", "si", "ar"}
    for code in latin_elsewhere:
        assert not languages.table()[code].upstream["belebele"][0].endswith("Latn")


def test_rows_are_parallel_over_languages_by_id(sources):
    for name in ("xnli", "xcopa", "xquad", "mlqa", "belebele"):
        ids = [[e.id for e in load(sources, name, code)] for code in upstream.LANGUAGES[name]]
        assert all(set(ids[0]) <= set(found) for found in ids)


def test_repair_takes_xcopa_questions_from_an_agreeing_language(sources):
    asked = [e.fields["question"] for e in load(sources, "xcopa", "et")]
    assert {e.fields["question"] for e in load(sources, "xcopa", "th")} == {"effect"}
    repaired = load(sources, "xcopa", "th", repair=True)
    assert [e.fields["question"] for e in repaired] == asked
    assert sum(e.repaired for e in repaired) == 6
    assert not any(e.repaired for e in load(sources, "xcopa", "et", repair=True))


def test_repair_without_an_agreeing_language_says_which_to_add(tmp_path):
    upstream.write_file(
        tmp_path / "th/test-00000-of-00001.parquet",
        [
            {
                "premise": "p",
                "choice1": "a",
                "choice2": "b",
                "question": "effect",
                "label": 0,
                "idx": 0,
                "changed": False,
            }
        ],
    )
    with pytest.raises(MapleError, match="cannot be repaired") as error:
        tasks.get("xcopa").examples(tmp_path, "th", "test", repair=True)
    assert "et, ht, qu, ta, vi, zh" in error.value.why


def test_xnli_reads_the_nested_all_languages_config_where_the_plain_one_is_absent(tmp_path, sources):
    plain = {code: load(sources, "xnli", code) for code in ("ar", "en")}
    nested = [
        {
            "premise": {code: plain[code][i].fields["premise"] for code in plain},
            "hypothesis": {"language": list(plain), "translation": [plain[c][i].fields["hypothesis"] for c in plain]},
            "label": plain["en"][i].reference,
        }
        for i in range(12)
    ]
    upstream.write_file(tmp_path / "all_languages/test-00000-of-00001.parquet", nested)
    for code in plain:
        assert tasks.get("xnli").examples(tmp_path, code, "test") == plain[code]
    with pytest.raises(MapleError, match="row 0: field 'premise'"):
        tasks.get("xnli").examples(tmp_path, "th", "test")


def test_mlqa_ignores_the_title_column_that_xtreme_adds(sources):
    assert set(load(sources, "mlqa", "ar")[0].fields) == {"context", "question", "answer"}


def test_mlqa_repair_changes_only_the_arabic_article_rule(sources):
    mlqa = tasks.get("mlqa")
    example = base.Example("0", "ar", {}, ["ق ب"])
    assert score(mlqa, "قالب", example)["f1"] == 1.0
    assert score(mlqa, "قالب", example, repair=True)["f1"] == 0.0


# task, file, what to change in row 1, what the error names besides file and row
MALFORMED = [
    ("xnli", "en/test-00000-of-00001.parquet", {"label": -1}, "label"),
    ("xnli", "en/test-00000-of-00001.parquet", {"premise": None}, "premise"),
    ("xnli", "en/test-00000-of-00001.parquet", {"hypothesis": "  "}, "hypothesis"),
    ("xcopa", "zh/test-00000-of-00001.parquet", {"question": "why"}, "question"),
    ("xcopa", "zh/test-00000-of-00001.parquet", {"label": 2}, "label"),
    (
        "xquad",
        "xquad.en/validation-00000-of-00001.parquet",
        {"answers": {"text": ["valley"], "answer_start": [0]}},
        "answers",
    ),
    ("xquad", "xquad.en/validation-00000-of-00001.parquet", {"answers": {"text": [], "answer_start": []}}, "answers"),
    ("mlqa", "MLQA.en.en/test-00000-of-00001.parquet", {"context": ""}, "context"),
    ("belebele", "data/eng_Latn.jsonl", {"correct_answer_num": "0"}, "correct_answer_num"),
    ("belebele", "data/eng_Latn.jsonl", {"correct_answer_num": 3}, "correct_answer_num"),
    ("belebele", "data/eng_Latn.jsonl", {"mc_answer4": None}, "mc_answer4"),
    ("xlsum", "english/test/0000.parquet", {"summary": ""}, "summary"),
    ("alpaca_eval", "alpaca_eval.json", {"instruction": None}, "instruction"),
]


@pytest.mark.parametrize(("name", "file", "change", "field"), MALFORMED)
def test_a_malformed_row_is_named_by_file_row_and_field(tmp_path, name, file, change, field):
    code = "zh" if name == "xcopa" else "en"
    upstream.write(tmp_path, rows=3)
    path = tmp_path / name / file
    if path.suffix == ".parquet":
        import pyarrow.parquet

        content = pyarrow.parquet.read_table(path).to_pylist()
    elif path.suffix == ".jsonl":
        content = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        content = json.loads(path.read_text())
    content[1] |= change
    upstream.write_file(path, content)
    with pytest.raises(MapleError) as error:
        load(tmp_path, name, code)
    assert f"{path}, row 1: field '{field}'" in error.value.what


@pytest.mark.parametrize("name", ["xnli", "belebele", "xlsum", "alpaca_eval"])
def test_a_truncated_file_is_named(tmp_path, name):
    upstream.write(tmp_path, rows=3)
    for path in sorted((tmp_path / name).rglob("*.*")):
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MapleError) as error:
        load(tmp_path, name, "en")
    assert str(tmp_path / name) in error.value.what and error.value.do == rows.AGAIN


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    upstream.write_file(tmp_path / "en/test-00000-of-00001.parquet", [{"premise": "p", "label": 0}])
    with pytest.raises(MapleError, match="row 0: field 'hypothesis' is missing") as error:
        tasks.get("xnli").examples(tmp_path, "en", "test")
    assert "premise, label" in error.value.why


def test_a_missing_shard_is_noticed(tmp_path):
    row = {"premise": "p", "hypothesis": "h", "label": 0}
    upstream.write_file(tmp_path / "en/train-00000-of-00002.parquet", [row])
    with pytest.raises(MapleError, match="1 of 2 files"):
        rows.shards(tmp_path / "en", "train")


@pytest.mark.parametrize(
    "name, code, path",
    [
        ("belebele", "hi", "data/hin_Deva.jsonl"),
        ("belebele", "zh", "data/zho_Hant.jsonl"),
        ("xlsum", "sr", "serbian_latin/test/0000.parquet"),
        ("xcopa", "et", "et/test-00000-of-00001.parquet"),
    ],
)
def test_a_file_without_rows_is_refused_also_where_the_language_has_another(tmp_path, sources, name, code, path):
    """Of two scripts the other alone would be scored as the language."""
    shutil.copytree(sources / name, tmp_path / name)
    assert load(tmp_path, name, code)
    if path.endswith("parquet"):
        table = pyarrow.parquet.read_table(tmp_path / name / path)
        pyarrow.parquet.write_table(table.slice(0, 0), tmp_path / name / path)
    else:
        (tmp_path / name / path).write_text("")
    with pytest.raises(MapleError, match=f"{name} {code} test: there are no rows"):
        load(tmp_path, name, code)


@pytest.mark.parametrize("name", upstream.LANGUAGES)
def test_a_missing_file_says_to_download(tmp_path, name):
    with pytest.raises(MapleError) as error:
        load(tmp_path, name, upstream.LANGUAGES[name][0])
    assert "download" in error.value.do and str(tmp_path) in error.value.what


def test_an_id_that_occurs_twice_is_an_error(tmp_path):
    path = tmp_path / "data/eng_Latn.jsonl"
    upstream.write(tmp_path / "all", rows=1)
    content = [json.loads((tmp_path / "all/belebele/data/eng_Latn.jsonl").read_text())] * 2
    upstream.write_file(path, content)
    with pytest.raises(MapleError, match="occurs twice"):
        tasks.get("belebele").examples(tmp_path, "en", "test")


def test_a_wrong_split_or_language_names_the_right_ones(sources):
    with pytest.raises(MapleError, match="no split 'test'") as error:
        tasks.get("xquad").examples(sources / "xquad", "en", "test")
    assert "validation" in error.value.do
    with pytest.raises(MapleError, match="no language 'de'"):
        tasks.get("xcopa").examples(sources / "xcopa", "de", "test")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("xnli", {"split": "tset"}, "no split 'tset'"),
        ("xnli", {"prompt_set": "nativ"}, "no prompt set 'nativ'"),
        ("xcopa", {"prompt_set": "native", "languages": ["qu"]}, "no xcopa prompt in 'qu'"),
        ("xlsum", {"scoring": "loglikelihood"}, "cannot be scored by loglikelihood"),
        ("belebele", {"shots": 4}, "nothing to take shots from"),
        ("xnli", {"shots": 2, "shot_language": "klingon"}, "no shots in language 'klingon'"),
        ("xquad", {"shots": 4, "shot_language": "same", "languages": ["th"]}, "no shots in language 'th'"),
        ("xcopa", {"repair": True, "languages": ["th"]}, "cannot be repaired"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_fetched(name, change, message):
    paper = params.load("paper")
    options = dataclasses.replace(paper.evaluation.tasks[name], **change)
    evaluation = dataclasses.replace(paper.evaluation, tasks={name: options})
    with pytest.raises(MapleError, match=message):
        fetch.needs(dataclasses.replace(paper, evaluation=evaluation))


# -- Shots -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_shots_never_come_from_the_evaluated_split(name):
    task = tasks.get(name)
    for split in task.splits:
        if split in task.shots_from:
            assert task.shot_split(split) != (name, split)
            assert task.shot_split(split)[0] in tasks.TASKS
        else:
            with pytest.raises(MapleError, match="nothing to take shots from"):
                task.shot_split(split)


def test_the_same_seed_draws_the_same_rows_in_every_language(sources):
    drawn = [[e.id for e in base.draw(load(sources, "xnli", code, "validation"), 4, 42)] for code in ("ar", "en", "th")]
    assert drawn[0] == drawn[1] == drawn[2] and len(set(drawn[0])) == 4
    assert drawn[0] != [e.id for e in base.draw(load(sources, "xnli", "ar", "validation"), 4, 43)]


def test_more_shots_than_examples_is_an_error(sources):
    with pytest.raises(MapleError, match="13 shots"):
        base.draw(load(sources, "xnli", "ar", "validation"), 13, 42)


@pytest.mark.parametrize(("name", "code"), [part for part in PARTS if tasks.get(part[0]).shots_from])
def test_a_shot_of_another_source_fits_the_form(sources, name, code):
    """XQuAD's shots are MLQA's examples, and the other way round."""
    task = tasks.get(name)
    for split in task.shots_from:
        source, shot_split = task.shot_split(split)
        if code in upstream.LANGUAGES[source] and (sources / source).exists() and shot_split != "train":
            form = form_of(name, code)
            shot = load(sources, source, code, shot_split)[0]
            assert form.shot(shot) == form.prompt(shot) + form.answer(shot)


def test_a_shot_with_an_empty_prompt_keeps_its_answers_space_as_the_harness_does(sources):
    shot = form_of("xnli", "en", "harness").shot(load(sources, "xnli", "en")[0])
    assert shot.startswith(" The river runs through the valley 0, right? Yes,")


# -- The sample of rows ------------------------------------------------------------------------------------------------


def some(*ids: str) -> list[base.Example]:
    return [base.Example(found, "en", {}, 0) for found in ids]


def test_a_limit_takes_a_seeded_sample_in_upstreams_order():
    examples = some(*map(str, range(200)))
    drawn = base.sample(examples, 50, 42)
    assert drawn == base.sample(examples, 50, 42) == [e for e in examples if e in drawn] and len(drawn) == 50
    assert drawn != examples[:50] and drawn != base.sample(examples, 50, 43)
    assert set(base.sample(examples, 20, 42)) < set(drawn)
    assert (
        base.sample(examples, None, 42) == base.sample(examples, 200, 42) == base.sample(examples, 300, 42) == examples
    )
    # From all over the file.
    assert all(
        10 < sum(int(e.id) // 50 == quarter for e in base.sample(examples, 100, 42)) < 40 for quarter in range(4)
    )


def test_languages_that_share_ids_get_the_same_rows_whatever_their_order():
    first, second = some(*map(str, range(100))), some(*map(str, reversed(range(20, 100))))
    drawn = [{e.id for e in base.sample(examples, 40, 42)} for examples in (first, second)]
    # What the second lacks is made up for by others; what it has is drawn again.
    assert {found for found in drawn[0] if int(found) >= 20} <= drawn[1]


def test_a_sheet_asks_the_sample(sources):
    options = dataclasses.replace(params.load().evaluation.tasks["mlqa"], limit=5, shots=0, prompt_set="english")
    for code in ("ar", "en"):
        asked = sheet("mlqa", code, options, sources, 42).examples
        assert asked == base.sample(load(sources, "mlqa", code), 5, 42) != load(sources, "mlqa", code)[:5]


# -- Extraction --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "options", "index"),
    [
        (" B", [" A", " B", " C", " D"], 1),
        ("(C) the valley", [" A", " B", " C", " D"], 2),
        ("**D**", [" A", " B", " C", " D"], 3),
        ("b.", [" A", " B", " C", " D"], 1),
        ("A", [" A", " B", " C", " D"], 0),
        ("A. text", [" A", " B", " C", " D"], 0),
        ("B: text", [" A", " B", " C", " D"], 1),
        ("(B) because", [" A", " B", " C", " D"], 1),
        ("C - the valley", [" A", " B", " C", " D"], 2),
        ("D (the valley)", [" A", " B", " C", " D"], 3),
        ("'C'", [" A", " B", " C", " D"], 2),
        ("B。河流", [" A", " B", " C", " D"], 1),
        ("Another answer", [" A", " B", " C", " D"], None),  # a capital A is not answer A
        ("A group of people", [" A", " B", " C", " D"], None),
        ("a lot of water", [" A", " B", " C", " D"], None),
        ("A casa", [" A", " B", " C", " D"], None),
        ("D'accord, C", [" A", " B", " C", " D"], None),
        ("B vitamins are good", [" A", " B", " C", " D"], None),
        ("是的", ["是", "否"], 0),  # one letter, but of a script without spaces
        ("The answer is B", [" A", " B", " C", " D"], None),
        ("1", [" A", " B", " C", " D"], None),
        ("", [" A", " B"], None),
        ("choice2", [" choice1", " choice2"], 1),
        ("choice10", [" choice1", " choice2"], None),
        ("Không rõ lắm", [" Đúng", " Không rõ", " Sai"], 1),
        ("ไม่ใช่ครับ", [" ใช่", " อาจจะ", " ไม่ใช่"], 2),  # no space after the word
        ("不是的", ["是", "可能", "不是"], 2),
        ("नहीं।", [" हाँ", " शायद", " नहीं"], 2),
        ("TRUE", [" True", " Neither", " False"], 0),
    ],
)
def test_an_option_is_recognised_at_the_start_as_a_whole_word(line, options, index):
    assert extraction.match_option(line, options) == index


def test_only_the_first_line_of_a_generated_answer_counts():
    assert extraction.predict({"output": "\n valley\nQ: next"}, tasks.get("xquad").answer_part, "none") == "valley"
    assert extraction.predict({"output": " a\nb\n"}, tasks.get("alpaca_eval").answer_part, "none") == "a\nb"


# -- Prompts -----------------------------------------------------------------------------------------------------------

FILES = sorted(path for path in prompts.FOLDER.glob("*/*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_prompt_file_parses_says_where_it_comes_from_and_renders(path, sources):
    file = prompts.parse(path)
    assert len(file.provenance) > 20
    name, _, code = path.stem.partition(".")
    task = tasks.get(name)
    example = load(sources, name, upstream.LANGUAGES[task.source][0])[0]
    for scoring in ("loglikelihood", "generation"):
        try:
            form = task.form(path.parent.name, code or "*", scoring)
        except MapleError as error:
            assert "only" in error.what or "cannot be scored" in error.what
            continue
        assert "{" not in form.prompt(example).replace("{x}", "")
        if name != "alpaca_eval":
            assert form.prompt(example) == form.prompt(example).rstrip(), (
                "a space before the answer belongs to the answer"
            )
        options = form.options(example)
        assert (options is None) == (name in ("xquad", "mlqa", "xlsum", "alpaca_eval"))
        if options is not None:
            assert len(set(options)) == len(options)
        assert form.answer(example).strip()


def test_a_language_without_a_prompt_is_an_error_that_names_those_with_one():
    with pytest.raises(MapleError, match="no xcopa prompt in 'qu'") as error:
        tasks.get("xcopa").form("native", "qu", "loglikelihood")
    assert "et, ht, id, it, sw, ta, th, tr, vi, zh" in error.value.do


def test_a_set_without_a_task_names_the_sets_that_have_it():
    with pytest.raises(MapleError, match="'native' has no prompt for belebele") as error:
        tasks.get("belebele").form("native", "en", "loglikelihood")
    assert "english, followup, harness, texts" in error.value.do


def test_an_unknown_prompt_set_names_the_nearest():
    with pytest.raises(MapleError, match="no prompt set 'nativ'") as error:
        tasks.get("xnli").form("nativ", "en", "loglikelihood")
    assert "native" in error.value.do


def test_free_text_cannot_be_scored_by_loglikelihood():
    with pytest.raises(MapleError, match="xlsum cannot be scored by loglikelihood"):
        tasks.get("xlsum").form("english", "en", "loglikelihood")


def test_whole_sentences_cannot_be_scored_by_generation():
    with pytest.raises(MapleError, match="for loglikelihood only"):
        tasks.get("xnli").form("harness", "en", "generation")


def test_braces_in_the_data_are_left_alone(sources):
    assert "{x}" in form_of("alpaca_eval", "en").prompt(load(sources, "alpaca_eval", "en")[0])


@pytest.mark.parametrize(("prompt_set", "name"), [("english", "alpaca"), ("bactrian", "bactrian")])
def test_alpaca_eval_asks_in_the_template_of_training(sources, prompt_set, name):
    example = load(sources, "alpaca_eval", "en")[0]
    assert form_of("alpaca_eval", "en", prompt_set).prompt(example) == training_prompt.prompt(
        name, example.fields["instruction"]
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('prompt = "x"\noptions = [ True]\n', "line 2"),
        ("x\n", "line 1"),
        ("# only words\n", "there is no prompt"),
        ('prompt = "x"\noption = [" True"]\n', "unknown key 'option': did you mean 'options'"),
        ('prompt = "x"\noptions = [1]\n', "'options' must be a list of texts"),
        ('prompt = "x"\nwords = "y"\n', "'words' must be a table of texts"),
    ],
)
def test_a_malformed_prompt_file_says_what_is_wrong(tmp_path, text, why):
    (tmp_path / "xnli.toml").write_text(text)
    with pytest.raises(MapleError, match=why):
        prompts.parse(tmp_path / "xnli.toml")


def test_the_fingerprint_follows_every_character_that_the_model_sees():
    forms = [form_of("xnli", code, "harness") for code in ("ar", "de", "en")] + [form_of("xnli", "en")]
    forms.append(tasks.get("xcopa").form("english", "et", "generation"))
    forms.append(tasks.get("xcopa").form("english", "et", "loglikelihood"))
    assert len({form.fingerprint for form in forms}) == 6
    assert form_of("xnli", "en").fingerprint == form_of("xnli", "ar").fingerprint  # one text for all languages


# -- Label words -------------------------------------------------------------------------------------------------------


def label_rows():
    with open(prompts.FOLDER / "labels.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def labels_in_files() -> dict[tuple[str, str, str], list[tuple[str, str]]]:
    """(set, task, language) -> [(role, words)] as the prompt files have them."""
    roles = {
        "xnli": ("entailment", "neutral", "contradiction"),
        "belebele": ("option1", "option2", "option3", "option4"),
    }
    found = {}
    for path in FILES:
        name, _, code = path.stem.partition(".")
        file = prompts.parse(path)
        if name == "xcopa":
            words = list(file.words.items())
        elif name in roles and path.parent.name == "harness" and name == "xnli":
            words = [(role, re.search(r"\? (.*), \{hypothesis\}$", o)[1]) for role, o in zip(roles[name], file.options)]
        elif name in roles and "{" not in "".join(file.options):
            words = [(role, option.strip()) for role, option in zip(roles[name], file.options)]
        else:
            continue
        found[path.parent.name, name, code or "*"] = words
    return found


def test_label_words_are_what_the_table_of_sources_says():
    table = {}
    for row in label_rows():
        assert row["source"]
        table.setdefault((row["prompt_set"], row["task"], row["language"]), []).append((row["role"], row["words"]))
    assert {key: sorted(words) for key, words in labels_in_files().items()} == {k: sorted(w) for k, w in table.items()}


@pytest.mark.parametrize("key", sorted(labels_in_files()), ids="/".join)
def test_label_words_are_distinct_and_none_begins_another(key):
    """The likelihood of a word is at least that of any longer one it begins: such a pair could not be scored."""
    words = [word.casefold() for _, word in labels_in_files()[key]]
    assert len(set(words)) == len(words)
    for word in words:
        assert not any(other != word and other.startswith(word) for other in words) or key[0] == "harness", words


def test_label_words_tokenise_to_something_distinct():
    """Byte-level BPE, as both smoke models have; every word gives tokens, none the same ones, and comes back whole."""
    import tokenizers

    tokeniser = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokeniser.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    corpus = list(upstream.TEXT.values())
    tokeniser.train_from_iterator(
        corpus, tokenizers.trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    for key, labels in labels_in_files().items():
        ids = [tuple(tokeniser.encode(" " + words).ids) for _, words in labels]
        assert all(ids) and len(set(ids)) == len(ids), key
        assert [tokeniser.decode(found).strip() for found in ids] == [words for _, words in labels]


@pytest.mark.parametrize("name", ["xnli", "xcopa"])
def test_the_native_set_covers_every_language_but_quechua(name):
    missing = set(languages.of_task(name)) - set(prompts.available("native", name))
    assert missing == ({"qu"} if name == "xcopa" else set())


# -- The harness set against the harness itself ------------------------------------------------------------------------


def harness_file(*parts) -> Path:
    return Path(outside.package("lm_eval").__file__).with_name("tasks").joinpath(*parts)


def harness_text(text: str) -> str:
    """A Jinja template of theirs as one of our prompt texts."""
    return re.sub(r"\{\{(\w+)(?:\.strip\(\))?\}\}", r"{\1}", text)


def harness_yaml(path: Path) -> dict:
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: suffix)
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


@pytest.mark.parametrize("code", languages.of_task("xnli"))
def test_harness_xnli_is_the_harness_own(code):
    theirs = harness_yaml(harness_file("xnli", f"xnli_{code}.yaml"))
    file = prompts.load("harness", "xnli", code)
    pieces = re.findall(r'premise\+"(.*?)"\+hypothesis', theirs["doc_to_choice"])
    assert theirs["doc_to_text"] == file.text == ""
    assert list(file.options) == [" {premise}" + piece + "{hypothesis}" for piece in pieces]


@pytest.mark.parametrize("code", languages.of_task("xcopa"))
def test_harness_xcopa_is_the_harness_own(code):
    spec = importlib.util.spec_from_file_location("harness_xcopa", harness_file("xcopa", "utils.py"))
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    form = tasks.get("xcopa").form("harness", code, "loglikelihood")
    for question in ("cause", "effect"):
        row = {"premise": " Ölüm geldi. ", "choice1": "Su aktı.", "choice2": "ÉL vino.", "question": question}
        example = base.Example("0", code, row, 0)
        assert form.prompt(example) == getattr(theirs, f"doc_to_text_{code}")(row)
        assert form.options(example) == [" " + choice for choice in theirs.doc_to_choice(row)]


def test_harness_belebele_is_the_harness_own():
    theirs = harness_yaml(harness_file("belebele", "_default_template_yaml"))
    names = {"flores_passage": "passage", **{f"mc_answer{i}": f"option{i}" for i in (1, 2, 3, 4)}}
    text = re.sub(r"\{(\w+)\}", lambda m: f"{{{names.get(m[1], m[1])}}}", harness_text(theirs["doc_to_text"]))
    file = prompts.load("harness", "belebele", "en")
    assert file.text == text and [o.strip() for o in file.options] == theirs["doc_to_choice"]


@pytest.mark.parametrize("code", languages.of_task("xquad"))
def test_harness_xquad_is_the_harness_own(code):
    theirs = harness_yaml(harness_file("xquad", f"xquad_{code}.yaml"))
    assert prompts.load("harness", "xquad", code).text == harness_text(theirs["doc_to_text"])
    assert tasks.get("xquad").form("harness", code, "generation").stop == ("\n",)


def test_the_page_of_prompts_is_up_to_date():
    page = Path(__file__).parents[2] / "docs" / "prompts.py"
    assert subprocess.run([sys.executable, page, "--check"], capture_output=True, text=True).stderr == ""
