"""Following faces from frame to frame: where O-Net looks, and what counts as lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fever_extract.detection.parameters import OVERLAP, THRESHOLD, Detections
from fever_extract.detection.suppression import suppress

if TYPE_CHECKING:
    import numpy.typing as npt

JUMP = 0.5
"""Intersection over union of a box with itself a frame before, below which it is another's."""

_REACH = 0.2  # how far around a face is looked, in its sides
_GRID = 16  # regions begin at multiples of so many pixels, so that halving falls as in the picture
_GREY = 127  # the networks' mean


def surroundings(
    image: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Cut a face and what is around it out of an image; beyond the border it is grey.

    Args:
        image: ``(h, w, 3)``.
        box: ``(4,)``: x1, y1, x2, y2 in pixels.

    Returns:
        The region, C-contiguous, and its left and top in the image.
    """
    x1, y1, x2, y2 = box.tolist()
    reach = (0.5 + _REACH) * max(x2 - x1, y2 - y1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    left, top = (int((edge - reach) // _GRID) * _GRID for edge in (x, y))
    right, bottom = int(x + reach) + 1, int(y + reach) + 1
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inside.shape[:2] == (bottom - top, right - left):
        return np.ascontiguousarray(inside), (left, top)
    region = np.full((bottom - top, right - left, 3), _GREY, np.uint8)
    region[max(0, -top) :, max(0, -left) :][: inside.shape[0], : inside.shape[1]] = inside
    return region, (left, top)


def is_lost(before: Detections, now: Detections, smallest: float, min_confidence: float) -> bool:
    """Tell whether any of some faces is lost, so that they must be detected anew.

    Args:
        before: the faces of a frame.
        now: where they were followed to in the next.
        smallest, min_confidence: as in `fever_extract.detection.detector.Detector.detect`.
    """
    if not (now.scores >= max(THRESHOLD, min_confidence)).all():  # NaN is lost too
        return True
    shared = np.minimum(before.boxes[:, 2:], now.boxes[:, 2:]) - np.maximum(
        before.boxes[:, :2], now.boxes[:, :2]
    )
    both = np.maximum(shared, 0).prod(axis=1)
    areas = [(faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1) for faces in (before, now)]
    if (both < JUMP * (areas[0] + areas[1] - both)).any() or (areas[1] < smallest**2).any():
        return True
    # Two that became one.
    return len(suppress(now.boxes, now.scores, OVERLAP, over_smaller=True)) < len(now)
