"""A trained adapter's folder: weights that stock PEFT loads, the record and the curve."""

from pathlib import Path

from maple.config.catalogue import Source
from maple.core import storage


def save(tuned, folder: Path, source: Source) -> None:
    """Write what stock `PeftModel.from_pretrained` loads, naming the base by its pin; the same bytes at every call.

    PEFT keeps the target modules as a set and writes them in any order. No embedding is trained; told so, PEFT does
    not ask the Hub for the base's configuration.
    """
    config = tuned.peft_config["default"]
    config.base_model_name_or_path, config.revision = source.hub_id, source.revision
    tuned.save_pretrained(folder, save_embedding_layers=False)
    # PEFT's own model card is an empty form that names this machine's folders; ours is maple/report/model_card.py.
    (folder / "README.md").unlink(missing_ok=True)
    written = storage.read_json(folder / "adapter_config.json")
    storage.write_json(folder / "adapter_config.json", written | {"target_modules": sorted(written["target_modules"])})
