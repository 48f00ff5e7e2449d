"""A trained adapter's folder: weights that stock PEFT loads, the record, the curve and the model card."""

from pathlib import Path
from typing import Any

from maple.core import storage
from maple.config.catalogue import Source

SCHEMA = "maple.adapter/1"


def save(tuned, folder: Path, source: Source) -> None:
    """Write what stock `PeftModel.from_pretrained` loads, naming the base by its pin; the same bytes at every call.

    PEFT keeps the target modules as a set and writes them in any order. No embedding is trained; told so, PEFT does
    not ask the Hub for the base's configuration.
    """
    config = tuned.peft_config["default"]
    config.base_model_name_or_path, config.revision = source.hub_id, source.revision
    tuned.save_pretrained(folder, save_embedding_layers=False)
    written = storage.read_json(folder / "adapter_config.json")
    storage.write_json(folder / "adapter_config.json", written | {"target_modules": sorted(written["target_modules"])})


def card(adapter: dict[str, Any], base: dict[str, Any]) -> str:
    """The model card (README.md beside the weights), written from the adapter's record and its base's source."""
    smoke = "> **SMOKE**: a tiny model trained on sample rows. It is good for nothing but testing the pipeline.\n\n"
    recipe = adapter["recipe"]
    heldout = adapter["heldout_loss"]
    return f"""---
base_model: {base["hub_id"]}
library_name: peft
license: other
tags: [lora, maple-repro]
---
# {adapter["name"]}

{smoke if adapter["profile"] == "smoke" else ""}A LoRA adapter for {base["hub_id"]} at revision `{base["revision"]}`, trained on the base at **{adapter["bits"]} bits**
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
