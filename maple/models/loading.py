"""Base models at 4, 8 or 16 bits, and LoRA adapters on them."""

import logging
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from maple.config.catalogue import Source
from maple.config.params import Recipe, RecipeQuantisation
from maple.core.errors import MapleError
from maple.models import adapter_check, checkpoint_check, tokeniser_check
from maple.models.adapter_check import is_whole

# LLM.int8 logs one line per call on CPU about its cast to float16, and bitsandbytes one about an optional kernel.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
# peft 0.21 reads a property that transformers 5 has renamed.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
# Its bar counts tensors; ours counts what a person waits for.
disable_progress_bar()

COMPUTE = torch.bfloat16


@contextmanager
def _without_compiler():
    """bitsandbytes wraps a few functions in torch.compile when it is imported, which loads the compiler: two seconds, a
    quarter of a smoke stage. On a CPU none of them is called for weights of even shape, and no compiled one is wanted:
    it would not give the same bytes on a machine without a C++ compiler."""
    wrap = torch.compile
    if not torch.cuda.is_available():
        torch.compile = lambda function=None, **options: function or (lambda f: f)
    try:
        yield
    finally:
        torch.compile = wrap


with _without_compiler():
    import bitsandbytes  # noqa: F401


def device() -> torch.device:
    """The GPU of this process (LOCAL_RANK under `accelerate launch`), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def memory_bytes() -> int | None:
    """What this process's GPU has, whether in use or not; None on a CPU."""
    return torch.cuda.get_device_properties(device()).total_memory if torch.cuda.is_available() else None


def load_base(
    folder: Path, bits: int, quantisation: RecipeQuantisation, on: torch.device, unpacked: bool = False
) -> PreTrainedModel:
    """The frozen base model in `folder` (Hugging Face layout): bfloat16 at 16 bits, LLM.int8 at 8, NF4 at 4.

    Computation is in bfloat16 at every width. `unpacked`: 4-bit weights are unpacked to bfloat16 once, not in every
    pass; the products are the same, the memory is that of 16 bits. Raises MapleError if the folder holds no whole checkpoint, or one that
    leaves a tensor of the model without weights (maple/models/checkpoint_check.py).
    """
    checkpoint_check.inspect(folder)
    if bits == 4:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantisation.type_4bit,
            bnb_4bit_use_double_quant=quantisation.double_4bit,
            bnb_4bit_compute_dtype=COMPUTE,
        )
    else:
        config = BitsAndBytesConfig(load_in_8bit=True) if bits == 8 else None
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=COMPUTE,
            quantization_config=config,
            device_map={"": on},
            local_files_only=True,
            # Never a pickled file, never a program that came with the weights.
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise MapleError(f"the base in {folder} cannot be loaded", why=why, do=checkpoint_check.AGAIN) from error
    found["mismatched_keys"] = [*(found.get("mismatched_keys") or ()), *_of_another_shape(model)]
    checkpoint_check.check_loaded(folder, found)
    if unpacked and bits == 4:
        unpack(model)
    return model.requires_grad_(False)


def _of_another_shape(model: PreTrainedModel) -> list[tuple[str]]:
    """Quantised layers whose weights have not the shape that config.json gives them: transformers compares those of plain
    layers only."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    found = []
    for name, layer in model.named_modules():
        if isinstance(layer, (Linear4bit, Linear8bitLt)):
            # A tensor without weights, which is named as missing, has no state.
            packed = getattr(layer.weight, "quant_state", None) if isinstance(layer, Linear4bit) else None
            shape = packed.shape if packed else layer.weight.shape
            if (packed or isinstance(layer, Linear8bitLt)) and tuple(shape) != (layer.out_features, layer.in_features):
                found.append((f"{name}.weight",))
    return found


def unpack(model: PreTrainedModel) -> None:
    """Put in the place of each 4-bit layer a plain one with the bfloat16 weights that its passes would multiply with."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    for name, layer in [found for found in model.named_modules() if isinstance(found[1], Linear4bit)]:
        weight = dequantize_4bit(layer.weight, layer.weight.quant_state).to(COMPUTE)
        plain = torch.nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        plain.weight = torch.nn.Parameter(weight, requires_grad=False)
        plain.bias = layer.bias
        model.set_submodule(name, plain)


def load_tokeniser(folder: Path, vocabulary: int | None = None) -> PreTrainedTokenizerBase:
    """The tokeniser in a model's folder; refused where scores with it could be wrong (maple/models/tokeniser_check.py).

    `vocabulary`: rows of the model's embedding (config.json's `vocab_size` where None).
    """
    return tokeniser_check.load(folder, vocabulary)


def lora_alpha(recipe: Recipe, rank: int) -> int:
    """LoRA's alpha for a rank: a fixed number, or the recipe's multiple of the rank (`2r` at rank 64 is 128)."""
    alpha = recipe.lora.alpha
    return alpha if isinstance(alpha, int) else int(alpha.removesuffix("r")) * rank


def peft_config(recipe: Recipe, rank: int):
    """What PEFT calls the recipe's method; None for full finetuning, which is none of PEFT's."""
    import peft

    def lora(**more):
        return peft.LoraConfig(
            r=rank,
            lora_alpha=lora_alpha(recipe, rank),
            lora_dropout=recipe.lora.dropout,
            target_modules=recipe.lora.targets,
            bias="none",
            task_type="CAUSAL_LM",
            **more,
        )

    def virtual(kind, **more):
        return kind(num_virtual_tokens=recipe.virtual_tokens, task_type="CAUSAL_LM", **more)

    return {
        "lora": lora,
        "rslora": lambda: lora(use_rslora=True),
        "dora": lambda: lora(use_dora=True),
        # The exact decomposition of a 7B model takes hours; 16 rounds of the randomised one are PiSSA's own advice.
        "pissa": lambda: lora(init_lora_weights="pissa_niter_16"),
        "ia3": lambda: peft.IA3Config(task_type="CAUSAL_LM"),
        # From embeddings of the vocabulary: drawn at random they lie far from any, and little is learnt.
        "prompt": lambda: virtual(peft.PromptTuningConfig, prompt_tuning_init="SAMPLE_VOCAB"),
        "prefix": lambda: virtual(peft.PrefixTuningConfig),
        "full": lambda: None,
    }[recipe.method]()


def make_trainable(model: PreTrainedModel, recipe: Recipe, rank: int):
    """The model with what the recipe's method trains, fresh; LoRA's A random, B zero, so it starts as its base.

    In training mode, the base's layers too: a loaded model is in evaluation mode, where the first pass without
    gradients would make bitsandbytes repack its 4-bit weights on a CPU.
    """
    config = peft_config(recipe, rank)
    if config is None:
        # In float32: a step of bfloat16 weights is often smaller than what they can tell apart.
        return model.float().requires_grad_(True).train()
    from peft import get_peft_model

    return get_peft_model(model, config).train()


def load_tuned(weights: Path, folder: Path | None, source: Source | None, *how):
    """A model ready for evaluation: the base in `weights`, with the adapter in `folder`, or the whole model there.

    `how` is what `load_base` takes after its folder.
    """
    if folder is None or is_whole(folder):
        return load_base(folder or weights, *how).eval()
    return attach_adapter(load_base(weights, *how), folder, source)


def attach_adapter(model: PreTrainedModel, folder: Path, source: Source | None = None, which: str | None = None):
    """The model with a trained adapter, as stock `PeftModel.from_pretrained` loads it, ready for evaluation.

    `source`: the base's entry in sources.yaml, with which the base that the adapter names is compared. `which`: a
    sub-folder, where `folder` holds several adapters. The model's `adapter_notes` say what cannot be known of the
    adapter. Raises MapleError for one that is not loaded exactly (maple/models/adapter_check.py).
    """
    tuned, notes = adapter_check.attach(model, adapter_check.inspect(folder, source, which))
    tuned.adapter_notes = notes
    return tuned
