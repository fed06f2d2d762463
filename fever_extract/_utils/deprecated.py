"""Old module names, which work for one release more, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_MOVED = {
    "backbones": "models.backbones",
    "card": "hub.card",
    "checkpoint": "models.checkpoint",
    "clips": "video.decoding",
    "config": "models.config",
    "crops": "jobs.crops",
    "drawing": "report.drawing",
    "export": "models.onnx",
    "inputs": "jobs.sources",
    "names": "_utils.names",
    "network": "models.network",
    "reading": "tables.reading",
    "shards": "tables.shards",
}
MOVED = {f"fever_extract.{old}": f"fever_extract.{new}" for old, new in _MOVED.items()}


class _Moved(MetaPathFinder, Loader):
    """Imports a module by its old name as the one that has its place."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        warnings.warn(
            f"{old} is now {MOVED[old]}; the old name will be removed in the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        # Importing returns what is there in the end: one module under two names, not a copy.
        sys.modules[old] = import_module(MOVED[old])


def accept_old_names() -> None:
    """Let the old names be imported."""
    sys.meta_path.append(_Moved())
