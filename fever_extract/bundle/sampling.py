"""NumPy and Pillow counterpart of the torch resampling; a part of fever_onnx.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fever_extract.alignment import SUPERSAMPLE, surroundings

if TYPE_CHECKING:
    import numpy.typing as npt


def cut_out(
    pixels: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.float32]:
    """One crop ``(3, s, s)``, by its map to the image's pixels; the edge is repeated."""
    (left, top, right, bottom), reduced, matrix = surroundings(matrix, size, *pixels.shape[:2])
    region = resize(pixels[top:bottom, left:right], *reduced)
    count = size * SUPERSAMPLE
    steps = (np.arange(count) + 0.5) / SUPERSAMPLE
    columns, rows = np.meshgrid(steps, steps)
    x, y = (row[0] * columns + row[1] * rows + row[2] - 0.5 for row in matrix)
    left_, right_, across = neighbours(x, region.shape[1])
    upper, lower, down = neighbours(y, region.shape[0])
    above = mix(region[upper, left_], region[upper, right_], across)
    below = mix(region[lower, left_], region[lower, right_], across)
    samples = (above + down[..., None] * (below - above)).reshape(
        size, SUPERSAMPLE, size, SUPERSAMPLE, 3
    )
    return np.ascontiguousarray(samples.mean(axis=(1, 3)).transpose(2, 0, 1), np.float32)


def resize(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Bilinear, and antialiased where it reduces."""
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def ticks(ends: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Centres ``(k, count)`` of ``count`` equal parts of each stretch ``(k, 2)``."""
    steps = ((np.arange(count) + 0.5) / count).astype(np.float32)
    places: npt.NDArray[np.float32] = (
        ends[:, :1] + steps * (ends[:, 1:] - ends[:, :1]) - np.float32(0.5)
    )
    return places


def neighbours(
    places: npt.NDArray[np.floating], limit: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """The pixels before and after each place, and how far it is from the first, 0 to 1.

    Beyond the outermost of ``limit`` pixels the nearest counts.
    """
    places = places.clip(0, limit - 1)
    before = np.floor(places)
    after = np.minimum(before + 1, limit - 1)
    return before.astype(int), after.astype(int), (places - before).astype(np.float32)


def mix(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], part: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Between two pixels, each with its channels."""
    start = first.astype(np.float32)
    return start + part[..., None] * (second - start)
