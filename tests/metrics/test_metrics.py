"""Metrics against their outside references and against values derived by hand, in every script."""

import json
import random
import unicodedata
from pathlib import Path

import outside
import pytest

from maple.core.errors import MapleError
from maple.metrics import qa, rouge
from maple.scoring import rules
from maple.upstream import languages

# Words that a normaliser may mistreat: articles alone and inside words, punctuation of several scripts, symbols,
# marks, digits of several scripts, joiners, letters beyond the basic plane, white space that is no space.
WORDS = """
the The THE a an theatre another der die das Dem ein einen eine Einstein el la los las unos Elena lasaña của là cái
chiếc những Hà Nội ال الكتاب كتاب مال بال قال والكتاب بِالكتاب، ؛ ؟ كِتَابٌ हिन्दी है, । भाषा। २०२४ 中国 北京，中国。 《红楼梦》
鿦 㐀 abc中def 1,000 1.000 $5 5$ 50% +1 <b> a_b self-made don't don’t “the” «la» ¿qué? ¡No! … — – ภาษาไทย ไทยๆ
日本語 カタカナ ー 한국어 조선말 русский Ёлка ελληνικά; ΣΊΣΥΦΟΣ ß ẞ İstanbul I ı ﬁ ½ ² x² \u00a0 \u200b می\u200cخواهم e\u0301 é 𝟗 🙂
""".split()
CODES = ("ar", "de", "en", "es", "hi", "vi", "zh")


def adversarial(seed: int) -> tuple[str, list[str]]:
    """A prediction and up to three golds that share words with it."""
    rng = random.Random(seed)
    text = lambda: rng.choice([" ", "  ", ""]).join(rng.choices(WORDS, k=rng.randint(0, 6)))  # noqa: E731
    golds = [text() for _ in range(rng.randint(1, 3))]
    return rng.choice([text(), golds[0], golds[0] + " " + text(), golds[-1].upper()]), golds


# -- F1 and EM ---------------------------------------------------------------------------------------------------------


def test_f1_and_em_equal_the_outside_references_on_adversarial_strings():
    """qa_reference.jsonl holds what the references answered: MLQA's mlqa_evaluation_v1.py (commit 24bf470), and
    transformers 4.46.3's squad_metrics (version 5 has none). 20,000 strings per language were equal; these are kept.
    """
    rows = [json.loads(line) for line in Path(__file__).with_name("qa_reference.jsonl").read_text().splitlines()]
    assert {row["metric"] for row in rows} == {*CODES, "squad"}
    for row in rows:
        prediction, golds, metric = row["prediction"], row["golds"], row["metric"]
        found = qa.squad(prediction, golds) if metric == "squad" else qa.mlqa(prediction, golds, metric)
        assert found == {"f1": row["f1"], "em": row["em"]}, row


def test_squad_gives_no_f1_to_two_texts_of_articles_alone_unlike_squad_2():
    """Version 2 scores that 1, as a right "no answer"; v1.1 has no such case."""
    assert qa.squad("the", ["an"]) == {"f1": 0.0, "em": 1.0}


@pytest.mark.parametrize(
    ("prediction", "gold", "f1", "em"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0, 1.0),
        ("the tower", "tower of London", 0.5, 0.0),  # 1 of 1 and 1 of 3: 2 * 1 * 1/3 / (4/3)
        ("theatre", "atre", 0.0, 0.0),  # an article inside a word stays
        ("北京，中国", "北京中国", 0.0, 0.0),  # full-width punctuation stays, so Chinese is nearly exact match
        ("北京", "北京。", 0.0, 0.0),
        ("ภาษาไทย", "ภาษาไทย", 1.0, 1.0),
        ("ein Haus", "Haus", 2 / 3, 0.0),  # English articles only
        ("الكتاب", "كتاب", 0.0, 0.0),
        ("a b b", "b b b", 1.0 * 2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3), 0.0),  # counted with multiplicity
    ],
)
def test_squad_by_hand(prediction, gold, f1, em):
    assert qa.squad(prediction, [gold]) == {"f1": pytest.approx(f1), "em": em}


def test_the_best_gold_counts_for_each_of_f1_and_em():
    assert qa.squad("red green", ["red", "red green", "blue"]) == {"f1": 1.0, "em": 1.0}


def test_f1_abstractive_equals_the_harness_on_adversarial_strings():
    reference = outside.package("lm_eval.tasks.qasper.metrics")
    for seed in range(2000):
        prediction, golds = adversarial(seed)
        for language in ("en", "ar", "zh"):
            found = rules.get("f1_abstractive").score(prediction, golds, language, False)
            assert found == {"f1_abstractive": reference.f1_abstractive([prediction], golds)}, (prediction, golds)


def test_f1_abstractive_equals_squads_script_where_there_is_one_gold_answer():
    lines = Path(__file__).with_name("qa_reference.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["metric"] == "squad"]
    single = [row for row in rows if len(row["golds"]) == 1]
    assert len(single) > 20
    for row in single:
        assert rules.get("f1_abstractive").score(row["prediction"], row["golds"], "en", False) == {
            "f1_abstractive": row["f1"]
        }


# -- MLQA --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", CODES)
def test_mlqa_equals_the_script_as_lm_evaluation_harness_carries_it(language):
    """Its copy is the official script but for the Arabic article, which it repairs as our `repair` does."""
    reference = outside.package("lm_eval.tasks.mlqa.utils")
    for seed in range(1000):
        prediction, golds = adversarial(seed)
        found = qa.mlqa(prediction, golds, language, repair=True)
        f1 = max(reference.f1_score(prediction, gold, language) for gold in golds)
        em = max(reference.exact_match_score(prediction, gold, language) for gold in golds)
        assert found == {"f1": f1, "em": em}, (language, prediction, golds)


@pytest.mark.parametrize(
    ("language", "prediction", "gold", "f1", "em"),
    [
        ("en", "The, cat", "cat", 1.0, 1.0),
        ("en", "“the” cat", "a cat…", 1.0, 1.0),  # Unicode punctuation goes
        ("es", "La Habana", "habana", 1.0, 1.0),
        ("es", "the cat", "cat", 2 / 3, 0.0),  # English articles stay in Spanish
        ("de", "Das Haus dem", "Haus", 1.0, 1.0),
        ("de", "Einstein", "stein", 0.0, 0.0),
        ("vi", "của Hà Nội", "Hà Nội", 1.0, 1.0),
        ("vi", "HÀ NỘI", "hà nội", 1.0, 1.0),
        ("hi", "भारत।", "भारत", 1.0, 1.0),  # the danda is punctuation
        ("hi", "वह भारत", "भारत", 2 / 3, 0.0),
        ("zh", "中国北京", "北京", 2 * (2 / 4) * 1 / (2 / 4 + 1), 0.0),  # 2 of 4 characters, 2 of 2
        ("zh", "北京，中国。", "北京中国", 1.0, 1.0),
        ("zh", "iPhone手机", "手机 iphone", 1.0, 0.0),  # same tokens in another order
        ("zh", "abc def", "abcdef", 0.0, 0.0),
        # Official Arabic: the article's two letters become a space wherever they stand.
        ("ar", "الكتاب", "كتاب", 1.0, 1.0),
        ("ar", "المال", "م", 1.0, 1.0),  # "the money": the second pair inside the word goes too
        ("ar", "قالب", "ق ب", 1.0, 1.0),  # "mould" falls apart into two tokens
    ],
)
def test_mlqa_by_hand(language, prediction, gold, f1, em):
    assert qa.mlqa(prediction, [gold], language) == {"f1": pytest.approx(f1), "em": em}


@pytest.mark.parametrize(
    ("prediction", "gold", "f1"),
    [
        ("الكتاب", "كتاب", 1.0),
        ("المال", "مال", 1.0),
        ("قالب", "ق ب", 0.0),
        ("بِالكتاب", "بِ كتاب", 0.0),  # after a vowel mark, inside the word: stays
        ("في البيت", "في بيت", 1.0),
    ],
)
def test_the_repaired_arabic_article_goes_at_the_start_of_a_word_only(prediction, gold, f1):
    assert qa.mlqa(prediction, [gold], "ar", repair=True)["f1"] == pytest.approx(f1)


def test_mlqa_has_no_rules_for_a_language_outside_it():
    with pytest.raises(MapleError, match="'th'"):
        qa.mlqa("x", ["x"], "th")


# -- ROUGE -------------------------------------------------------------------------------------------------------------

# Each language's name for itself.
ENDONYMS = dict(
    line.split(" ", 1)
    for line in """
ar اللغة العربية
bg български език
de die deutsche Sprache
el ελληνική γλώσσα
en English language
es idioma español
et eesti keel
fr langue française
hi हिन्दी भाषा
ht kreyòl ayisyen
id bahasa Indonesia
it lingua italiana
qu qhichwa simi
ro limba română
ru русский язык
sw lugha ya Kiswahili
ta தமிழ் மொழி
th ภาษาไทย
tr Türk dili
ur اردو زبان
vi tiếng Việt
zh 中文 汉语 漢語
cs český jazyk
da dansk sprog
fi suomen kieli
he השפה העברית
hu magyar nyelv
ja 日本語のカタカナ
ko 한국어 말
nb norsk bokmål
nl Nederlandse taal
pl język polski
pt língua portuguesa
sv svenska språket
bn বাংলা ভাষা
hr hrvatski jezik
lt lietuvių kalba
lv latviešu valoda
sk slovenský jazyk
sl slovenski jezik
sr српски језик srpski jezik
uk українська мова
am አማርኛ፡ቋንቋ
az Azərbaycan dili
cy iaith Gymraeg
fa زبان فارسی می\u200cخواهم
gd Gàidhlig na h-Alba
gu ગુજરાતી ભાષા
ha harshen Hausa
ig asụsụ Igbo
ky кыргыз тили
mr मराठी भाषा
my မြန်မာဘာသာ
ne नेपाली भाषा
om afaan Oromoo
pa ਪੰਜਾਬੀ ਬੋਲੀ
pcm Naijá langwej
ps پښتو ژبه
rn ikirundi ururimi
si සිංහල භාෂාව ශ්‍රී
so afka Soomaaliga
te తెలుగు భాష
ti ትግርኛ ቋንቋ
uz oʻzbek tili
yo èdè Yorùbá
""".strip().splitlines()
)


def test_every_language_has_a_sample():
    assert set(ENDONYMS) == set(languages.CODES)


@pytest.mark.parametrize("code", languages.CODES)
def test_rouge_gives_one_to_identical_text_and_none_to_foreign_text(code):
    text = ENDONYMS[code]
    assert rouge.rouge(text, text) == {"rougeL": 1.0, "rouge1": 1.0, "rouge2": 1.0}
    other = unicodedata.normalize("NFD", text.upper())
    assert rouge.rouge(other.lower(), text)["rouge1"] == 1.0  # composed or not, the same text
    assert rouge.rouge("xx qq", text) == {"rougeL": 0.0, "rouge1": 0.0, "rouge2": 0.0}
    assert rouge.rouge("", text)["rougeL"] == 0.0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't panic: 42 times, naïve!", ["don", "t", "panic", "42", "times", "naïve"]),
        ("हिन्दी में है।", ["हिन्दी", "में", "है"]),  # vowel signs and virama stay with their word
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("كِتَابٌ، قلم؟", ["كِتَابٌ", "قلم"]),
        ("می\u200cخواهم بروم", ["می\u200cخواهم", "بروم"]),
        ("北京2008年", ["北", "京", "2008", "年"]),
        ("カタカナとひらがな", list("カタカナとひらがな")),
        ("한국어 말", ["한국어", "말"]),
        ("ที่นี่ กำลัง", ["ที่", "นี่", "กำ", "ลั", "ง"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("ភាសា", ["ភា", "សា"]),
        ("ພາສາ", ["ພ", "າ", "ສ", "າ"]),
        ("አማርኛ፡ቋንቋ።", ["አማርኛ", "ቋንቋ"]),
        ("ΟΔΟΣ ΟΔΟΥ", ["οδος", "οδου"]),
        ("🙂 ?!", ["🙂", "?!"]),  # nothing but symbols
        ("", []),
    ],
)
def test_rouge_tokens_by_hand(text, tokens):
    assert rouge.tokens(text) == tokens


def test_on_ascii_text_the_tokens_are_those_of_rouge_score():
    from rouge_score.tokenize import tokenize

    for seed in range(200):
        rng = random.Random(seed)
        text = "".join(rng.choices("abcXYZ019 ,.;:'\"-_/()$%&+\n\t", k=60))
        assert rouge.tokens(text) == tokenize(text, None) or not tokenize(text, None)


def test_rouge_by_hand():
    # Chinese: 我爱北京 against 我爱上海 shares two of four characters, one of three pairs, a common run of two.
    assert rouge.rouge("我爱北京", "我爱上海") == {
        "rougeL": pytest.approx(0.5),
        "rouge1": pytest.approx(0.5),
        "rouge2": pytest.approx(1 / 3),
    }
    # Words: prediction 3, reference 4, shared 2 in order: precision 2/3, recall 1/2.
    assert rouge.rouge("дом на горе", "дом стоит на холме")["rougeL"] == pytest.approx(
        2 * (2 / 3) * 0.5 / (2 / 3 + 0.5)
    )
