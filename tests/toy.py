"""Tiny fp32 models and tokenisers for the tests of scoring and generation."""

import json

import torch
from device import DEVICE
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

TEXTS = [
    "The river runs through the valley. Question: what runs? Answer: the river",
    "Passage: Rivers and valleys\nQ: yes or no, true, false or neither?",
    "แม่น้ำไหลผ่านหุบเขา คำถาม คำตอบ",
    "النهر يجري في الوادي سؤال جواب",
    "नदी घाटी में बहती है। प्रश्न उत्तर",
    "河流穿过山谷。问题 答案",
]
# Few pieces, so that words fall apart and boundaries between prompt and answer merge in many ways.
VOCABULARY = 384


def tokeniser(kind: str = "bytes", bos: bool = True) -> PreTrainedTokenizerFast:
    """`bytes`: byte-level like Llama 3's; `metaspace`: like Llama 2's, a space before a text and byte fallback;
    `prepend`: the same by a normaliser, also before a text that has one; `across words`: tokens with spaces inside."""
    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
    else:
        made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        if kind == "prepend":
            made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        else:
            made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=kind != "across words")
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
        )
        letters = [f"<0x{i:02X}>" for i in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=["<s>", "</s>", "<unk>", *letters], show_progress=False
        )
    made.train_from_iterator(TEXTS * 3, trainer)
    # Llama's byte pieces are ordinary tokens; special ones would be left out of what is generated.
    content = json.loads(made.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    made = Tokenizer.from_str(json.dumps(content))
    if bos:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
        )
    named = {"bos_token": "<s>"} if bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="</s>", **named)


def model(kind: str = "llama", window: int | None = None, context: int = 512, dtype=torch.float32, **changes):
    """A model of one of transformers' types: two random layers, weights large enough for tokens to matter; heads
    share keys, as in Mistral.
    """
    torch.manual_seed(0)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "initializer_range": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    if kind == "mistral":
        shape["sliding_window"] = window
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape | changes))
    return made.to(DEVICE, dtype).eval()
