"""Every assumption about tokens on the bases' real tokenisers and, where at hand, on real rows of every script.

    MAPLE_TOKENISERS=FOLDER MAPLE_ROWS=FOLDER python -m pytest tests/tokenisers

MAPLE_TOKENISERS holds llama-2-7b and mistral-7b with tokenizer.json; MAPLE_ROWS data sets as the Hub has them
(datasets/cambridgeltl/xcopa/th/...). Without the second, label words and prompts of every language are the texts.
"""

import os
import random
from pathlib import Path

import pytest
import toy

from benchmarks import fertility
from maple import tasks
from maple.answering import encoding, generate, loglikelihood
from maple.config import params
from maple.models import tokeniser_check
from maple.preparation import tokenise, training_prompt
from maple.upstream import languages

if "MAPLE_TOKENISERS" not in os.environ:
    pytest.skip("MAPLE_TOKENISERS names no folder with the bases' tokenisers", allow_module_level=True)

FOLDER = Path(os.environ["MAPLE_TOKENISERS"])
ROWS = Path(os.environ["MAPLE_ROWS"]) if "MAPLE_ROWS" in os.environ else None
MODELS = ("llama-2-7b", "mistral-7b")
# A word or two in scripts whose letters these tokenisers mostly cut into bytes, and what is cut in odd places.
ODD = [
    "ខ្មែរ",
    "ᏣᎳᎩ",
    "ሰላም ዓለም",
    "မြန်မာ",
    "🏞️🧑‍🌾",
    "e\u0301t\u00e9",
    "कि\u200dन्",
    "\u0e19\u0e49\u0e33",
    "a\u00a0b",
    "\u3000中",
    "\tx",
    "</s>",
    "<0x0A>",
    "▁x",
]


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def tokeniser(name):
    return tokeniser_check.load(FOLDER / name, 32_000)


@pytest.fixture(scope="module")
def at_hand():
    """The sheets of real rows, none without MAPLE_ROWS."""
    return list(fertility.sheets(ROWS, params.load("paper"))) if ROWS else []


@pytest.fixture(scope="module")
def sheets(at_hand):
    if not at_hand:
        pytest.skip("MAPLE_ROWS names no folder with real rows")
    return at_hand


@pytest.fixture(scope="module")
def harness(tokeniser):
    import outside

    outside.package("lm_eval")
    from lm_eval.models.huggingface import HFLM

    model = toy.model("mistral", context=2048, vocab_size=32_000, bos_token_id=1, eos_token_id=2)
    return HFLM(pretrained=model, tokenizer=tokeniser, batch_size=1, softmax_dtype="float32")


def shots(asked, count=4):
    """A block of the sheet's last examples with their answers, as if they were another split's."""
    return asked.form.join.join(asked.form.shot(example) for example in asked.examples[-count:]) + asked.form.join


def requests(asked, count):
    """(prompt, answers) after a block of shots, spread over the language's rows."""
    some = asked.examples[:: max(1, len(asked.examples) // count)][:count]
    before = shots(asked)
    return [
        (before + asked.form.prompt(example), asked.form.options(example) or [asked.form.answer(example)])
        for example in some
    ]


def written(text):
    """As SentencePiece gives it back: its own mark for a space is a space."""
    return text.replace("▁", " ")


def forms():
    """(task, prompt set, language, form) of everything that log-likelihood can be asked of, in every language."""
    for task in map(tasks.get, tasks.TASKS):
        for prompt_set in ("english", "native", "harness"):
            for code in languages.of_task(task.name):
                try:
                    form = task.form(prompt_set, code, "loglikelihood")
                except tasks.base.MapleError:
                    continue
                if form.option_texts and not any("{" in text for text in form.option_texts):
                    yield task.name, prompt_set, code, form


def test_they_are_what_the_checks_let_pass(tokeniser):
    assert tokeniser_check.before_a_text(tokeniser) == [tokeniser.bos_token_id] == [1]
    assert tokeniser.pad_token is None and tokeniser.encode("Hello world")[-1] != tokeniser.eos_token_id


def test_a_text_that_begins_with_the_first_token_gets_no_second(tokeniser):
    assert encoding.encode(tokeniser, "<s>Hello").count(1) == 1 and encoding.encode(tokeniser, "Hello").count(1) == 1


def test_no_token_goes_across_words(tokeniser):
    """So texts may be cut between words; the check that says so reads the whole vocabulary."""
    assert not encoding._has_tokens_across_words(tokeniser)
    assert not [piece for piece in tokeniser.get_vocab() if "▁" in piece.lstrip("▁")]


def test_texts_in_pieces_have_the_tokens_of_whole_texts_in_every_language(tokeniser, sheets):
    for _, code, asked in sheets:
        groups = [
            [prompt.rstrip(), *(prompt + answer for answer in answers)] for prompt, answers in requests(asked, 120)
        ]
        assert encoding.encode_groups(tokeniser, groups) == [
            [encoding.encode(tokeniser, text) for text in group] for group in groups
        ], code


def test_prompt_and_answer_part_where_the_harness_parts_them(tokeniser, sheets, harness):
    for _, code, asked in sheets:
        listed = requests(asked, 60)
        for (prompt, answers), found in zip(listed, encoding.pairs(tokeniser, listed), strict=True):
            for answer, (before, after) in zip(answers, found, strict=True):
                assert (before, after) == harness._encode_pair(prompt, answer), (code, answer)


def test_odd_texts_part_where_the_harness_parts_them(tokeniser, harness):
    """Bytes across the border, joiners and marks at the answer's start, other spaces, special tokens in the text."""
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice(ODD + [" ", "\n", "Q: ", "the river"]) for _ in range(rng.randrange(2, 7)))
        cut = rng.randrange(1, len(text))
        prompt, answer = text[:cut], text[cut:]
        if not prompt.strip():
            continue
        ((found,),) = encoding.pairs(tokeniser, [(prompt, [answer])])
        assert found == harness._encode_pair(prompt, answer), (prompt, answer)


def test_scores_on_real_rows_are_the_harness_s(tokeniser, sheets, harness):
    from lm_eval.api.instance import Instance

    for _, code, asked in sheets:
        listed = requests(asked, 2)
        ours = loglikelihood.loglikelihoods(harness.model, tokeniser, listed, 4096)
        flat = [(prompt, answer) for prompt, answers in listed for answer in answers]
        theirs = harness.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in flat], disable_tqdm=True)
        for score, (logprob, greedy) in zip((score for scores in ours for score in scores), theirs, strict=True):
            assert abs(score.logprob - logprob) < 1e-3 and score.greedy == greedy, code


def test_labels_of_every_language_are_told_apart_by_all_their_tokens(tokeniser, harness):
    """Some are several tokens and begin alike, so a reader of the first token alone would not tell them apart."""
    shared = 0
    for task, prompt_set, code, form in forms():
        labels = list(form.option_texts)
        (found,) = encoding.pairs(tokeniser, [("Question?\nAnswer:", labels)])
        answers = [tuple(answer) for _, answer in found]
        assert len(set(answers)) == len(answers) and all(answers), (task, prompt_set, code)
        assert [list(answer) for answer in answers] == [
            harness._encode_pair("Question?\nAnswer:", label)[1] for label in labels
        ]
        shared += len({answer[0] for answer in answers}) < len(answers)
    assert shared


def test_generation_stops_at_a_stop_string_in_any_script_and_never_before(tokeniser, at_hand):
    """A line break is one byte piece here, and letters may be several; the text is decoded anew at each token."""
    assert tokeniser.convert_ids_to_tokens(tokeniser.encode("a\nb"))[-2] == "<0x0A>"
    texts = ODD + [asked.form.answer(example).strip() for _, _, asked in at_hand for example in asked.examples[:40:4]]
    for text in texts:
        first = text.split("\n")[0].strip()
        if not first or "</s>" in first:
            continue
        before = tokeniser.encode("Answer:")
        tokens = tokeniser.encode(f"Answer: {first}\nQuestion: more")[len(before) :]
        ending = generate.Ending(tokeniser, frozenset({tokeniser.eos_token_id}), ("\n",), 10_000)
        for count in range(1, len(tokens) + 1):
            if (found := ending.text(tokens[:count])) is not None:
                break
        assert found.strip() == written(first).strip() and tokens[count - 1] == tokeniser.convert_tokens_to_ids(
            "<0x0A>"
        )


def test_training_rows_in_every_script(name, tokeniser, at_hand):
    """The loss begins at the answer's first letter and ends with one end of text; what is cut has none."""
    ours = tokenise.load(FOLDER / name)
    backend = ours.open()
    assert (ours.bos, ours.eos) == (1, 2)
    answers = [*ODD, "It ends with </s>, then <s>."]
    for _, _, asked in at_hand:
        answers += [
            str(value)
            for example in asked.examples[:20:4]
            for value in example.fields.values()
            if isinstance(value, str)
        ]
    pairs = [(training_prompt.prompt("alpaca", "Write."), answer) for answer in answers]
    before = tokeniser.encode(pairs[0][0])
    for (_, answer), row in zip(pairs, tokenise.tokenise(backend, ours, pairs, 100_000), strict=True):
        ids = row.ids.tolist()
        assert not row.spans and ids[: row.answer_start] == before
        assert ids.count(1) == 1 and ids.count(2) == 1 and ids[-1] == 2
        assert backend.decode(ids[row.answer_start - 1 : -1]) == "\n" + written(answer)
        (cut,) = tokenise.tokenise(backend, ours, [(pairs[0][0], answer)], len(ids) - 1)
        assert cut.ids is None or (2 not in cut.ids and cut.full == len(ids))
        (none,) = tokenise.tokenise(backend, ours, [(pairs[0][0], answer)], row.answer_start)
        assert none.ids is None


def test_a_trained_row_is_what_an_evaluated_prompt_goes_on_with(name, tokeniser, sheets):
    """The same ids in training and in scoring, so that what was learnt is what is asked."""
    ours = tokenise.load(FOLDER / name)
    pairs = [(prompt + "\n", answers[0].strip()) for _, _, asked in sheets for prompt, answers in requests(asked, 6)]
    rows = tokenise.tokenise(ours.open(), ours, pairs, 100_000)
    for (prompt, answer), row in zip(pairs, rows, strict=True):
        assert row.ids[:-1].tolist() == encoding.encode(tokeniser, prompt + answer)


def test_an_evaluated_answer_of_a_trained_model_begins_at_the_same_token(tokeniser):
    """Prompt sets end without a space and the answer brings it: the border is where training has it too."""
    ((before, answer),) = encoding.pairs(tokeniser, [("Is it?\nAnswer:", [" yes"])])[0:1][0]
    assert tokeniser.convert_ids_to_tokens(answer) == ["▁yes"] and before == tokeniser.encode("Is it?\nAnswer:")


def test_the_ids_are_sentencepiece_s(name, tokeniser, at_hand):
    """From the model file that the base was published with, by the library that made it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    if not (path := FOLDER / name / "tokenizer.model").exists():
        pytest.skip(f"{name} has no tokenizer.model there")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    texts = list(ODD)
    for _, _, asked in at_hand:
        texts += [asked.form.prompt(example) for example in asked.examples[::25]]
    for text in texts:
        # What SentencePiece takes for text, Hugging Face takes for a special token. Runs of spaces, and one before a
        # text, are other pieces in tokenizer.json than in SentencePiece, depending on who converted it (a few passages
        # of Arabic XQuAD have them). The harness reads tokenizer.json, and so do we.
        if "</s>" not in text and not text.startswith((" ", "▁")) and "  " not in text:
            assert tokeniser.encode(text, add_special_tokens=False) == theirs.encode(text), text
