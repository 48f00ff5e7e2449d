"""A tokeniser that would give other tokens than the reference's is refused with what it does."""

import json

import pytest
import toy
from tokenizers import processors

from maple.core.errors import MapleError
from maple.models import loading, tokeniser_check


def saved(folder, made, **config):
    made.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": toy.VOCABULARY}))
    return folder


def template(single: str, *names: str):
    made = toy.tokeniser()
    backend = made.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(name, backend.token_to_id(name)) for name in names]
    )
    return made


def refused(folder, *words, vocabulary=None):
    with pytest.raises(MapleError) as caught:
        loading.load_tokeniser(folder, vocabulary)
    assert len(str(caught.value).splitlines()) == 3
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend"])
def test_known_kinds_are_taken_as_they_are(kind, tmp_path):
    made = toy.tokeniser(kind)
    loaded = loading.load_tokeniser(saved(tmp_path, made))
    for text in toy.TEXTS:
        assert loaded.encode(text) == made.encode(text)
    assert tokeniser_check.before_a_text(loaded) == [made.bos_token_id]


def test_one_without_a_first_token_puts_none(tmp_path):
    assert tokeniser_check.before_a_text(loading.load_tokeniser(saved(tmp_path, toy.tokeniser(bos=False)))) == []


def test_a_first_token_that_is_named_but_not_put_before_a_text_is_not_put_there_in_training_either(tmp_path):
    from maple.preparation import tokenise

    made = toy.tokeniser(bos=False)
    made.bos_token = "<s>"
    assert tokenise.load(saved(tmp_path, made)).bos is None


@pytest.mark.parametrize("single", ["<s> $A </s>", "$A </s>"])
def test_one_that_ends_every_text_is_refused(single, tmp_path):
    refused(saved(tmp_path, template(single, "<s>", "</s>")), "ends a text by itself", "</s>", "add_eos_token")


@pytest.mark.parametrize("single", ["<s> <s> $A", "</s> $A"])
def test_one_that_puts_other_tokens_before_a_text_is_refused(single, tmp_path):
    refused(saved(tmp_path, template(single, "<s>", "</s>")), "before a text")


def test_tokens_beyond_the_embedding_are_refused_and_counted(tmp_path):
    made = toy.tokeniser()
    made.add_tokens(["<|im_start|>", "<|im_end|>"])
    folder = saved(tmp_path, made)
    refused(folder, "2 tokens that the model has no embedding for", "<|im_end|>", f"{toy.VOCABULARY:,} rows")
    assert len(loading.load_tokeniser(folder, toy.VOCABULARY + 2)) == toy.VOCABULARY + 2


def test_no_end_of_text_is_refused(tmp_path):
    made = toy.tokeniser()
    made.eos_token = None
    refused(saved(tmp_path, made, eos_token=None), "no end-of-text token")


def test_no_padding_token_and_a_chat_template_change_nothing(tmp_path):
    made = toy.tokeniser()
    before = [made.encode(text) for text in toy.TEXTS]
    made.pad_token, made.chat_template = None, "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    loaded = loading.load_tokeniser(saved(tmp_path, made))
    assert [loaded.encode(text) for text in toy.TEXTS] == before and loaded.pad_token is None


def test_cutting_and_padding_that_a_file_asks_for_do_not_happen(tmp_path):
    from maple.answering import encoding
    from maple.preparation import tokenise

    made = toy.tokeniser()
    before = encoding.encode_groups(made, [toy.TEXTS])
    made.backend_tokenizer.enable_truncation(4)
    made.backend_tokenizer.enable_padding(length=512)
    made.save_pretrained(tmp_path)
    made.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]
    assert encoding.encode_groups(loading.load_tokeniser(tmp_path), [toy.TEXTS]) == before
    ours = tokenise.load(tmp_path)
    assert [
        row.ids[:-1].tolist() for row in tokenise.tokenise(ours.open(), ours, [("", text) for text in toy.TEXTS], 999)
    ] == before[0]


@pytest.mark.parametrize("keep", [0, 0.5])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_cut_files_are_said_to_be_wrong(name, keep, tmp_path):
    path = saved(tmp_path, toy.tokeniser()) / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    refused(tmp_path, "no tokeniser in")


def test_an_empty_folder_is_refused(tmp_path):
    refused(tmp_path, "no tokeniser in")


def test_a_program_in_the_folder_does_not_run(tmp_path):
    folder = saved(
        tmp_path / "own", toy.tokeniser(), tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]}
    )
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    try:
        loading.load_tokeniser(folder)
    except MapleError:
        pass
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "Qwen2Tokenizer"])
def test_a_class_that_sets_the_rules_of_the_file_aside_is_refused(kind, tmp_path):
    """As Hub folders name the class of a relative: every space and accent may come out as another token."""
    folder = saved(tmp_path, toy.tokeniser("metaspace"), tokenizer_class=kind)
    refused(folder, "is not that of its tokenizer.json", kind, "PreTrainedTokenizerFast")
    saved(tmp_path, toy.tokeniser("metaspace"), tokenizer_class="PreTrainedTokenizerFast")
    assert loading.load_tokeniser(folder).encode("a b") == toy.tokeniser("metaspace").encode("a b")


def test_spaces_before_punctuation_stay_in_what_was_written(tmp_path):
    """A setting that older tokenisers have, which would take them out."""
    loaded = loading.load_tokeniser(saved(tmp_path, toy.tokeniser(), clean_up_tokenization_spaces=True))
    for text in ("the river , the hill .", "do n't ? no !"):
        assert loaded.decode(loaded.encode(text), skip_special_tokens=True) == text
