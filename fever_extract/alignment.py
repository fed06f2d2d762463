"""Five-point face alignment by a similarity transform.

The transform is the least-squares similarity of Umeyama (1991). In the plane, and without
reflection, it has a closed form in complex numbers: ``w = a z + b``. Training and inference
crop through the same functions, so that the network sees the same picture in both.

Coordinates are in pixels with the origin at the image's upper left *edge*: the centre of
the first pixel is (0.5, 0.5), and an image of width w spans 0 to w.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from fever_extract._utils.sampling import resize, sample, upload, upload_pixels
from fever_extract.kernels.library import instructions, library

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.models.config import Preprocessing

SUPERSAMPLE = 2
"""Samples per pixel of a crop and side, which are averaged."""

_AT_ONCE = 64  # crops that a GPU samples at a time: 5 MB each of indices and pixels


def sampling_matrices(
    landmarks: npt.NDArray[np.floating], preprocessing: Preprocessing
) -> npt.NDArray[np.float64]:
    """Compute affine maps from crop pixels to image pixels.

    Args:
        landmarks: ``(n, 5, 2)``, in image pixels.
        preprocessing: gives the template and the crop's size.

    Returns:
        ``(n, 2, 3)`` float64.
    """
    template = np.asarray(preprocessing.template, dtype=np.float64) * preprocessing.size
    image = landmarks[..., 0].astype(np.float64) + 1j * landmarks[..., 1]
    goal = template[:, 0] + 1j * template[:, 1]
    image_mean, goal_mean = image.mean(axis=1, keepdims=True), goal.mean()
    image, goal = image - image_mean, goal - goal_mean
    # Fit image -> crop, whose error is measured in crop pixels, then invert: z = (w - b) / a.
    spread = np.maximum((np.abs(image) ** 2).sum(axis=1), 1e-12)
    scale_rotation = (image.conj() * goal).sum(axis=1) / spread
    scale_rotation = np.where(np.abs(scale_rotation) < 1e-9, 1e-9, scale_rotation)
    inverse = 1 / scale_rotation
    offset = image_mean[:, 0] - inverse * goal_mean
    return np.stack(
        [
            np.stack([inverse.real, -inverse.imag, offset.real], axis=-1),
            np.stack([inverse.imag, inverse.real, offset.imag], axis=-1),
        ],
        axis=-2,
    )


def warp(
    images: torch.Tensor, matrices: torch.Tensor, size: int, supersample: int = SUPERSAMPLE
) -> torch.Tensor:
    """Sample a square crop from each image; what lies outside repeats the edge.

    The source should have at most about ``supersample * size`` pixels where the crop lies
    (``align`` sees to that): beyond, fine detail would alias.

    Args:
        images: ``(n, c, h, w)`` float.
        matrices: ``(n, 2, 3)`` float, from crop pixels to image pixels.
        size: the crop's side in pixels.
        supersample: samples per pixel and side, of which a pixel is the mean.

    Returns:
        ``(n, c, size, size)`` of the images' dtype.
    """
    height, width = images.shape[-2:]
    count = size * supersample
    # affine_grid and grid_sample use -1..1 from edge to edge, in both directions.
    half = matrices.new_tensor([[size / 2, 0, size / 2], [0, size / 2, size / 2], [0, 0, 1]])
    normalise = matrices.new_tensor([[2 / width, 0], [0, 2 / height]])
    theta = normalise @ (matrices @ half)
    theta[:, :, 2] -= 1
    grid = F.affine_grid(theta, [len(images), 1, count, count], align_corners=False)
    sampled = F.grid_sample(
        images, grid.to(images.dtype), padding_mode="border", align_corners=False
    )
    if supersample != 2:
        return F.avg_pool2d(sampled, supersample)
    # The same in a third of the time.
    left, right = sampled[..., ::2], sampled[..., 1::2]
    return (left[..., ::2, :] + right[..., ::2, :] + left[..., 1::2, :] + right[..., 1::2, :]) / 4


def align(
    image: npt.NDArray[np.uint8],
    landmarks: npt.NDArray[np.floating],
    preprocessing: Preprocessing,
) -> torch.Tensor:
    """Cut aligned faces out of one image.

    Args:
        image: ``(h, w, 3)`` uint8 RGB.
        landmarks: ``(k, 5, 2)``, in the image's pixels.
        preprocessing: gives the template and the crop's size.

    Returns:
        ``(k, 3, size, size)`` float32, 0 to 255.
    """
    size = preprocessing.size
    crops = [_sample(image, matrix, size) for matrix in sampling_matrices(landmarks, preprocessing)]
    return torch.cat(crops) if crops else torch.zeros(0, 3, size, size)


def align_on(
    device: torch.device,
    images: Sequence[npt.NDArray[np.uint8]],
    matrices: Sequence[npt.NDArray[np.float64]],
    preprocessing: Preprocessing,
) -> torch.Tensor:
    """Cut aligned faces out of several images on a device, as `align`, in few calls.

    Only what surrounds the faces goes there, in one transfer; nothing waits for it.

    Args:
        device: any.
        images: of each face ``(h, w, 3)`` uint8 RGB.
        matrices: of each face, as of `sampling_matrices`.
        preprocessing: gives the crop's size.

    Returns:
        ``(k, 3, size, size)`` float32, 0 to 255, on the device.
    """
    size = preprocessing.size
    if not images:
        return torch.zeros(0, 3, size, size, device=device)
    regions, sizes, maps = [], [], []
    for image, matrix in zip(images, matrices):
        (left, top, right, bottom), reduced, inside = surroundings(matrix, size, *image.shape[:2])
        regions.append(image[top:bottom, left:right])
        sizes.append(reduced)
        maps.append(inside)
    pixels, starts = upload_pixels(regions, device)
    parts, length = [pixels], len(pixels)
    places = np.empty((len(regions), 3), np.int64)
    for index, (region, reduced) in enumerate(zip(regions, sizes)):
        place = starts[index]
        if reduced != region.shape[:2]:
            part = pixels[place : place + region.size // 3].view(1, *region.shape)
            part = resize(part.permute(0, 3, 1, 2), *reduced)
            parts.append(part.permute(0, 2, 3, 1).reshape(-1, 3))
            place, length = length, length + len(parts[-1])
        places[index] = place, reduced[1], reduced[0]
    pixels, places_there = torch.cat(parts), upload(places, device)
    ticks = (torch.arange(size * SUPERSAMPLE, device=device) + 0.5) / SUPERSAMPLE
    # Pixels in memory are counted from the centre of the first.
    affine = upload(np.stack(maps).astype(np.float32), device)[..., None, None]
    x, y = (
        affine[:, row, 0] * ticks + affine[:, row, 1] * ticks[:, None] + affine[:, row, 2] - 0.5
        for row in (0, 1)
    )
    crops = [
        F.avg_pool2d(sample(pixels, *some).permute(0, 3, 1, 2), SUPERSAMPLE)
        for some in zip(*(torch.split(values, _AT_ONCE) for values in (places_there, x, y)))
    ]
    return torch.cat(crops)


def magnifies(landmarks: npt.NDArray[np.floating], preprocessing: Preprocessing) -> bool:
    """Tell whether aligning these faces would enlarge them."""
    matrices = sampling_matrices(landmarks, preprocessing)
    return bool((np.linalg.det(matrices[:, :, :2]) < 1).any())


def crop(
    image: npt.NDArray[np.uint8],
    landmarks: npt.NDArray[np.floating],
    preprocessing: Preprocessing,
) -> torch.Tensor:
    """Cut one face out of an image; without landmarks, the whole image is the face.

    Args:
        image: ``(h, w, 3)`` uint8 RGB.
        landmarks: ``(5, 2)``, in the image's pixels; NaN if there are none.
        preprocessing: gives the template and the crop's size.

    Returns:
        ``(3, size, size)`` float32, 0 to 255.
    """
    if np.isfinite(landmarks).all():
        return align(image, landmarks[None], preprocessing)[0]
    return whole(image, preprocessing)[0]


def whole(image: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> torch.Tensor:
    """Resize the whole image to a crop, for images that are face crops already.

    Args:
        image: ``(h, w, 3)`` uint8 RGB; if it is not square, it is stretched.
        preprocessing: gives the crop's size.

    Returns:
        ``(1, 3, size, size)`` float32, 0 to 255.
    """
    height, width = image.shape[:2]
    size = preprocessing.size
    if (height, width) == (size, size):
        return _to_tensor(image).float()
    return _sample(image, np.array([[width / size, 0, 0], [0, height / size, 0]]), size)


def surroundings(
    matrix: npt.NDArray[np.float64], size: int, height: int, width: int
) -> tuple[tuple[int, int, int, int], tuple[int, int], npt.NDArray[np.float64]]:
    """Find the region of an image that a crop is sampled from, and how far to reduce it first.

    Args:
        matrix: ``(2, 3)``, from crop pixels to image pixels.
        size: the crop's side in pixels.
        height, width: of the image.

    Returns:
        A box (left, top, right, bottom) in the image; the height and width that it is reduced
        to; and the matrix from crop pixels to the pixels of that.
    """
    corners = matrix @ np.array([[0, size, 0, size], [0, 0, size, size], [1, 1, 1, 1]])
    # A margin keeps the edge's repetition out of the crop unless it is the image's own edge.
    step = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    margin = 2 * step + 2
    left, top = (max(0, math.floor(value - margin)) for value in corners.min(axis=1))
    # A face beyond the border (its landmarks may be) still gets the nearest pixels.
    left, top = min(left, width - 1), min(top, height - 1)
    right = max(left + 1, min(width, math.ceil(corners[0].max() + margin)))
    bottom = max(top + 1, min(height, math.ceil(corners[1].max() + margin)))
    # Reduce by area to at most twice the crop's scale; warp itself copes with what remains.
    sides = np.array([right - left, bottom - top])
    factors = np.maximum(1, np.floor(np.abs(matrix[:, :2]).max(axis=1)))
    reduced = np.ceil(sides / factors)
    matrix = (matrix - np.array([[0, 0, left], [0, 0, top]])) * (reduced / sides)[:, None]
    return (left, top, right, bottom), (int(reduced[1]), int(reduced[0])), matrix


def _sample(
    image: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], size: int
) -> torch.Tensor:
    """Make one crop: cut its surroundings out, reduce them to near its scale, warp."""
    (left, top, right, bottom), reduced, matrix = surroundings(matrix, size, *image.shape[:2])
    region = image[top:bottom, left:right]
    if reduced != region.shape[:2]:
        # Bytes are resampled several times faster than floats.
        smaller = F.interpolate(_to_tensor(region), size=reduced, mode="bilinear", antialias=True)
        region = smaller[0].permute(1, 2, 0).numpy()
    if instructions() and region.size > 3:
        return _warp_compiled(region, matrix, size)
    return warp(_to_tensor(region).float(), torch.from_numpy(matrix)[None].float(), size)


def _warp_compiled(
    region: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], size: int
) -> torch.Tensor:
    """Sample a crop as `warp` does, from bytes and without what lies between."""
    if region.strides[1:] != (3, 1) or region.strides[0] < 3 * region.shape[1]:
        region = _contiguous(region)
    crop = torch.empty(1, 3, size, size)
    library().fever_warp(
        region.ctypes.data,
        *region.shape[:2],
        region.strides[0],
        matrix.astype(np.float32),
        size,
        crop.data_ptr(),
    )
    return crop


def _to_tensor(image: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(_contiguous(image)).permute(2, 0, 1)[None]


def _contiguous(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Copy where necessary; NumPy alone would leave one row of a flipped picture as it is."""
    return np.ascontiguousarray(image) if min(image.strides) >= 0 else image.copy()
