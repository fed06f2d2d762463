"""Images on a GPU: all their octaves as one list of pixels, and canvases of levels for P-Net.

What `fever_extract.detection.pyramid` is to a CPU: the same levels and crops, in few calls.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from fever_extract._utils.sampling import resize, sample, upload, upload_pixels
from fever_extract.detection.parameters import CELL, GREY, SCALE_STEP, STRIDE

if TYPE_CHECKING:
    import numpy.typing as npt

_CANVAS = 8_000_000  # pixels at most, unless one level has more: P-Net takes 150 bytes for each


class Atlas:
    """Images and their halved octaves on a device, as one list of pixels.

    Coordinates are as in `fever_extract.detection.pyramid.Pyramids`.

    Args:
        images: each ``(h, w, 3)`` uint8 RGB, of any size.
        device: where they go.
    """

    def __init__(self, images: Sequence[npt.NDArray[np.uint8]], device: torch.device) -> None:
        self.device = device
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            groups[image.shape[:2]].append(index)
        ordered = [images[index] for group in groups.values() for index in group]
        pixels, starts = upload_pixels(ordered, device)
        parts, length = [pixels], len(pixels)
        # Of each image and octave: where its pixels begin, width and height.
        places = np.zeros((len(images), _octave_count(images), 3), np.int64)
        self._groups: list[tuple[list[int], list[torch.Tensor]]] = []
        for (height, width), group in groups.items():
            start, starts = starts[0], starts[len(group) :]
            shape = len(group), height, width, 3
            octave = pixels[start : start + len(group) * height * width].view(shape)
            octaves = [octave.permute(0, 3, 1, 2)]
            for number in range(places.shape[1]):
                tall, wide = octaves[-1].shape[2:]
                if number and min(tall, wide) >= 2 * CELL:
                    octaves.append(resize(octaves[-1], -(-tall // 2), -(-wide // 2)))
                    tall, wide = octaves[-1].shape[2:]
                    parts.append(octaves[-1].permute(0, 2, 3, 1).reshape(-1, 3))
                    start, length = length, length + len(parts[-1])
                begins = start + tall * wide * np.arange(len(group))
                places[group, number, 0] = begins
                places[group, number, 1:] = wide, tall
            self._groups.append((group, octaves))
        self._pixels = torch.cat(parts)
        self._places = upload(places, device)

    def canvases(self, scales: Sequence[float]) -> Iterator[Canvas]:
        """Each image at its scale and smaller, down to one cell of P-Net."""
        levels: list[_Level] = []
        area = 0
        for level in self._levels(scales):
            here = math.prod(level.pixels.shape[2:]) * len(level.images)
            if levels and area + here > _CANVAS:
                yield Canvas(levels)
                levels, area = [], 0
            levels.append(level)
            area += here
        if levels:
            yield Canvas(levels)

    def _levels(self, scales: Sequence[float]) -> Iterator[_Level]:
        for group, octaves in self._groups:
            height, width = octaves[0].shape[2:]
            alike: dict[float, list[int]] = defaultdict(list)
            for place, index in enumerate(group):
                alike[scales[index]].append(place)
            for largest, chosen in alike.items():
                scale = largest
                while min(height, width) * scale >= CELL:
                    tall, wide = (
                        2 * max(CELL // 2, round(side * scale / 2)) for side in (height, width)
                    )
                    octave = min(max(0, math.floor(-math.log2(scale) + 1e-6)), len(octaves) - 1)
                    step = max(1, _CANVAS // (tall * wide))
                    for start in range(0, len(chosen), step):
                        some = chosen[start : start + step]
                        source = octaves[octave]
                        if len(some) < len(group):
                            source = torch.stack([source[place] for place in some])
                        images = [group[place] for place in some]
                        steps = width / wide, height / tall
                        yield _Level(images, resize(source, tall, wide), steps)
                    scale *= SCALE_STEP

    def crop(
        self, owners: torch.Tensor, boxes: torch.Tensor, size: int, *, padded: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Resample boxes to ``size``, as `fever_extract.detection.pyramid.Pyramids.crop`.

        Returns:
            Crops ``(k, size, size, 3)`` float32, and which boxes have a pixel inside ``(k,)``:
            other crops mean nothing.
        """
        limits = self._places[owners, 0, 1:].float()
        corners = low, high = boxes[:, :2] - 1, boxes[:, 2:]
        low, high = low.clamp(min=0).minimum(limits), high.clamp(min=0).minimum(limits)
        inside = (high > low).all(dim=1)
        if padded:
            low, high = corners
        octaves = ((high - low).amax(dim=1) / size).clamp(min=1).log2().floor().long()
        places = self._places[owners, octaves.clamp(max=self._places.shape[1] - 1)]
        shrunk = places[:, 1:] / limits
        low, high = low * shrunk, high * shrunk
        steps = (high - low)[:, :, None] / size
        centres = low[:, :, None] + (torch.arange(size, device=boxes.device) + 0.5) * steps
        x, y = (centres - 0.5).unbind(1)
        crops = sample(self._pixels, places, x[:, None, :], y[:, :, None])
        if padded:
            depths = centres.minimum(places[:, 1:, None] - centres) / steps
            across, down = (depths + 0.5).clamp(0, 1).unbind(1)
            crops = GREY + (down[:, :, None] * across[:, None, :])[..., None] * (crops - GREY)
        return crops, inside


def _octave_count(images: Sequence[npt.NDArray[np.uint8]]) -> int:
    """Count the octaves of the image that has most."""
    shortest = max(min(image.shape[:2]) for image in images)
    count = 1
    while shortest >= 2 * CELL:
        shortest, count = -(-shortest // 2), count + 1
    return count


class _Level(NamedTuple):
    """Images of one size at one scale.

    Attributes:
        images: their indices.
        pixels: ``(n, 3, h, w)`` uint8, with even sides.
        steps: how many of an image's pixels one of these is, in x and in y.
    """

    images: list[int]
    pixels: torch.Tensor
    steps: tuple[float, float]


class Canvas:
    """Levels of several images packed into one, so that P-Net runs once for all.

    Args:
        levels: any.

    Attributes:
        pixels: ``(1, 3, h, w)`` float32, channels last.
        numbers: of P-Net's cells, the level that each is of, or -1 ``(rows, columns)``.
        count: of levels, each image's counted.
    """

    def __init__(self, levels: Sequence[_Level]) -> None:
        levels = sorted(levels, key=lambda level: level.pixels.shape[2], reverse=True)
        width = max(len(level.images) * level.pixels.shape[3] for level in levels)
        shelves: list[list[int]] = []  # top, and how much of the width is taken
        corners, height = [], 0
        for level in levels:
            tall, wide = level.pixels.shape[2], len(level.images) * level.pixels.shape[3]
            shelf = next((shelf for shelf in shelves if shelf[1] + wide <= width), None)
            if shelf is None:
                shelf = [height, 0]
                shelves.append(shelf)
                height += tall
            corners.append(tuple(shelf))
            shelf[1] += wide
        device = levels[0].pixels.device
        # Rounded up, so that cuDNN meets few sizes.
        height, width = (-(-side // 128) * 128 for side in (height, width))
        pixels = torch.zeros(height, width, 3, device=device)
        numbers = np.full((_cells(height), _cells(width)), -1, np.int32)
        rows: list[tuple[float, ...]] = []  # a level: image, left, top, steps in x and in y
        for level, (top, left) in zip(levels, corners):
            tall, wide = level.pixels.shape[2:]
            # Side by side.
            strip = level.pixels.permute(2, 0, 3, 1).reshape(tall, -1, 3)
            pixels[top : top + tall, left : left + strip.shape[1]] = strip
            for place, image in enumerate(level.images):
                row, column = top // STRIDE, (left + place * wide) // STRIDE
                numbers[row : row + _cells(tall), column : column + _cells(wide)] = len(rows)
                rows.append((image, left + place * wide, top, *level.steps))
        self.pixels = pixels.permute(2, 0, 1)[None]
        self.numbers = upload(numbers, device)
        self.count = len(rows)
        self._rows = upload(np.array(rows), device)

    def find(
        self, rows: torch.Tensor, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map P-Net's cells ``(k,)`` to levels ``(k,)``, images ``(k,)`` and boxes ``(k, 4)``."""
        levels = self.numbers[rows, columns].long()
        chosen = self._rows[levels]
        corners = STRIDE * torch.stack([columns, rows], dim=1) - chosen[:, 1:3]
        steps = chosen[:, 3:]
        boxes = torch.cat([(corners + 1) * steps, (corners + CELL) * steps], dim=1)
        return levels, chosen[:, 0].long(), boxes.float()


def _cells(side: int) -> int:
    """Count P-Net's output cells along a side."""
    return (side - CELL) // STRIDE + 1
