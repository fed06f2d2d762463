"""Colours in and around a face: evidence for tracking that says nothing of who the face is.

No network looks at it. A histogram counts the colours of hair, skin and what is behind them; a
second one those of the clothes. Two people before one wall, in like clothes and with like hair
and skin, can't be told apart by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

# x1, y1, x2, y2 in widths and heights of the box, from its upper left corner.
_HEAD = (-0.35, -0.5, 1.35, 1.0)
_CLOTHES = (-0.6, 1.05, 1.6, 2.0)
_SAMPLES = 32  # pixels looked at, across and down
_BINS = (8, 11, 11)  # of brightness, and of two differences of colour; grey is amid a bin
_RANGE = 64  # differences beyond this, of 255, are in the outermost bins
_ENOUGH = 0.3  # share of a region inside the picture that can be compared


@dataclass(frozen=True, eq=False)
class Appearance:
    """Colours in and around one face.

    Attributes:
        head, clothes: ``(968,)`` float32, square roots of a histogram's shares; None where too
            little of the region is inside the picture.
        whole: whether all of the head is inside.
    """

    head: npt.NDArray[np.float32] | None
    clothes: npt.NDArray[np.float32] | None
    whole: bool

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]) -> Appearance:
        """Look at a face's surroundings.

        Args:
            pixels: ``(h, w, 3)`` uint8 RGB.
            box: ``(4,)``: x1, y1, x2, y2 in pixels.
        """
        head = _sample(pixels, box, _HEAD)
        clothes = _sample(pixels, box, _CLOTHES)
        return cls(_histogram(head), _histogram(clothes), len(head) == _SAMPLES**2)

    def blended(self, other: Appearance, weight: float) -> Appearance:
        """A mean of two, in which the other counts for ``weight``, 0 to 1."""
        return Appearance(
            _blend(self.head, other.head, weight),
            _blend(self.clothes, other.clothes, weight),
            other.whole,
        )


def likeness(a: Appearance, b: Appearance) -> tuple[float, float]:
    """Compare two faces' colours.

    Returns:
        The Bhattacharyya coefficients of head and clothes, 0 to 1; NaN where one of them can't be
        seen.
    """
    return _coefficient(a.head, b.head), _coefficient(a.clothes, b.clothes)


def _coefficient(a: npt.NDArray[np.float32] | None, b: npt.NDArray[np.float32] | None) -> float:
    return float("nan") if a is None or b is None else float(a @ b)


def _blend(
    a: npt.NDArray[np.float32] | None, b: npt.NDArray[np.float32] | None, weight: float
) -> npt.NDArray[np.float32] | None:
    if a is None or b is None:
        return a if b is None else b
    blend: npt.NDArray[np.float32] = (1 - weight) * a + weight * b
    blend /= np.float32(np.linalg.norm(blend))
    return blend


def _sample(
    pixels: npt.NDArray[np.uint8],
    box: npt.NDArray[np.float32],
    region: tuple[float, float, float, float],
) -> npt.NDArray[np.float32]:
    """The colours of a grid of points, of those inside the picture, ``(k, 3)``."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = box.astype(float)
    places = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    across = x1 + (x2 - x1) * (region[0] + (region[2] - region[0]) * places)
    down = y1 + (y2 - y1) * (region[1] + (region[3] - region[1]) * places)
    columns = across[(across >= 0) & (across < width)].astype(int)
    rows = down[(down >= 0) & (down < height)].astype(int)
    colours: npt.NDArray[np.float32] = pixels[rows[:, None], columns].astype(np.float32)
    return colours.reshape(-1, 3)


def _histogram(colours: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
    if len(colours) < _ENOUGH * _SAMPLES**2:
        return None
    red, green, blue = colours.T
    planes = (
        (red + green + blue) / (3 * 256),
        (red - green) / (2 * _RANGE) + 0.5,
        (green - blue) / (2 * _RANGE) + 0.5,
    )
    # Each colour is shared out between the two nearest bins of each plane, so that a little more
    # light changes little.
    counts = np.zeros(int(np.prod(_BINS)))
    shares = [(np.zeros(len(colours), int), np.ones(len(colours)))]
    for plane, bins in zip(planes, _BINS):
        place = np.clip(plane, 0, 1) * bins - 0.5
        below = np.floor(place).astype(int)
        above = place - below
        shares = [
            (index * bins + np.clip(below + step, 0, bins - 1), share * part)
            for index, share in shares
            for step, part in ((0, 1 - above), (1, above))
        ]
    for index, share in shares:
        counts += np.bincount(index, share, minlength=len(counts))
    histogram: npt.NDArray[np.float32] = np.sqrt(counts / len(colours)).astype(np.float32)
    return histogram
