"""What dvc.lock says of a profile's pipeline: each stage that ran, and the hash and size of what it made."""

from typing import Any

import yaml

from maple.config.params import Params


def stages(params: Params) -> dict[str, dict[str, Any]]:
    """{stage: its entry}; empty where nothing has run. Also of stages that the pipeline no longer has: DVC keeps them."""
    path = params.pipeline.with_name("dvc.lock")
    if not path.is_file():
        return {}
    found = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    return found.get("stages", {})
