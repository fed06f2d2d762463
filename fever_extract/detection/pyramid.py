"""Image pyramid: whole images at many scales for P-Net, square crops for R-Net and O-Net."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch.nn import functional as F

from fever_extract.detection.boxes import coverage
from fever_extract.detection.parameters import CELL, GREY, SCALE_STEP, SLACK

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.detection.compiled import CompiledMtcnn

_AT_ONCE = 64  # crops that are sampled at a time: a crowd has thousands of candidates
_OCTAVES = 32  # more than any image has


class Level(NamedTuple):
    """One image at one scale.

    Attributes:
        image: its index.
        pixels: ``(h, w, 3)``, with even sides; uint8 on a CPU, else float32.
        steps: how many of the image's pixels one of these is, in x and in y.
    """

    image: int
    pixels: torch.Tensor
    steps: tuple[float, float]


class Pyramid:
    """One image with its halved octaves, from which levels and crops are resampled.

    Args:
        image: ``(h, w, 3)`` uint8 RGB, C-contiguous and writable.
        device: where it is resampled.
        compiled: what resizes it there.
    """

    def __init__(
        self,
        image: npt.NDArray[np.uint8],
        device: torch.device,
        compiled: CompiledMtcnn | None = None,
    ) -> None:
        self.height, self.width = image.shape[:2]
        self._compiled = compiled
        pixels = torch.from_numpy(image).to(device)
        # Bytes are resampled many times as fast as floats on a CPU, and not at all on CUDA.
        self._octaves = [pixels if device.type == "cpu" else pixels.float()]

    def levels(self, scale: float) -> Iterator[torch.Tensor]:
        """The whole image at ``scale`` and smaller, down to one cell of P-Net: ``(h, w, 3)``."""
        while min(self.height, self.width) * scale >= CELL:
            sides = self.height, self.width
            height, width = (2 * max(CELL // 2, round(side * scale / 2)) for side in sides)
            source = self.octave(max(0, math.floor(-math.log2(scale) + 1e-6)))
            yield self._resize(source, height, width)
            scale *= SCALE_STEP

    def octave(self, index: int) -> torch.Tensor:
        """Return the image halved ``index`` times, or as often as possible: ``(h, w, 3)``."""
        while index >= len(self._octaves):
            last = self._octaves[-1]
            height, width = last.shape[:2]
            if min(height, width) < 2 * CELL:
                return last
            self._octaves.append(self._resize(last, -(-height // 2), -(-width // 2)))
        return self._octaves[index]

    def _resize(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        # A small level's sides, which are even, can be a little less than half of its octave's.
        if self._compiled and 2 * height >= len(image) and 2 * width >= image.shape[1]:
            return self._compiled.resize(image, height, width)
        channels = image[None].permute(0, 3, 1, 2)
        size = (height, width)
        resized = F.interpolate(channels, size=size, mode="bilinear", antialias=True)
        return resized[0].permute(1, 2, 0).contiguous()


class Pyramids:
    """Pyramids of several images of any size, sampled in the same calls.

    Coordinates are the full images'. Boxes count pixels from 1 and include their last one, as
    MTCNN's always have. Unlike in facenet-pytorch, corners are not moved to whole pixels: what is
    sampled moves smoothly.

    Args:
        images: as `Pyramid` takes them.
        device: where they are resampled.
        compiled: what does so there.
    """

    def __init__(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        device: torch.device,
        compiled: CompiledMtcnn | None = None,
    ) -> None:
        self._device = device
        self._compiled = compiled
        self._pyramids = [Pyramid(image, device, compiled) for image in images]
        sizes = [(pyramid.width, pyramid.height) for pyramid in self._pyramids]
        self._sizes = np.array(sizes, np.float32).reshape(-1, 2)

    def levels(self, scales: Sequence[float]) -> list[Level]:
        """Each whole image at its scale and smaller."""
        return [
            Level(index, pixels, (pyramid.width / pixels.shape[1], pyramid.height / len(pixels)))
            for index, (pyramid, scale) in enumerate(zip(self._pyramids, scales))
            for pixels in pyramid.levels(scale)
        ]

    def contains(
        self, owners: npt.NDArray[np.intp], boxes: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.bool_]:
        """Tell which boxes lie within their images, or nearly so.

        Args:
            owners: ``(k,)``, the images' indices.
            boxes: ``(k, 4)``.

        Returns:
            ``(k,)`` bool.
        """
        slack = np.float32(SLACK) * (boxes[:, 2:] - boxes[:, :2])
        sides = (boxes[:, :2] >= -slack) & (boxes[:, 2:] <= self._sizes[owners] + slack)
        within: npt.NDArray[np.bool_] = sides.all(axis=1)
        return within

    def crop(
        self,
        owners: npt.NDArray[np.intp],
        boxes: npt.NDArray[np.float32],
        size: int,
        *,
        padded: bool = False,
    ) -> tuple[npt.NDArray[np.intp], torch.Tensor]:
        """Resample boxes to ``size``; one without a pixel inside its image is left out.

        What reaches over the image's border is cut off and the rest is stretched, as in
        facenet-pytorch, or it is grey.

        Args:
            owners: ``(n,)``, the images' indices.
            boxes: ``(n, 4)``.
            size: side of a crop.
            padded: whether what is beyond the border is grey.

        Returns:
            Indices of the boxes that remain ``(k,)``, and crops ``(k, size, size, 3)`` float32.
        """
        sizes = self._sizes[owners]
        limits = np.concatenate([sizes, sizes], axis=1)
        corners = boxes - np.array([1, 1, 0, 0], np.float32)
        edges = np.minimum(np.maximum(corners, 0), limits)
        (kept,) = (edges[:, 2:] > edges[:, :2]).all(axis=1).nonzero()
        owners, sizes = owners[kept], sizes[kept]
        padded = padded and not np.array_equal(corners[kept], edges[kept])
        edges = (corners if padded else edges)[kept]
        halvings = np.log2((edges[:, 2:] - edges[:, :2]).max(axis=1) / size)
        sources = owners * _OCTAVES + np.maximum(halvings, 0).astype(np.intp)
        if self._compiled:
            numbers, places = np.unique(sources, return_inverse=True)
            octaves = self._octaves(numbers)
            shapes = np.array([image.shape[1::-1] for image in octaves], np.float32)
            scales = shapes.reshape(-1, 2)[places] / sizes
            scaled = edges * np.concatenate([scales, scales], axis=1)
            crops = self._compiled.sample(octaves, places, scaled, size)
        else:
            crops = torch.empty(len(kept), 3, size, size, device=self._device)
            order = sources.argsort(kind="stable")
            for start in range(0, len(order), _AT_ONCE):
                some = order[start : start + _AT_ONCE]
                crops[torch.from_numpy(some)] = self._sample(sources[some], edges[some], size)
            crops = crops.permute(0, 2, 3, 1)
        if padded:
            share = torch.from_numpy(coverage(edges, sizes, size)).to(self._device)
            crops = GREY + share[..., None] * (crops - GREY)
        return kept, crops

    def _octaves(self, sources: npt.NDArray[np.intp]) -> list[torch.Tensor]:
        """Return the octaves ``(h, w, 3)`` of some sources."""
        return [
            self._pyramids[source // _OCTAVES].octave(source % _OCTAVES)
            for source in sources.tolist()
        ]

    def _sample(
        self, sources: npt.NDArray[np.intp], edges: npt.NDArray[np.float32], size: int
    ) -> torch.Tensor:
        """Sample crops ``(k, 3, size, size)`` bilinearly, each from its own image and octave.

        Around each crop a region of one size is copied, as bytes, and multiplied by a matrix of
        weights from either side.

        Args:
            sources: ``(k,)``, image and octave in one number, ascending.
            edges: ``(k, 4)``, in the images' pixels.
            size: side of a crop.
        """
        begins = np.flatnonzero(np.diff(sources, prepend=-1))
        octaves = self._octaves(sources[begins])
        counts = np.diff(begins, append=len(sources))
        limits = np.array([(image.shape[1], image.shape[0]) for image in octaves], np.float32)
        limits = limits.repeat(counts, axis=0)
        scales = limits / self._sizes[sources // _OCTAVES]
        first, last = edges[:, :2] * scales, edges[:, 2:] * scales
        # Centres of equal parts; beyond the outermost pixels' the nearest counts.
        steps = ((np.arange(size) + 0.5) / size).astype(np.float32)
        places = first[:, :, None] + steps * (last - first)[:, :, None] - np.float32(0.5)
        places = np.minimum(np.maximum(places, 0), limits[:, :, None] - 1)
        starts = np.floor(places[:, :, 0])
        side = int((places[:, :, -1] - starts).max()) + 2
        starts = np.minimum(starts, np.maximum(limits - side, 0))
        places -= starts[:, :, None]
        regions = octaves[0].new_zeros(len(edges), side, side, 3)
        corners = starts.astype(np.intp)
        for image, begin, count in zip(octaves, begins.tolist(), counts.tolist()):
            some = slice(begin, begin + count)
            _copy_windows(image, corners[some], regions[some])
        weights = torch.arange(side, device=regions.device) - torch.from_numpy(places).to(
            regions.device
        ).unsqueeze(-1)
        columns, rows = weights.abs_().neg_().add_(1).clamp_(min=0).unbind(1)
        sampled = rows @ regions.float().flatten(2)
        sampled = sampled.view(len(edges), size, side, 3).permute(0, 3, 1, 2)
        sampled = sampled.reshape(len(edges), 3 * size, side) @ columns.transpose(1, 2)
        crops: torch.Tensor = sampled.view(len(edges), 3, size, size)
        return crops


def _copy_windows(
    image: torch.Tensor, corners: npt.NDArray[np.intp], regions: torch.Tensor
) -> None:
    """Copy square windows of an image ``(h, w, 3)`` into regions ``(k, side, side, 3)``.

    What is beyond the image stays as it is.

    Args:
        image: contiguous.
        corners: ``(k, 2)``, left and top of each.
        regions: where to.
    """
    height, width = (min(side, regions.shape[1]) for side in image.shape[:2])
    left, top = corners.T
    if image.is_cuda:
        every = image.unfold(0, height, 1).unfold(1, width, 1)
        places = (torch.from_numpy(some).to(image.device) for some in (top, left))
        regions[:, :height, :width] = every[tuple(places)].permute(0, 2, 3, 1)
        return
    pixels = image.numpy()
    shape = (*(1 + a - b for a, b in zip(pixels.shape, (height, width))), height, width, 3)
    # NumPy copies a window's rows whole.
    windows = as_strided(pixels, shape, (*pixels.strides[:2], *pixels.strides))
    regions.numpy()[:, :height, :width] = windows[top, left]
