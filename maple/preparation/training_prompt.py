"""The text that a model sees before its answer, in training and in AlpacaEval.

`alpaca` is Stanford Alpaca's prompt, as the `text` column of its data has it; `bactrian` is Bactrian-X's. Both end
with a line break, so that no token spans prompt and answer with the tokenisers of Llama 2 and Mistral.
"""

from maple.core.errors import MapleError, nearest

# Template -> (with input, without input).
TEMPLATES = {
    "alpaca": (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Response:\n",
    ),
    "bactrian": (
        "### Input:\n{instruction}\n\n{input}\n\n### Output:\n",
        "### Input:\n{instruction}\n\n### Output:\n",
    ),
}


def prompt(template: str, instruction: str, input: str = "") -> str:
    """
    >>> prompt("bactrian", "Name a river.")
    '### Input:\\nName a river.\\n\\n### Output:\\n'
    """
    if template not in TEMPLATES:
        raise MapleError(
            f"no template '{template}'",
            why="maple/preparation/training_prompt.py has none of that name",
            do=nearest(template, TEMPLATES),
        )
    with_input, without_input = TEMPLATES[template]
    text = with_input if input else without_input
    # The template is filled from its end, so that braces and placeholders inside the data stay as they are.
    head, tail = text.split("{instruction}")
    return head + instruction + (tail.replace("{input}", input, 1) if input else tail)
