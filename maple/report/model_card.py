"""The model card of one adapter. It stands with the report, not in the adapter's folder: new words train nothing again."""

from typing import Any

from maple.config.methods import METHODS

ADAPTER = 'from peft import PeftModel\nmodel = PeftModel.from_pretrained(base_model, "this folder")'
WHOLE = 'from transformers import AutoModelForCausalLM\nmodel = AutoModelForCausalLM.from_pretrained("this folder")'


def card(adapter: dict[str, Any], smoke: bool) -> str:
    """Markdown from an adapter's record, to stand as README.md beside the weights when they are published."""
    label = "> **SMOKE**: a tiny model trained on sample rows. It is good for nothing but testing the pipeline.\n\n"
    recipe, base = adapter["recipe"], adapter["base"]
    heldout = adapter["heldout_loss"]
    method = METHODS[recipe["method"]]
    whole = recipe["method"] == "full"
    article = "An" if method.label[0] in "rI" else "A"
    what = f"{base['hub_id']}, fully finetuned," if whole else f"{article} {method.label} adapter for {base['hub_id']}"
    ranked = f"| rank, alpha | {adapter['rank']}, {adapter['alpha']} |\n| targets | {', '.join(recipe['lora']['targets'])} |\n"
    virtual = f"| virtual tokens | {recipe['virtual_tokens']} |\n"
    load = WHOLE if whole else ADAPTER
    return f"""---
base_model: {base["hub_id"]}
library_name: {"transformers" if whole else "peft"}
license: other
tags: [{recipe["method"]}, maple-repro]
---
# {adapter["name"]}

{label if smoke else ""}{what} at revision `{base["revision"]}`, trained on the base at **{adapter["bits"]} bits**
and meant to be used on it at that precision. Made by maple-repro, which reruns *MAPLE: Multilingual Evaluation
of Parameter Efficient Finetuning of Large Language Models* (arXiv 2401.07598).

| | |
|---|---|
| training set | {adapter["dataset"]} |
{ranked if method.ranked else ""}{virtual if method.virtual else ""}| trainable parameters | {adapter["trainable_parameters"]:,} ({adapter["trainable_percent"]:.4f} %) |
| steps, rows a step | {adapter["steps"]}, {recipe["batch_rows"]} |
| learning rate, seed | {recipe["learning_rate"]:g}, {adapter["seed"]} |
| held-out loss before, after | {heldout["before"]:.4f}, {heldout["after"]:.4f} nats per answer token |

Licences: that of the base model ({base["licence"]}) and that of the training set apply.

```python
{load}
```
"""
