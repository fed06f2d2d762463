"""Images at many scales: the whole of them for P-Net, squares of them for the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from fever_extract.detection.parameters import CELL, SCALE_STEP, SLACK, STRIDE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SMALL = 20_000  # pixels of a level whose own run of P-Net would cost more than its arithmetic
_AT_ONCE = 64  # crops that are sampled at a time: a crowd has thousands of candidates
_OCTAVES = 32  # more than any image has


class Level(NamedTuple):
    """One image at one scale.

    Attributes:
        image: its index.
        pixels: ``(h, w, 3)``, with even sides.
        steps: how many of the image's pixels one of these is, in x and in y.
    """

    image: int
    pixels: torch.Tensor
    steps: tuple[float, float]

    @property
    def area(self) -> int:
        """In pixels."""
        return self.pixels.shape[0] * self.pixels.shape[1]


class Sheet:
    """Levels side by side in one picture, so that P-Net need not run for each.

    Args:
        levels: of any images.

    Attributes:
        pixels: ``(h, w, 3)`` float32.
        count: of levels.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        levels = sorted(levels, key=lambda level: level.pixels.shape[0], reverse=True)
        shelves = _Shelves(max(level.pixels.shape[1] for level in levels))
        corners = [shelves.place(*level.pixels.shape[:2]) for level in levels]
        device = levels[0].pixels.device
        self.pixels = torch.zeros(shelves.height, shelves.width, 3, device=device)
        # Cells that reach over a level's border are of no level.
        numbers = torch.full((_cells(shelves.height), _cells(shelves.width)), -1)
        for number, (level, (top, left)) in enumerate(zip(levels, corners)):
            tall, wide = level.pixels.shape[:2]
            self.pixels[top : top + tall, left : left + wide] = level.pixels
            row, column = top // STRIDE, left // STRIDE
            numbers[row : row + _cells(tall), column : column + _cells(wide)] = number
        self._levels = numbers.to(device)
        self._corners = torch.tensor([(left, top) for top, left in corners], device=device)
        self._steps = torch.tensor([level.steps for level in levels], device=device)
        self._images = torch.tensor([level.image for level in levels], device=device)
        self.count = len(levels)

    def find(
        self, rows: torch.Tensor, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where P-Net's cells lie in the images.

        Args:
            rows, columns: ``(n,)``, of the cells.

        Returns:
            Which of them are of one level ``(k,)``, these levels ``(k,)``, their images ``(k,)``
            and boxes ``(k, 4)``.
        """
        (inside,) = (self._levels[rows, columns] >= 0).nonzero(as_tuple=True)
        rows, columns = rows[inside], columns[inside]
        levels = self._levels[rows, columns]
        corners = STRIDE * torch.stack([columns, rows], dim=1) - self._corners[levels]
        steps = self._steps[levels]
        boxes = torch.cat([(corners + 1) * steps, (corners + CELL) * steps], dim=1)
        return inside, levels, self._images[levels], boxes


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

    Args:
        image: ``(h, w, 3)`` uint8 RGB, C-contiguous and writable.
        device: where it is resampled.
    """

    def __init__(self, image: npt.NDArray[np.uint8], device: torch.device) -> None:
        self.height, self.width = image.shape[:2]
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(device)
        # Bytes are resampled many times as fast as floats on a CPU, and not at all on CUDA.
        self._octaves = [pixels if device.type == "cpu" else pixels.float()]

    def levels(self, scale: float) -> Iterator[torch.Tensor]:
        """The whole image at ``scale`` and smaller, down to one cell of P-Net: ``(h, w, 3)``."""
        while min(self.height, self.width) * scale >= CELL:
            sides = self.height, self.width
            height, width = (2 * max(CELL // 2, round(side * scale / 2)) for side in sides)
            source = self.octave(max(0, math.floor(-math.log2(scale) + 1e-6)))
            yield _resize(source, height, width)[0].permute(1, 2, 0)
            scale *= SCALE_STEP

    def octave(self, index: int) -> torch.Tensor:
        """The image halved ``index`` times, or as often as it can be: ``(1, 3, h, w)``."""
        while index >= len(self._octaves):
            last = self._octaves[-1]
            if min(last.shape[2:]) < 2 * CELL:
                return last
            half = _resize(last, -(-last.shape[2] // 2), -(-last.shape[3] // 2))
            # Pixel by pixel, as crops are read.
            self._octaves.append(half.contiguous(memory_format=torch.channels_last))
        return self._octaves[index]


class Pyramids:
    """Several images, of any sizes: what is asked of one is asked of all in the same calls.

    Coordinates are the full images'. Boxes count pixels from 1 and include their last one, as
    MTCNN's always have. Unlike in facenet-pytorch, corners are not moved to whole pixels: what is
    sampled moves smoothly.

    Args:
        images: as `Pyramid` takes them.
        device: where they are resampled.
    """

    def __init__(self, images: Sequence[npt.NDArray[np.uint8]], device: torch.device) -> None:
        self._pyramids = [Pyramid(image, device) for image in images]
        sizes = [(one.width, one.height) for one in self._pyramids]
        self._sizes = torch.tensor(sizes, dtype=torch.float32, device=device).reshape(-1, 2)

    def sheets(self, scales: Sequence[float]) -> Iterator[Sheet]:
        """Each whole image at its scale and smaller."""
        small = []
        for index, (pyramid, scale) in enumerate(zip(self._pyramids, scales)):
            for pixels in pyramid.levels(scale):
                height, width = pixels.shape[:2]
                level = Level(index, pixels, (pyramid.width / width, pyramid.height / height))
                if level.area > _SMALL:
                    yield Sheet([level])
                else:
                    small.append(level)
        if small:
            yield Sheet(small)

    def contains(self, owners: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Which boxes lie within their images, or nearly so.

        Args:
            owners: ``(k,)``, the images' indices.
            boxes: ``(k, 4)``.

        Returns:
            ``(k,)`` bool.
        """
        slack = SLACK * (boxes[:, 2:] - boxes[:, :2])
        inside = (boxes[:, :2] >= -slack) & (boxes[:, 2:] <= self._sizes[owners] + slack)
        return inside.all(dim=1)

    def crop(
        self, owners: torch.Tensor, boxes: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes resampled to ``size``.

        What reaches over the image's border is cut off and the rest is stretched, as in
        facenet-pytorch, and a box without a pixel inside is left out.

        Args:
            owners: ``(n,)``, the images' indices.
            boxes: ``(n, 4)``.
            size: side of a crop.

        Returns:
            Indices of the boxes that remain ``(k,)``, and crops ``(k, size, size, 3)`` float32.
        """
        limits = self._sizes[owners].repeat(1, 2)
        edges = (boxes - boxes.new_tensor([1, 1, 0, 0])).clamp(min=0).minimum(limits)
        (kept,) = (edges[:, 2:] > edges[:, :2]).all(dim=1).nonzero(as_tuple=True)
        owners, edges = owners[kept], edges[kept]
        octaves = ((edges[:, 2:] - edges[:, :2]).amax(dim=1) / size).log2().floor().clamp(min=0)
        sources = owners * _OCTAVES + octaves.long()
        crops = edges.new_empty(len(kept), size, size, 3)
        order = sources.argsort()
        for start in range(0, len(order), _AT_ONCE):
            some = order[start : start + _AT_ONCE]
            crops[some] = self._sample(sources[some], edges[some], size)
        return kept, crops

    def _sample(self, sources: torch.Tensor, edges: torch.Tensor, size: int) -> torch.Tensor:
        """Crops ``(k, size, size, 3)``, bilinear, each from its source, image and octave in one.

        Only the pixels that are needed are read, as bytes: as ``roi_align`` would have it, all
        that lies between the crops would become floats first, which takes longer than the rest.
        """
        chosen, counts = torch.unique_consecutive(sources, return_counts=True)
        images = [divmod(source, _OCTAVES) for source in chosen.tolist()]
        octaves = [self._pyramids[image].octave(index)[0] for image, index in images]
        shapes = [(pixels.shape[2], pixels.shape[1]) for pixels in octaves]
        limits = torch.tensor(shapes, device=edges.device).repeat_interleave(counts, dim=0)
        edges = edges * (limits / self._sizes[sources // _OCTAVES]).repeat(1, 2)
        left, right, x = _ticks(edges[:, 0::2], size, limits[:, :1])
        upper, lower, y = _ticks(edges[:, 1::2], size, limits[:, 1:])
        rows = torch.stack([upper, lower], dim=1)[:, :, None, :, None]
        columns = torch.stack([left, right], dim=1)[:, None, :, None, :]
        places = rows * limits[:, :1, None, None, None] + columns
        near = torch.cat(
            [
                pixels.permute(1, 2, 0).reshape(-1, 3).index_select(0, part.reshape(-1))
                for pixels, part in zip(octaves, torch.split(places, counts.tolist()))
            ]
        )
        near = near.view(*places.shape, 3).float()
        across = near[:, :, 0].lerp(near[:, :, 1], x[:, None, None, :, None])
        return across[:, 0].lerp(across[:, 1], y[:, :, None, None])


def _ticks(
    ends: torch.Tensor, count: int, limits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Centres of ``count`` equal parts of each stretch, between pixels' centres.

    Args:
        ends: ``(k, 2)``, where each begins and ends.
        count: of parts.
        limits: ``(k, 1)``, of pixels; beyond the outermost centres the nearest counts.

    Returns:
        ``(k, count)`` each: the pixel before, the one after, and how far it is from the first
        towards the second, 0 to 1.
    """
    steps = (torch.arange(count, device=ends.device) + 0.5) / count
    places = ends[:, :1] + steps * (ends[:, 1:] - ends[:, :1]) - 0.5
    places = places.clamp(min=0).minimum(limits - 1)
    before = places.floor()
    after = (before + 1).minimum(limits - 1)
    return before.long(), after.long(), places - before


def _resize(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
