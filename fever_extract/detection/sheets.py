"""Several levels of image pyramids as one image, so that P-Net on torch runs once for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract.detection.parameters import CELL, STRIDE

if TYPE_CHECKING:
    import numpy.typing as npt

_SMALL = 20_000  # pixels of a level whose own run of P-Net would cost more than its arithmetic


class Sheet:
    """Levels packed into one image.

    Args:
        levels: each ``(h, w, 3)`` with even sides.
        numbers: what `find` is to call them.

    Attributes:
        pixels: ``(h, w, 3)``, in the levels' dtype.
        count: of levels.
    """

    def __init__(self, levels: Sequence[torch.Tensor], numbers: Sequence[int]) -> None:
        self.count = len(levels)
        order = sorted(range(len(levels)), key=lambda index: -len(levels[index]))
        shelves = _Shelves(max(level.shape[1] for level in levels))
        places = [shelves.place(*levels[index].shape[:2]) for index in order]
        self.pixels = levels[0].new_zeros(shelves.height, shelves.width, 3)
        # Cells that reach over a level's border are of no level.
        self._owners = np.full((cells(shelves.height), cells(shelves.width)), -1)
        self._numbers = np.array([numbers[index] for index in order])
        self._corners = np.array(places) // STRIDE
        for owner, (index, (top, left)) in enumerate(zip(order, places)):
            tall, wide = levels[index].shape[:2]
            self.pixels[top : top + tall, left : left + wide] = levels[index]
            row, column = top // STRIDE, left // STRIDE
            self._owners[row : row + cells(tall), column : column + cells(wide)] = owner

    def find(
        self, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
    ) -> tuple[
        npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]
    ]:
        """Find the levels that cells of the sheet are of.

        Args:
            rows, columns: ``(n,)``, of the cells.

        Returns:
            Which of them are of one level, the levels' numbers, and rows and columns in these,
            each ``(k,)``.
        """
        owners = self._owners[rows, columns]
        (inside,) = (owners >= 0).nonzero()
        owners = owners[inside]
        top, left = self._corners[owners].T
        return inside, self._numbers[owners], rows[inside] - top, columns[inside] - left


def pack(levels: Sequence[torch.Tensor]) -> Iterator[Sheet]:
    """Give each large level a sheet of its own, and the small ones one together."""
    small = []
    for number, level in enumerate(levels):
        if level.shape[0] * level.shape[1] > _SMALL:
            yield Sheet([level], [number])
        else:
            small.append(number)
    if small:
        yield Sheet([levels[number] for number in small], small)


class _Shelves:
    """Shelf packing of rectangles of falling height: each on the first shelf with room."""

    def __init__(self, width: int) -> None:
        self.width, self.height = width, 0
        self._shelves: list[tuple[int, int]] = []  # top, and how much of the width is taken

    def place(self, height: int, width: int) -> tuple[int, int]:
        """Place the next rectangle; return its top and left."""
        for index, (top, taken) in enumerate(self._shelves):
            if taken + width <= self.width:
                self._shelves[index] = (top, taken + width)
                return top, taken
        top = self.height
        self._shelves.append((top, width))
        self.height += height
        return top, 0


def cells(side: int) -> int:
    """Count P-Net's output cells along a side."""
    return (side - CELL) // STRIDE + 1
