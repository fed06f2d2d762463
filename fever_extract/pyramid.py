"""One image at many scales: the whole of it for P-Net, squares of it for the others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from fever_extract.mtcnn import CELL, STRIDE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SCALE_STEP = 0.709  # about half the area from level to level
_SMALL = 20_000  # pixels of a level whose own run of P-Net would cost more than its arithmetic
_AT_ONCE = 64  # crops that are sampled at a time: a crowd has thousands of candidates
_SLACK = 0.05  # of a box's side: how far it may reach over the image's border


class Sheet:
    """Levels of a pyramid side by side in one picture, so that P-Net need not run for each.

    Args:
        levels: each ``(h, w, 3)`` with even sides, the largest first.
        height, width: of the image.

    Attributes:
        pixels: ``(h, w, 3)`` float32.
    """

    def __init__(self, levels: list[torch.Tensor], height: int, width: int) -> None:
        corners, shelves = [], _Shelves(levels[0].shape[1])
        for level in levels:
            corners.append(shelves.place(*level.shape[:2]))
        device = levels[0].device
        self.pixels = torch.zeros(shelves.height, shelves.width, 3, device=device)
        # Cells that reach over a level's border are of no level.
        self._levels = torch.full(
            (_cells(shelves.height), _cells(shelves.width)), -1, device=device
        )
        steps = []
        for number, (level, (top, left)) in enumerate(zip(levels, corners)):
            tall, wide = level.shape[:2]
            self.pixels[top : top + tall, left : left + wide] = level
            row, column = top // STRIDE, left // STRIDE
            self._levels[row : row + _cells(tall), column : column + _cells(wide)] = number
            steps.append((width / wide, height / tall))
        self._corners = torch.tensor([(left, top) for top, left in corners], device=device)
        self._steps = torch.tensor(steps, device=device)
        self.count = len(levels)

    def find(
        self, rows: torch.Tensor, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where P-Net's cells lie in the image.

        Args:
            rows, columns: ``(n,)``, of the cells.

        Returns:
            Which of them are of one level ``(k,)``, these levels ``(k,)`` and boxes ``(k, 4)``.
        """
        (inside,) = (self._levels[rows, columns] >= 0).nonzero(as_tuple=True)
        rows, columns = rows[inside], columns[inside]
        levels = self._levels[rows, columns]
        corners = STRIDE * torch.stack([columns, rows], dim=1) - self._corners[levels]
        steps = self._steps[levels]
        boxes = torch.cat([(corners + 1) * steps, (corners + CELL) * steps], dim=1)
        return inside, levels, boxes


class _Shelves:
    """Places for ever smaller rectangles: each on the first shelf that has room for it."""

    def __init__(self, width: int) -> None:
        self.width, self.height = width, 0
        self._shelves: list[tuple[int, int]] = []  # top, and how much of the width is taken

    def place(self, height: int, width: int) -> tuple[int, int]:
        """Top and left of the next rectangle."""
        for index, (top, taken) in enumerate(self._shelves):
            if taken + width <= self.width:
                self._shelves[index] = (top, taken + width)
                return top, taken
        top = self.height
        self._shelves.append((top, width))
        self.height += height
        return top, 0


def _cells(side: int) -> int:
    """How many cells P-Net has along a side."""
    return (side - CELL) // STRIDE + 1


class Pyramid:
    """One image, halved again and again, from which levels and crops are resampled.

    Coordinates are the full image's. Boxes count pixels from 1 and include their last one, as
    MTCNN's always have. Unlike in facenet-pytorch, corners are not moved to whole pixels: what is
    sampled moves smoothly.

    Args:
        image: ``(h, w, 3)`` uint8 RGB, C-contiguous and writable.
        device: where it is resampled.
    """

    def __init__(self, image: npt.NDArray[np.uint8], device: torch.device) -> None:
        self.height, self.width = image.shape[:2]
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(device)
        # Bytes are resampled many times as fast as floats on a CPU, and not at all on CUDA.
        self._octaves = [pixels if device.type == "cpu" else pixels.float()]

    def contains(self, boxes: torch.Tensor) -> torch.Tensor:
        """Which boxes lie within the image, or nearly so: ``(k,)`` bool."""
        slack = _SLACK * (boxes[:, 2:] - boxes[:, :2])
        size = boxes.new_tensor([self.width, self.height])
        inside = (boxes[:, :2] >= -slack) & (boxes[:, 2:] <= size + slack)
        return inside.all(dim=1)

    def sheets(self, scale: float) -> Iterator[Sheet]:
        """The whole image at ``scale`` and smaller, down to one cell of P-Net."""
        small = []
        while min(self.height, self.width) * scale >= CELL:
            level = self._level(scale)
            scale *= _SCALE_STEP
            if level.shape[0] * level.shape[1] > _SMALL:
                yield Sheet([level], self.height, self.width)
            else:
                small.append(level)
        if small:
            yield Sheet(small, self.height, self.width)

    def crop(self, boxes: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes resampled to ``size``.

        What reaches over the image's border is cut off and the rest is stretched, as in
        facenet-pytorch, and a box without a pixel inside is left out.

        Returns:
            The boxes that remain ``(k, 4)``, and their crops ``(k, size, size, 3)`` float32.
        """
        limit = boxes.new_tensor([self.width, self.height] * 2)
        edges = (boxes - boxes.new_tensor([1, 1, 0, 0])).clamp(min=0).minimum(limit)
        keep = (edges[:, 2:] > edges[:, :2]).all(dim=1)
        boxes, edges = boxes[keep], edges[keep]
        sides = (edges[:, 2:] - edges[:, :2]).amax(dim=1)
        octaves = (sides / size).log2().floor().clamp(min=0).int()
        chosen: list[int] = torch.unique(octaves).tolist()
        crops = boxes.new_empty(len(boxes), size, size, 3)
        for octave in chosen:
            (rows,) = (octaves == octave).nonzero(as_tuple=True)
            for some in torch.split(rows, _AT_ONCE):
                crops[some] = self._sample(octave, edges[some], size)
        return boxes, crops

    def _level(self, scale: float) -> torch.Tensor:
        """The whole image at about ``scale``, with even sides: ``(h, w, 3)``."""
        sides = self.height, self.width
        height, width = (2 * max(CELL // 2, round(side * scale / 2)) for side in sides)
        source = self._octave(max(0, math.floor(-math.log2(scale) + 1e-6)))
        return _resize(source, height, width)[0].permute(1, 2, 0)

    def _octave(self, index: int) -> torch.Tensor:
        """The image halved ``index`` times, or as often as it can be: ``(1, 3, h, w)``."""
        while index >= len(self._octaves):
            last = self._octaves[-1]
            if min(last.shape[2:]) < 2 * CELL:
                return last
            half = _resize(last, -(-last.shape[2] // 2), -(-last.shape[3] // 2))
            # Pixel by pixel, as `_sample` reads them.
            self._octaves.append(half.contiguous(memory_format=torch.channels_last))
        return self._octaves[index]

    def _sample(self, octave: int, edges: torch.Tensor, size: int) -> torch.Tensor:
        """Crops ``(k, size, size, 3)`` of one octave, bilinear.

        Only the pixels that are needed are read, as bytes: as ``roi_align`` would have it, all
        that lies between the crops would become floats first, which takes longer than the rest.
        """
        pixels = self._octave(octave)[0].permute(1, 2, 0)
        height, width = pixels.shape[:2]
        left, right, x = _ticks(edges[:, 0::2] * (width / self.width), size, width)
        upper, lower, y = _ticks(edges[:, 1::2] * (height / self.height), size, height)
        rows = torch.stack([upper, lower], dim=1)[:, :, None, :, None]
        columns = torch.stack([left, right], dim=1)[:, None, :, None, :]
        places = rows * width + columns
        near = pixels.reshape(-1, 3).index_select(0, places.view(-1))
        near = near.view(*places.shape, 3).float()
        across = near[:, :, 0].lerp(near[:, :, 1], x[:, None, None, :, None])
        return across[:, 0].lerp(across[:, 1], y[:, :, None, None])


def _ticks(
    ends: torch.Tensor, count: int, limit: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Centres of ``count`` equal parts of each stretch, between pixels' centres.

    Args:
        ends: ``(k, 2)``, where each begins and ends.
        count: of parts.
        limit: of pixels; beyond the outermost centres the nearest counts.

    Returns:
        ``(k, count)`` each: the pixel before, the one after, and how far it is from the first
        towards the second, 0 to 1.
    """
    steps = (torch.arange(count, device=ends.device) + 0.5) / count
    places = (ends[:, :1] + steps * (ends[:, 1:] - ends[:, :1]) - 0.5).clamp(0, limit - 1)
    before = places.floor()
    after = (before + 1).clamp(max=limit - 1)
    return before.long(), after.long(), places - before


def _resize(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
