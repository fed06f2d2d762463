"""Box arithmetic in NumPy, shared by the package's detector and a bundle's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def move(
    boxes: npt.NDArray[np.float32], offsets: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Apply a network's box regression, whose offsets are in units of the box's sides."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    moved: npt.NDArray[np.float32] = boxes + offsets * np.concatenate([sides, sides], axis=1)
    return moved


def square(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Make boxes square: same centre, longer side."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def overlaps(
    boxes: npt.NDArray[np.float32], others: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Compute intersection over union of boxes ``(n, 4)`` and others ``(m, 4)``: ``(n, m)``."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    areas, their_areas = ((some[:, 2:] - some[:, :2]).prod(axis=1) for some in (boxes, others))
    ratio: npt.NDArray[np.float32] = shared / (areas[:, None] + their_areas - shared)
    return ratio


def coverage(
    edges: npt.NDArray[np.float32], limits: npt.NDArray[np.float32], size: int
) -> npt.NDArray[np.float32]:
    """Compute how much of each pixel of crops lies within their pictures, 0 to 1.

    Args:
        edges: ``(k, 4)``, of what is cropped.
        limits: ``(k, 2)`` or ``(2,)``: the pictures' widths and heights.
        size: side of a crop.

    Returns:
        ``(k, size, size)``.
    """
    steps = (edges[:, 2:] - edges[:, :2])[:, :, None] / np.float32(size)
    centres = edges[:, :2, None] + (np.arange(size, dtype=np.float32) + 0.5) * steps
    depths = np.minimum(centres, limits[..., None] - centres) / steps
    across, down = np.minimum(np.maximum(depths + 0.5, 0), 1).swapaxes(0, 1)
    share: npt.NDArray[np.float32] = down[:, :, None] * across[:, None, :]
    return share
