"""The tokeniser of both tiny bases: a token for each word of the sample world, bytes for everything else."""

import random
import re

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from maple.smoke import corpus, texts
from maple.smoke.pretraining import CONTEXT

BOS, EOS = "<s>", "</s>"
# Documents, enough that every other word has been met.
SAMPLE = 15_000


def make() -> PreTrainedTokenizerFast:
    """Byte-level: any text in any script, no unknown token. Like Llama's it puts <s> before a text."""
    splitter = _splitter()
    rng = random.Random("words")
    codes = sorted(corpus.SHARES)
    said = [corpus.document(rng, codes[number % len(codes)]) for number in range(SAMPLE)]
    # A word that may stand in a slot counts with and without a space before it, met or not.
    said += [before + word for name in codes for word in texts.lexicon(name) for before in ("", " ")]
    words = {word for text in said for word, _ in splitter.pre_tokenize_str(text)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [BOS, EOS, *alphabet, *sorted(words - set(alphabet))]
    # No merges: a word is a piece, or its bytes are.
    tokeniser = Tokenizer(BPE({piece: i for i, piece in enumerate(pieces)}, [], ignore_merges=True))
    tokeniser.pre_tokenizer = splitter
    tokeniser.decoder = decoders.ByteLevel()
    tokeniser.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0), (EOS, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokeniser, bos_token=BOS, eos_token=EOS, model_max_length=CONTEXT)


def _splitter() -> pre_tokenizers.PreTokenizer:
    """Names and values first where words are not spaced, so that they are the same pieces wherever they stand; then
    words with the space before them.
    """
    known = {word for name in corpus.SHARES if texts.is_unspaced(name) for word in texts.lexicon(name)}
    longest_first = sorted(known, key=lambda word: (-len(word), word))
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join(map(re.escape, longest_first))), "isolated"),
            pre_tokenizers.Split(Regex(r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
