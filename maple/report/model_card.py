"""The model card of one adapter. It stands with the report, not in the adapter's folder: new words train nothing again."""

from typing import Any


def card(adapter: dict[str, Any], smoke: bool) -> str:
    """Markdown from an adapter's record, to stand as README.md beside the weights when they are published."""
    label = "> **SMOKE**: a tiny model trained on sample rows. It is good for nothing but testing the pipeline.\n\n"
    recipe, base = adapter["recipe"], adapter["base"]
    heldout = adapter["heldout_loss"]
    return f"""---
base_model: {base["hub_id"]}
library_name: peft
license: other
tags: [lora, maple-repro]
---
# {adapter["name"]}

{label if smoke else ""}A LoRA adapter for {base["hub_id"]} at revision `{base["revision"]}`, trained on the base at **{adapter["bits"]} bits**
and meant to be used on it at that precision. Made by maple-repro, which reruns *MAPLE: Multilingual Evaluation
of Parameter Efficient Finetuning of Large Language Models* (arXiv 2401.07598).

| | |
|---|---|
| training set | {adapter["dataset"]} |
| rank, alpha | {adapter["rank"]}, {adapter["alpha"]} |
| targets | {", ".join(recipe["lora"]["targets"])} |
| trainable parameters | {adapter["trainable_parameters"]:,} ({adapter["trainable_percent"]:.4f} %) |
| steps, rows a step | {adapter["steps"]}, {recipe["batch_rows"]} |
| learning rate, seed | {recipe["learning_rate"]:g}, {adapter["seed"]} |
| held-out loss before, after | {heldout["before"]:.4f}, {heldout["after"]:.4f} nats per answer token |

Licences: that of the base model ({base["licence"]}) and that of the training set apply.

```python
from peft import PeftModel
model = PeftModel.from_pretrained(base_model, "this folder")
```
"""
