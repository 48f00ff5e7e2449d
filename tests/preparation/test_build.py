"""Preparation: split by seed instruction, drops, quotas, overlap, tokens and masks, the same bytes every time."""

import dataclasses
import gzip
import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from maple.config import catalogue, params
from maple.core import parallel, storage
from maple.core.errors import MapleError
from maple.preparation import build, normalise, overlap, scan, scripts, select, tokenise, training_prompt
from maple.preparation.instructions import Instruction

ROOT = Path(__file__).parents[2]
WORDS = {
    "en": "red blue cat dog runs sleeps house river mountain bread water small large name list colour".split(),
    "sw": "nyekundu buluu paka mbwa kimbia lala nyumba mto mlima mkate maji dogo kubwa jina orodha rangi".split(),
    "hi": "लाल नीला बिल्ली कुत्ता दौड़ना सोना घर नदी पहाड़ रोटी पानी छोटा बड़ा नाम सूची रंग".split(),
    "th": "แดง น้ำเงิน แมว หมา วิ่ง นอน บ้าน แม่น้ำ ภูเขา ขนมปัง น้ำ เล็ก ใหญ่ ชื่อ รายการ สี".split(),
}
CODES = list(WORDS)
SEEDS = 120


def sentence(code: str, numbers: list[int]) -> str:
    return ("" if code == "th" else " ").join(WORDS[code][n] for n in numbers)


def rows(code: str) -> list[dict[str, str]]:
    """Translations of the same seeds in each language, in an order of its own; answers of 1 to 40 words."""
    found = []
    for i in range(SEEDS):
        rng = random.Random(i)
        ask, given = [rng.randrange(16) for _ in range(8)], [rng.randrange(16) for _ in range(4)] * (i % 2)
        answer = [random.Random(f"{code} {i}").randrange(16) for _ in range(1 + i % 40)]
        row = {"instruction": sentence(code, ask), "input": sentence(code, given), "output": sentence(code, answer)}
        found.append(row | {"id": f"alpaca-{i}"})
    random.Random(code).shuffle(found)
    return found


def faulty(code: str) -> list[dict[str, str]]:
    """The rows with one fault of each kind."""
    found = {row["id"]: row for row in rows(code)}
    found["alpaca-3"]["output"] = ""
    found["alpaca-5"] |= {k: found["alpaca-4"][k] for k in ("instruction", "input", "output")}
    found["alpaca-7"] |= {
        "instruction": found["alpaca-6"]["instruction"].upper() + "?!",
        "input": "",
        "output": found["alpaca-6"]["output"],
    }
    if code != "en":
        found["alpaca-9"]["instruction"] = next(row for row in rows("en") if row["id"] == "alpaca-9")["instruction"]
    if code == "hi":
        found["alpaca-11"]["instruction"] = "Напиши слова"
    return list(found.values())


def tokeniser(folder: Path, llama: bool = False) -> Path:
    """A small BPE, byte-level like smoke's, or built as Llama 2's: words marked by ▁, no splitting, byte fallback."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    texts = [row[key] for code in CODES for row in rows(code) for key in ("instruction", "output")] + list(
        training_prompt.TEMPLATES["alpaca"]
    )
    if llama:
        made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        # Only while it is trained, so that no token spans two words; Llama's has none.
        made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
        )
        special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
        texts = [line for text in texts for line in text.split("\n")]
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        special = ["<s>", "</s>"]
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False))
    # As both base models' do: beginning of text before every text.
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(made.to_str()) | ({"pre_tokenizer": None} if llama else {})
    # The byte tokens of Llama are ordinary tokens, not special ones.
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    if llama:
        # As in the files of Llama 2 and Mistral: transformers then builds the tokeniser from the vocabulary anew.
        config |= {"tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "legacy": False, "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """artifacts/tiny/sources with Bactrian-X in four languages, two tokenisers, and XQuAD items to overlap with."""
    folder = tmp_path_factory.mktemp("inputs")
    root = folder / "artifacts/tiny/sources"
    for code in CODES:
        path = catalogue.datasets()["bactrian-x"].folder(root) / "data" / f"{code}.json.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(json.dumps(faulty(code), ensure_ascii=False).encode(), mtime=0))
    for code in ("en", "th"):
        taken = next(row for row in rows(code) if row["id"] == "alpaca-39")["output"]
        # The passage shares a long stretch with one answer; the other shares nothing.
        contexts = [f"Something else. {taken} And more.", "No such words anywhere in it, but for these few of its own."]
        items = [
            {"id": f"q{i}", "context": c, "question": "Which?", "answers": {"text": [c[:2]], "answer_start": [0]}}
            for i, c in enumerate(contexts)
        ]
        path = catalogue.datasets()["xquad"].folder(root) / f"xquad.{code}/validation-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pa.parquet.write_table(pa.Table.from_pylist(items), path)
    storage.write_json(root / "record.json", {"datasets": {"bactrian-x": {"commit": "f" * 40}}})
    tokeniser(root / "models/llama-2-7b", llama=True)
    tokeniser(root / "models/mistral-7b")
    return folder


def settings_of(**changes) -> params.Params:
    """The smoke parameters with one training set over the four languages; `changes` are keys of `prepare` or of it."""
    given = params.parse(ROOT / "params.yaml")
    of_set = {k: changes.pop(k) for k in ("languages", "translations_per_instruction", "english_share") if k in changes}
    training_set = params.TrainingSet("bactrian-x", CODES, "all", None)
    prepare = dataclasses.replace(given.prepare, rows=200, heldout_rows=40, max_length=160)
    xquad = dataclasses.replace(given.evaluation.tasks["xquad"], languages=["en", "th"])
    return dataclasses.replace(
        given,
        profile="tiny",
        datasets={"four": dataclasses.replace(training_set, **of_set)},
        prepare=dataclasses.replace(prepare, **changes),
        evaluation=dataclasses.replace(given.evaluation, tasks={"xquad": xquad}),
    )


@pytest.fixture
def prepare(inputs, monkeypatch):
    """prepare(rows=100, ...) runs the whole preparation and returns its record."""
    monkeypatch.chdir(inputs)
    return lambda **changes: build.prepare(settings_of(**changes), "four")


def table(model: str = "mistral-7b", part: str = "train") -> list[dict]:
    path = Path("artifacts/tiny/prepared/four/tokens", model, f"{part}.arrow")
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all().to_pylist()


def digest() -> dict[str, str]:
    root = Path("artifacts/tiny/prepared/four")
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


# -- The split ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("translations", ["all", "one", 2])
def test_no_seed_instruction_is_on_both_sides(prepare, translations):
    prepare(rows=100, heldout_rows=24, translations_per_instruction=translations)
    train, heldout = ({row["id"] for row in table(part=part)} for part in ("train", "heldout"))
    assert train and heldout and not train & heldout


def test_a_random_row_split_of_the_same_rows_would_leak():
    merged = [row["id"] for code in CODES for row in rows(code)]
    random.Random(0).shuffle(merged)
    heldout, train = merged[:40], merged[40:]
    assert len(set(heldout) & set(train)) > 30


def test_seeds_that_ask_the_same_are_split_together():
    same = make_scan("en", key=[5, 1, 9, 4], prompt=[7, 8, 7, 6])
    other = make_scan("de", key=[5, 1, 9, 4], prompt=[1, 2, 3, 2])
    rows_of = np.array([[1, 1], [3, 3], [0, 0], [2, 2]])  # by ascending key 1, 4, 5, 9
    # 5 and 9 ask the same in English, 1 and 4 in German.
    assert select.same_prompt([same, other], rows_of).tolist() == [0, 0, 2, 2]


# -- How many rows, and of which languages -----------------------------------------------------------------------------


def test_each_language_has_its_quota_and_each_instruction_all_languages(prepare):
    found = prepare()
    assert [one["train"] for one in found["languages"].values()] == [50, 50, 50, 50]
    assert [one["heldout"] for one in found["languages"].values()] == [10, 10, 10, 10]
    assert found["rows"] == {"read": 480, "train": 200, "heldout": 40}
    # All but the few whose translation had a fault appear in all four.
    assert found["languages_per_id"]["train"]["4"] >= 45


@pytest.mark.parametrize("most", [1, 3])
def test_an_instruction_appears_in_as_many_languages_as_asked(prepare, most):
    found = prepare(translations_per_instruction="one" if most == 1 else most, rows=80, heldout_rows=16)
    assert max(map(int, found["languages_per_id"]["train"])) == most
    assert [one["train"] for one in found["languages"].values()] == [20, 20, 20, 20]


def test_english_gets_the_share_it_is_given(prepare):
    found = prepare(english_share=0.1)
    assert [found["languages"][code]["train"] for code in CODES] == [20, 60, 60, 60]


def test_what_a_small_language_lacks_goes_to_the_others():
    assert select.quotas(100, {"en": 1000, "sw": 7, "hi": 1000}, None) == {"en": 47, "sw": 7, "hi": 46}
    assert select.quotas(100, {"en": 3, "sw": 7}, None) == {"en": 3, "sw": 7}
    assert sum(select.quotas(48_000, dict.fromkeys(map(str, range(22)), 67_017), None).values()) == 48_000


def test_rotation_gives_every_language_the_same_number():
    taken = select.pick(np.ones((300, 7), dtype=bool), [30] * 7, most=2)
    assert taken.sum(axis=0).tolist() == [30] * 7 and taken.sum(axis=1).max() == 2
    assert taken.sum(axis=1)[:105].tolist() == [2] * 105


@pytest.mark.parametrize(
    "right, wrong, key",
    [
        ("translations_per_instruction: all", "translations_per_instruction: 0", "translations_per_instruction"),
        ("english_share:", "english_share: 1.5 #", "english_share"),
        ("source: multialpaca", "source: multialpacca", "did you mean 'multialpaca'"),
    ],
)
def test_a_training_set_that_cannot_be_is_refused(tmp_path, right, wrong, key):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace(right, wrong, 1), encoding="utf-8")
    with pytest.raises(MapleError, match=key):
        params.parse(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "rows, why", [([], "holds 0 rows"), (rows("en")[:5], "5 untranslated")], ids=["none", "English"]
)
def test_a_language_without_a_row_to_train_on_is_refused(prepare, rows, why):
    """Else its share went to the others, and the set was still called one of that language."""
    path = catalogue.datasets()["bactrian-x"].folder(Path("artifacts/tiny/sources")) / "data" / "hi.json.gz"
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(json.dumps(rows).encode(), mtime=0))
    try:
        with pytest.raises(MapleError, match="no row of the language 'hi' can be trained on") as caught:
            prepare()
    finally:
        path.write_bytes(whole)
    assert why in str(caught.value) and not list(Path("artifacts/tiny/prepared").glob("*.part"))


# -- Drops -------------------------------------------------------------------------------------------------------------


def test_faults_are_counted_and_dropped_by_parameter(prepare):
    found = prepare()
    expected = {"empty_output": 1, "exact_duplicate": 1, "near_duplicate": 1, "untranslated": 0, "other_script": 0}
    assert {reason: found["languages"]["en"]["found"][reason] for reason in expected} == expected
    assert found["languages"]["sw"]["found"]["untranslated"] == 1
    assert found["languages"]["hi"]["found"]["other_script"] == 1
    kept = prepare(drop_empty_outputs=False, drop_exact_duplicates=False, drop_untranslated=False, rows=4000)
    assert (
        kept["languages"]["sw"]["found"]["untranslated"] == 1
        and kept["languages"]["sw"]["dropped"]["untranslated"] == 0
    )
    assert kept["rows"]["train"] + kept["rows"]["heldout"] > 4 * (SEEDS - 3)


def test_a_near_duplicate_is_equal_but_for_case_and_punctuation(tmp_path):
    pair = [
        {"instruction": "Name a river.", "input": "", "output": "Nile"},
        {"instruction": "name a RIVER", "input": "", "output": "Nile!"},
    ]
    one = scan_of(tmp_path, "en", pair)
    settings = settings_of().prepare
    assert select.usable(one, None, settings)[1]["near_duplicate"] == 1
    assert select.usable(one, None, dataclasses.replace(settings, drop_near_duplicates=False))[0].all()


def test_vowel_signs_are_letters_so_hindi_words_differ():
    assert normalise.reduced("की") != normalise.reduced("का") and normalise.words("पानी, रोटी।", False) == [
        "पानी",
        "रोटी",
    ]


def test_of_duplicates_the_same_seed_stays_in_every_language():
    value, alive = np.array([3, 3, 4], dtype=np.uint64), np.ones(3, dtype=bool)
    assert select.repeated(value, np.array([9, 2, 1]), alive).tolist() == [True, False, False]


def test_decomposed_text_is_composed_before_anything_else(tmp_path):
    composed, decomposed = "\u00e9t\u00e9", "e\u0301te\u0301"
    pair = [{"instruction": text, "input": "", "output": "a"} for text in (composed, decomposed)]
    one = scan_of(tmp_path, "fr", pair)
    assert one.exact[0] == one.exact[1]
    left = scan_of(tmp_path, "fr", pair, form="none")
    assert left.exact[0] != left.exact[1]


def test_scripts_are_those_of_the_languages():
    for code, text in {
        "ja": "東京へ行く",
        "ko": "서울 특별시",
        "zh": "北京",
        "sr": "Београд",
        "am": "አዲስ",
        "ur": "کراچی",
        "vi": "Hà Nội",
    }.items():
        assert not scripts.is_foreign(scripts.counts(text), code), code
        assert scripts.is_foreign(scripts.counts("ελληνικά γράμματα"), code), code
    assert not scripts.is_foreign(scripts.counts("123 + 4 = ?"), "hi")


def test_a_repeated_id_keeps_its_first_row(tmp_path):
    one = make_scan("en", key=[4, 4, 2], prompt=[1, 2, 3])
    alive, found, _ = select.usable(one, None, settings_of().prepare)
    assert alive.tolist() == [True, False, True] and found["repeated_id"] == 1


# -- Overlap -----------------------------------------------------------------------------------------------------------


def test_thirteen_shared_words_are_found_and_twelve_are_not(tmp_path):
    words = [f"word{i}" for i in range(13)]
    overlap.build(
        [overlap.Item("xquad", "q1", {"context": "Before. " + " ".join(words) + " after."})], "en", 13, tmp_path
    )
    index = overlap.load(tmp_path, "en")
    texts = [
        ("Say:", "", " ".join(words).upper() + "!"),
        ("", "", " ".join(words[:12])),
        (" ".join(words[:6]), " ".join(words[6:]), ""),
    ]
    assert overlap.find(index, texts, "en", 13) == [(0, "xquad", "q1", "13 words"), (2, "xquad", "q1", "13 words")]


def test_a_whole_question_is_found_though_it_is_short(tmp_path):
    question = "Which river flows through Cairo?"
    overlap.build([overlap.Item("mlqa", "q1", {"question": question, "context": "x"})], "en", 13, tmp_path)
    assert overlap.find(overlap.load(tmp_path, "en"), [("which river flows through cairo", "", "Nile")], "en", 13) == [
        (0, "mlqa", "q1", "whole text")
    ]


def test_the_overlap_of_a_prepared_set_is_measured_and_listed(prepare):
    found = prepare(rows=4000)
    assert found["overlap"]["en"]["xquad"]["items"] == 2
    for code in ("en", "th"):
        assert found["overlap"][code]["xquad"]["items_found"] == 1
    listed = Path("artifacts/tiny/prepared/four/overlap.csv").read_text().splitlines()
    assert any(line.startswith("en,xquad,q0,13 words,alpaca-39,") for line in listed)


def test_an_item_whose_translation_was_trained_on_is_counted_in_each_language_that_is_evaluated(prepare):
    """q0 overlaps in English and in Thai; trained on in Thai alone, English has it through its translation."""
    both = prepare(rows=4000)
    assert both["overlap_across"] == {}
    assert "No item overlaps through its translation" in Path("artifacts/tiny/prepared/four/examples.md").read_text()
    alone = prepare(rows=4000, languages=["th"])
    assert alone["overlap"]["th"]["xquad"]["items_found"] == 1 and "en" not in alone["overlap"]
    assert alone["overlap_across"] == {"xquad": {"en": 1}}
    assert "| xquad | English (en) | 1 |" in Path("artifacts/tiny/prepared/four/examples.md").read_text()


# -- Tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["llama-2-7b", "mistral-7b"])
def test_prompt_and_answer_are_the_tokens_that_a_model_would_go_on_from(inputs, model):
    from transformers import AutoTokenizer

    folder = inputs / "artifacts/tiny/sources/models" / model
    theirs, ours = AutoTokenizer.from_pretrained(folder), tokenise.load(folder)
    pairs = [
        (training_prompt.prompt("alpaca", row["instruction"], row["input"]), row["output"])
        for code in CODES
        for row in rows(code)
    ]
    for (prompt, answer), row in zip(pairs, tokenise.tokenise(ours.open(), ours, pairs, 10_000)):
        before = [theirs.bos_token_id, *theirs(prompt, add_special_tokens=False).input_ids]
        assert row.ids[: row.answer_start].tolist() == before
        assert theirs.decode(row.ids[row.answer_start :]).strip() == answer + "</s>"
        assert row.ids[-1] == theirs.eos_token_id and not row.spans and row.full == len(row.ids)


def test_a_token_that_would_span_prompt_and_answer_is_parted(inputs):
    ours = tokenise.load(inputs / "artifacts/tiny/sources/models/mistral-7b")
    backend = ours.open()
    word = "mountain"
    (row,) = tokenise.tokenise(backend, ours, [(word[:4], word[4:])], 100)
    assert row.spans and backend.decode(row.ids[row.answer_start :].tolist()) == word[4:]


def test_truncation_is_counted_and_a_row_without_any_answer_left_is_dropped(inputs):
    ours = tokenise.load(inputs / "artifacts/tiny/sources/models/mistral-7b")
    (whole,) = tokenise.tokenise(ours.open(), ours, [("a b c\n", "red blue cat")], 100)
    for limit in range(1, whole.full + 1):
        (row,) = tokenise.tokenise(ours.open(), ours, [("a b c\n", "red blue cat")], limit)
        if limit <= whole.answer_start:
            assert row.ids is None
        else:
            assert row.ids.tolist() == whole.ids.tolist()[:limit] and row.full == whole.full


def test_a_length_that_leaves_no_answer_is_refused_and_nothing_is_written(prepare):
    prepare()
    before = digest()
    with pytest.raises(MapleError, match="no row to train llama-2-7b on"):
        prepare(max_length=32)
    assert digest() == before


def test_lengths_and_losses_of_the_record_are_those_of_the_rows(prepare):
    found = prepare(max_length=48)
    for model in ("llama-2-7b", "mistral-7b"):
        both = table(model) + table(model, "heldout")
        one = found["models"][model]
        assert one["rows"] == len(both) and one["rows"] + one["cut_away"] == 240
        assert one["tokens"] == sum(len(row["input_ids"]) for row in both)
        assert one["truncated"] > 0 and one["truncated_tokens"] > 0 and one["cut_away"] > 0
        assert max(len(row["input_ids"]) for row in both) == 48
        assert all(row["answer_start"] < len(row["input_ids"]) for row in both)
    assert found["languages"]["th"]["models"]["mistral-7b"]["answer_tokens_per_word"] is None
    assert found["languages"]["en"]["models"]["mistral-7b"]["answer_tokens_per_word"] >= 1


def test_the_template_fills_each_place_once():
    assert (
        training_prompt.prompt("alpaca", "Use {input} and {instruction}.", "x {instruction}").count("x {instruction}")
        == 1
    )
    assert "### Input:" not in training_prompt.prompt("alpaca", "Name {input}.", "")
    with pytest.raises(MapleError, match="no template"):
        training_prompt.prompt("chat", "a")


# -- The result --------------------------------------------------------------------------------------------------------


def test_two_runs_and_two_processes_give_the_same_bytes(prepare, monkeypatch):
    monkeypatch.setattr(build, "BATCH_ROWS", 32)
    prepare()
    first = digest()
    prepare(processes=2)
    assert digest() == first and len(first) == 7


def test_another_seed_gives_other_rows(prepare):
    prepare()
    first = {row["id"] for row in table()}
    prepare(seed=43)
    assert {row["id"] for row in table()} != first


def test_the_page_shows_three_rows_of_each_language_as_the_model_gets_them(prepare):
    prepare()
    page = Path("artifacts/tiny/prepared/four/examples.md").read_text()
    backend = tokenise.load(Path("artifacts/tiny/sources/models/llama-2-7b")).open()
    for code in CODES:
        some = [row for row in table("llama-2-7b") if row["language"] == code][:3]
        for row in some:
            assert backend.decode(row["input_ids"][row["answer_start"] :], skip_special_tokens=False) in page
            assert f"`{row['id']}`" in page
    assert page.count("Prompt:\n") == 12
    assert "MBZUAI/Bactrian-X at `ffffffffffff`" in page


def test_a_full_disk_leaves_nothing_half_written(prepare, monkeypatch):
    prepare()
    before = digest()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build.storage, "write_text", full)
    with pytest.raises(MapleError, match="No space left"):
        prepare(seed=1)
    assert digest() == before and not Path("artifacts/tiny/prepared/four.part").exists()


def test_work_is_drawn_only_as_results_are_taken():
    drawn = []

    def items():
        for i in range(1000):
            drawn.append(i)
            yield -i

    results = parallel.in_order(abs, items(), processes=2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(drawn) < 15
    results.close()


# -- Toys --------------------------------------------------------------------------------------------------------------


def make_scan(language: str, key: list[int], prompt: list[int]) -> scan.Scan:
    numbers = np.arange(len(key), dtype=np.uint64) + 100
    as64 = {name: np.array(value, dtype=np.uint64) for name, value in {"key": key, "prompt": prompt}.items()}
    return scan.Scan(
        language, as64["key"], numbers, numbers, as64["prompt"], numbers, np.zeros(len(key), dtype=np.uint8)
    )


def scan_of(folder: Path, code: str, some: list[dict[str, str]], form: str = "NFC") -> scan.Scan:
    path = folder / "data" / f"{code}.json.gz"
    path.parent.mkdir(exist_ok=True)
    content = [row | {"id": f"alpaca-{i}"} for i, row in enumerate(some)]
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    return scan.scan(catalogue.datasets()["bactrian-x"], folder, code, form, seed=0)


def test_half_of_a_surrogate_pair_does_not_stop_the_run():
    row = Instruction("alpaca-1", "en", "a \ud83d b", "", "c", "bactrian-x", "", 0)
    assert scan.clean(row, "NFC").instruction == "a ? b"
