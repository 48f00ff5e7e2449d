"""The ways to finetune that `method` names, and what each can be combined with. No torch, no PEFT here.

maple/models/loading.py turns a name into PEFT's configuration; a test holds both to the same names.
"""

from dataclasses import dataclass

from maple.config.cell import BITS
from maple.core.errors import MapleError

# Ways of computing a training pass (recipe.path), the fastest first; whoever cannot take one takes a later one.
PATHS = ("fused", "fused_bfloat16", "stock", "plain")
PACKED, PLAIN = PATHS[2:], PATHS[3:]


@dataclass(frozen=True)
class Method:
    """`label` is how tables name it, `ranked` whether a rank decides its size.

    `paths`: the values of recipe.path that compute it. `why` says what is wrong with the bit widths left out.
    `virtual`: it trains tokens that no text has, so only a model's own forward pass can take them.
    """

    label: str
    ranked: bool = False
    virtual: bool = False
    paths: tuple[str, ...] = PATHS
    bits: tuple[int, ...] = BITS
    why: str = ""


METHODS = {
    "lora": Method("LoRA", ranked=True),
    "rslora": Method("rsLoRA", ranked=True),
    "dora": Method(
        "DoRA", True, paths=PACKED, bits=(4, 16), why="after one pass PEFT has lost the scales of LLM.int8's weights"
    ),
    "pissa": Method(
        "PiSSA",
        True,
        bits=(16,),
        why="it moves a part of the weights into the adapter, and what is left over would be quantised anew",
    ),
    "ia3": Method(
        "IA3", paths=PACKED, bits=(16,), why="over quantised weights PEFT's layers give float32, not bfloat16"
    ),
    "prompt": Method("prompt tuning", virtual=True, paths=PLAIN),
    "prefix": Method("prefix tuning", virtual=True, paths=PLAIN),
    "full": Method("full finetuning", paths=PLAIN, bits=(16,), why="quantised weights cannot be trained"),
}


def check(method: str, bits: int, key: str) -> None:
    """Raise MapleError where a method cannot be trained at a bit width; `key` is where the parameters name it."""
    found = METHODS[method]
    if bits not in found.bits:
        raise MapleError(
            f"'{key}' is {method} at {bits} bits",
            why=found.why,
            do=f"take {' or '.join(map(str, found.bits))} bits (-S quantisation.bits={found.bits[-1]}), or another method",
        )
