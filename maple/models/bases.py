"""A base that several models are asked on, loaded once. Torch is loaded with the first of them, not before."""

import gc
from pathlib import Path

from maple.config.catalogue import Source
from maple.models import adapter_check


class Bases:
    """One base in memory for the models that are asked on it one after the other: an adapter is put on it and taken off.

    A base of other weights or another width takes its place; there are never two. What `tuned` gave is another model
    after the next call.
    """

    def __init__(self) -> None:
        self._base = None
        self._of: tuple | None = None
        self._tuned = None

    def tuned(self, weights: Path, folder: Path | None, source: Source | None, *how):
        """As `load_tuned`."""
        from maple.models import loading

        if self._tuned is not None:
            self._base, self._tuned = self._tuned.unload(), None
        alone = folder is not None and not adapter_check.leaves_its_base(folder)
        if alone or self._of != (weights, how):
            self.drop()
        if alone:
            return loading.load_tuned(weights, folder, source, *how)
        if self._base is None:
            self._base, self._of = loading.load_base(weights, *how).eval(), (weights, how)
        if folder is None:
            return self._base
        try:
            self._tuned = loading.attach_adapter(self._base, folder, source)
        except BaseException:
            # Half an adapter may be on it.
            self.drop()
            raise
        return self._tuned

    def drop(self) -> None:
        import torch

        self._base = self._of = self._tuned = None
        # A model holds itself in cycles.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
