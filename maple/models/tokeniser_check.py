"""A model's tokeniser, refused where a prompt or an answer could come out as other tokens than the reference's.

What is relied on (maple/answering/encoding.py, maple/preparation/tokenise.py): the tokens of tokenizer.json; at most one
token before a text, always the same; nothing after it; an end-of-text token; no token beyond the model's embedding.
"""

import json
from pathlib import Path
from typing import Any

from maple.core.errors import MapleError

# Texts of one and several tokens, of a script that may fall into bytes, with a space and a line break at either end.
_PROBES = ("a", "Hello world", " Hello", "line\n", "นี้", "的")
# What classes of tokenisers split in ways of their own: digits, apostrophes, accents, line breaks, runs of spaces. None
# begins with a space: there transformers 5 splits otherwise than Llama-2's and Mistral's own files, and no prompt does.
_SPLITS = ("Hello world", "It's 2024, isn't it?", "(x1=10.5) l'été", "a  b\n\n c", "Привет, मित्र! 日本語 นี้")


def load(folder: Path, vocabulary: int | None = None) -> Any:
    """The tokeniser in `folder`; `vocabulary`: rows of the model's embedding (config.json's where None).

    Raises MapleError for files that are missing or cut, and for what `check` refuses.
    """
    from transformers import AutoTokenizer

    folder = Path(folder)
    try:
        tokeniser = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        other = _unlike_its_file(tokeniser, folder / "tokenizer.json")
    # tokenizers raises plain Exception for a file that it cannot parse, or a text that it cannot encode; what is raised
    # here ends the run.
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise MapleError(
            f"no tokeniser in {folder}", why=why, do="run the download stage; if its files are there, delete them first"
        ) from error
    if other is not None:
        raise MapleError(
            f"the tokeniser in {folder} is not that of its tokenizer.json",
            why=f"tokenizer_config.json asks for the class {type(tokeniser).__name__}, which splits {other!r} into other tokens",
            do="correct tokenizer_class; for what tokenizer.json says alone write PreTrainedTokenizerFast",
        )
    if vocabulary is None and (folder / "config.json").exists():
        vocabulary = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("vocab_size")
    check(tokeniser, vocabulary, str(folder))
    return tokeniser


def _unlike_its_file(tokeniser: Any, path: Path) -> str | None:
    """A text that the tokeniser splits otherwise than the file that it was made from: its class can set the file's own
    rules aside without a word. None where there is no such text, or no such file.
    """
    if not path.exists():
        return None
    from tokenizers import Tokenizer

    file = Tokenizer.from_file(str(path))
    file.no_truncation()
    file.no_padding()
    for text in _SPLITS:
        if tokeniser.encode(text, add_special_tokens=False) != file.encode(text, add_special_tokens=False).ids:
            return text
    return None


def before_a_text(tokeniser: Any) -> list[int]:
    """What the tokeniser itself puts before a text: one token, or none.

    A tokeniser may have a beginning-of-text token and not use it; so its `bos_token_id` does not tell.
    """
    return tokeniser.encode("", add_special_tokens=True)


def check(tokeniser: Any, vocabulary: int | None, name: str) -> None:
    """Raises MapleError that names what the tokeniser does and why it cannot be used; `name` is for that message."""

    def refuse(what: str, why: str, do: str = "use the tokeniser that was published with the base") -> MapleError:
        return MapleError(f"the tokeniser in {name} {what}", why=why, do=do)

    if tokeniser.eos_token_id is None:
        raise refuse("has no end-of-text token", "an answer could not end", "use another model")
    first = before_a_text(tokeniser)
    for text in _PROBES:
        plain = tokeniser.encode(text, add_special_tokens=False)
        whole = tokeniser.encode(text, add_special_tokens=True)
        if whole == first + plain:
            continue
        after = whole[len(first) + len(plain) :]
        if whole[: len(first) + len(plain)] == first + plain and after:
            shown = tokeniser.convert_ids_to_tokens(after)
            why = f"it puts {' '.join(map(str, shown))} after a text, so every prompt would be over before its answer"
            raise refuse("ends a text by itself", why, "set add_eos_token to false in its tokenizer_config.json")
        # An empty text shows what ends a text as if it began one.
        if plain and whole[: len(whole) - len(plain)] != first and whole[-len(plain) :] != plain:
            shown = " ".join(map(str, tokeniser.convert_ids_to_tokens(first)))
            why = f"it puts {shown} around a text, so every prompt would be over before its answer"
            raise refuse("ends a text by itself", why, "set add_eos_token to false in its tokenizer_config.json")
        raise refuse(
            "puts different tokens before different texts", f"seen at {text!r}; prompts could not be told from answers"
        )
    if len(first) > 1 or (
        first and first[0] != (tokeniser.bos_token_id if tokeniser.bos_token_id is not None else tokeniser.eos_token_id)
    ):
        shown = " ".join(map(str, tokeniser.convert_ids_to_tokens(first)))
        raise refuse(
            f"puts '{shown}' before a text",
            "one beginning-of-text token, or none, is what prompts and training rows are made with",
        )
    ids = tokeniser.get_vocab()
    highest = max(ids, key=ids.__getitem__)
    if vocabulary is not None and ids[highest] >= vocabulary:
        beyond = sum(number >= vocabulary for number in ids.values())
        raise refuse(
            f"has {beyond} tokens that the model has no embedding for",
            f"'{highest}' is number {ids[highest]:,}, the embedding has {vocabulary:,} rows; no text may hold one",
            "use the base's own tokeniser, without tokens added for padding or chat",
        )
