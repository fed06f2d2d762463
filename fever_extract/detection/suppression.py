"""Non-maximum suppression in NumPy: of overlapping boxes the best stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def suppress(
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    overlap: float,
    *,
    groups: npt.NDArray[np.generic] | None = None,
    over_smaller: bool = False,
) -> npt.NDArray[np.intp]:
    """Return the indices of the boxes that non-maximum suppression keeps, best first.

    Args:
        boxes: ``(k, 4)``.
        scores: ``(k,)``.
        overlap: the worse of two is dropped above this.
        groups: ``(k,)``; only boxes of the same are compared.
        over_smaller: the intersection is over the smaller area rather than the union, in pixels
            of which the last counts.
    """
    corners = boxes.astype(np.float64)
    last = 1 if over_smaller else 0
    areas = (corners[:, 2:] - corners[:, :2] + last).prod(axis=1)
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[waiting, :2])
        high = np.minimum(corners[best, 2:], corners[waiting, 2:])
        shared = np.maximum(high - low + last, 0).prod(axis=1)
        if over_smaller:
            whole = np.minimum(areas[best], areas[waiting])
        else:
            whole = areas[best] + areas[waiting] - shared
        apart = shared <= overlap * whole
        if groups is not None:
            apart |= groups[waiting] != groups[best]
        waiting = waiting[apart]
    return np.array(kept, np.intp)
