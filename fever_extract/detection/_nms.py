"""torchvision's non-maximum suppression, without two seconds of imports.

``import torchvision`` brings all of its models and, by way of them, torch's compiler; the
operator is in a library of its own.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch


def nms(boxes: torch.Tensor, scores: torch.Tensor, overlap: float) -> torch.Tensor:
    """Return the indices that non-maximum suppression keeps ``(k,)``, best first.

    Args:
        boxes: ``(n, 4)``.
        scores: ``(n,)``, of the same dtype.
        overlap: intersection over union above which the worse of two is dropped.
    """
    if not hasattr(torch.ops.torchvision, "nms"):
        _load()
    kept: torch.Tensor = torch.ops.torchvision.nms(boxes, scores, overlap)
    return kept


def _load() -> None:
    spec = find_spec("torchvision")  # does not import it
    for folder in (spec and spec.submodule_search_locations) or ():
        for library in sorted(Path(folder).glob("_C*")):
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except OSError:
                continue
            if hasattr(torch.ops.torchvision, "nms"):
                return
    import torchvision.ops  # noqa: F401  (where the library has another name, or needs its help)
