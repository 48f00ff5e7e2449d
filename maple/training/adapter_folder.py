"""What training leaves: weights that stock PEFT or transformers loads, beside the record and the curve."""

from pathlib import Path

import torch

from maple.config.catalogue import Source
from maple.core import storage


def save(tuned, folder: Path, source: Source, start: Path | None = None) -> None:
    """Write what stock `PeftModel.from_pretrained` loads, naming the base by its pin; the same bytes at every call.

    A fully finetuned model is written whole, in its base's bfloat16. An adapter that began by changing the base
    (PiSSA, whose beginning is in `start`) becomes a LoRA of twice the rank beside the base as it was: PEFT's
    conversion, equal within the rounding of what was left over to bfloat16.

    PEFT keeps modules as a set and writes them in any order. No embedding is trained; told so, PEFT does not ask the
    Hub for the base's configuration.
    """
    if not hasattr(tuned, "peft_config"):
        tuned.to(torch.bfloat16).save_pretrained(folder)
        return
    config = tuned.peft_config["default"]
    config.base_model_name_or_path, config.revision = source.hub_id, source.revision
    begun = {"path_initial_model_for_weight_conversion": str(start)} if start else {}
    tuned.save_pretrained(folder, save_embedding_layers=False, **begun)
    # PEFT's own model card is an empty form that names this machine's folders; ours is maple/report/model_card.py.
    (folder / "README.md").unlink(missing_ok=True)
    written = storage.read_json(folder / "adapter_config.json")
    modules = {name: sorted(written[name]) for name in ("target_modules", "feedforward_modules") if written.get(name)}
    storage.write_json(folder / "adapter_config.json", written | modules)
