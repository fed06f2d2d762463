"""Non-maximum suppression on NumPy.

torchvision's is faster for thousands of boxes, but importing torchvision takes longer than
importing PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_ROWS = 16  # fastest of 16 to 128


def suppress(
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    groups: npt.NDArray[np.integer],
    overlap: float,
    *,
    over_smaller: bool = False,
) -> npt.NDArray[np.intp]:
    """Return the indices of the boxes that non-maximum suppression keeps, best first.

    Args:
        boxes: ``(k, 4)``: x1, y1, x2, y2.
        scores: ``(k,)``.
        groups: ``(k,)``; boxes of different groups are not compared.
        overlap: of two boxes that overlap more, the worse is dropped.
        over_smaller: measure the intersection over the smaller area rather than over the
            union; x2 and y2 are then of the last pixel inside.
    """
    waiting = np.argsort(-scores, kind="stable")
    last = 1 if over_smaller else 0
    x1, y1, x2, y2 = boxes[waiting].astype(np.float64).T
    areas, groups = (x2 - x1 + last) * (y2 - y1 + last), groups[waiting]
    kept = []
    while len(waiting):
        # The best few against all at once: on NumPy a small matrix takes no longer than a row.
        best = slice(_ROWS), None
        width = np.minimum(x2, x2[best]) - np.maximum(x1, x1[best]) + last
        height = np.minimum(y2, y2[best]) - np.maximum(y1, y1[best]) + last
        shared = width.clip(min=0) * height.clip(min=0)
        whole = np.minimum(areas, areas[best]) if over_smaller else areas + areas[best] - shared
        near = (shared > overlap * whole) & (groups == groups[best])
        dropped = np.zeros(len(waiting), bool)
        for place, row in enumerate(near):
            if not dropped[place]:
                kept.append(waiting[place])
                dropped |= row
            dropped[place] = True
        left = ~dropped
        waiting, groups, areas = waiting[left], groups[left], areas[left]
        x1, y1, x2, y2 = x1[left], y1[left], x2[left], y2[left]
    return np.array(kept, np.intp)
