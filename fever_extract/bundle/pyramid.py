"""An image at many scales, on NumPy and Pillow; a part of fever_onnx.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.bundle.sampling import mix, neighbours, resize, ticks
from fever_extract.detection.boxes import coverage
from fever_extract.detection.parameters import CELL, GREY, SCALE_STEP

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass
class Pyramid:
    """One image, halved again and again, from which levels and crops are resampled.

    Boxes count pixels from 1 and include their last one, as MTCNN's always have.
    """

    pixels: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        self.height, self.width = self.pixels.shape[:2]
        self._octaves = [self.pixels]

    def levels(self, scale: float) -> Iterator[npt.NDArray[np.uint8]]:
        """The whole image at ``scale`` and smaller, down to one cell of P-Net: ``(h, w, 3)``."""
        while min(self.height, self.width) * scale >= CELL:
            sides = self.height, self.width
            height, width = (2 * max(CELL // 2, round(side * scale / 2)) for side in sides)
            source = self._octave(max(0, math.floor(-math.log2(scale) + 1e-6)))
            yield resize(source, height, width)
            scale *= SCALE_STEP

    def crop(
        self, boxes: npt.NDArray[np.float32], size: int, padded: bool = False
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Boxes ``(n, 4)`` resampled to ``(k, size, size, 3)``, and the indices of these k.

        What reaches over the image's border is cut off and the rest is stretched, or it is grey
        (``padded``); a box without a pixel inside is left out.
        """
        limits = np.array([self.width, self.height] * 2, np.float32)
        corners = boxes - np.array([1, 1, 0, 0], np.float32)
        edges = np.minimum(np.maximum(corners, 0), limits)
        (kept,) = (edges[:, 2:] > edges[:, :2]).all(axis=1).nonzero()
        edges = (corners if padded else edges)[kept]
        octaves = np.floor(np.log2((edges[:, 2:] - edges[:, :2]).max(axis=1) / size))
        octaves = np.maximum(octaves, 0).astype(int)
        crops = np.empty((len(kept), size, size, 3), np.float32)
        for octave in np.unique(octaves):
            (some,) = (octaves == octave).nonzero()
            source = self._octave(octave)
            height, width = source.shape[:2]
            scaled = edges[some] * (np.array([width, height] * 2, np.float32) / limits)
            left, right, x = neighbours(ticks(scaled[:, 0::2], size), width)
            upper, lower, y = neighbours(ticks(scaled[:, 1::2], size), height)
            left, right = left[:, None, :], right[:, None, :]
            x = np.repeat(x[:, None, :], size, axis=1)
            above, below = (
                mix(source[rows, left], source[rows, right], x)
                for rows in (upper[:, :, None], lower[:, :, None])
            )
            crops[some] = above + y[:, :, None, None] * (below - above)
        if padded:
            crops -= np.float32(GREY)
            crops *= coverage(edges, limits[:2], size)[..., None]
            crops += np.float32(GREY)
        return kept, crops

    def _octave(self, index: int) -> npt.NDArray[np.uint8]:
        """The image halved ``index`` times, or as often as it can be."""
        while index >= len(self._octaves):
            last = self._octaves[-1]
            height, width = last.shape[:2]
            if min(height, width) < 2 * CELL:
                return last
            self._octaves.append(resize(last, -(-height // 2), -(-width // 2)))
        return self._octaves[index]
