"""Pixels on any torch device: upload, resize as bytes, sample. Nothing here waits for a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt


def upload(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy an array to a device, by way of pinned memory to a GPU."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def upload_pixels(
    pictures: Sequence[npt.NDArray[np.uint8]], device: torch.device
) -> tuple[torch.Tensor, list[int]]:
    """Copy pictures to a device, all in one transfer.

    Args:
        pictures: each ``(h, w, 3)`` uint8, of any size.
        device: where to.

    Returns:
        Their pixels one after the other ``(n, 3)`` uint8, and where each picture begins.
    """
    ends = np.cumsum([picture.size // 3 for picture in pictures]).tolist()
    starts = [0, *ends[:-1]]
    pinned = device.type == "cuda"
    pixels = torch.empty(ends[-1], 3, dtype=torch.uint8, pin_memory=pinned)
    rows = pixels.numpy()
    for picture, start, end in zip(pictures, starts, ends):
        rows[start:end].reshape(picture.shape)[:] = picture
    return pixels.to(device, non_blocking=True), starts


def resize(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize bytes bilinearly with antialiasing, to the bytes of ``F.interpolate`` on a CPU.

    On other devices that takes floats only, which are not rounded on the way. Of 10,000 values
    here one at most is another than there, by one.

    Args:
        images: ``(n, 3, h, w)`` uint8.
        height, width: of the result.

    Returns:
        ``(n, 3, height, width)`` uint8.
    """
    for axis, size in ((3, width), (2, height)):
        if images.shape[axis] == size:
            continue
        taps, weights, bits = _filter(images.shape[axis], size, images.device)
        near = images.index_select(axis, taps.flatten())
        near = near.view(*near.shape[:axis], *taps.shape, *near.shape[axis + 1 :])
        if axis == 2:
            weights = weights[:, :, None]
        # Whole numbers below 2^24: floats are exact.
        total = (near * weights).sum(dim=axis + 1)
        images = total.add_(2 ** (bits - 1)).mul_(2.0**-bits).floor_().clamp_(0, 255).byte()
    return images


@lru_cache(maxsize=256)
def _filter(
    size: int, reduced: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Compute the triangle filter that resizes a side, in whole numbers as torch does on a CPU.

    Returns:
        For each pixel of the result those that it is made of ``(reduced, taps)`` int64, their
        weights ``(reduced, taps)`` float32, and the bits after the point in these.
    """
    scale = size / reduced
    support = max(scale, 1.0)
    centres = scale * (np.arange(reduced) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(int), 0)
    last = np.minimum((centres + support + 0.5).astype(int), size)
    taps = first[:, None] + np.arange((last - first).max())
    weights = np.maximum(1 - np.abs((taps - centres[:, None] + 0.5) * (1 / support)), 0)
    weights[taps >= last[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    bits = 0
    while bits < 22 and int(0.5 + weights.max() * 2 ** (bits + 1)) < 2**15:
        bits += 1
    whole = np.floor(0.5 + weights * 2**bits).astype(np.float32)
    return upload(np.minimum(taps, size - 1), device), upload(whole, device), bits


def sample(
    pixels: torch.Tensor, places: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Sample pictures bilinearly; beyond the outermost pixels' centres the nearest counts.

    Args:
        pixels: ``(n, 3)`` uint8, the pixels of all pictures.
        places: ``(k, 3)`` int64, of the picture of each sample: where in ``pixels`` it begins,
            its width and its height.
        x, y: ``(k, h, w)``, or broadcast to that: from the centre of the picture's first pixel.

    Returns:
        ``(k, h, w, 3)`` float32, 0 to 255.
    """
    starts, widths, heights = (column[:, None, None] for column in places.unbind(1))
    x, y = x.clamp(min=0).minimum(widths - 1), y.clamp(min=0).minimum(heights - 1)
    left, top = x.floor(), y.floor()
    right, bottom = (left + 1).minimum(widths - 1).long(), (top + 1).minimum(heights - 1).long()
    across, down = (x - left)[..., None], (y - top)[..., None]
    left, upper, lower = left.long(), starts + top.long() * widths, starts + bottom * widths
    above = pixels[upper + left].float().lerp(pixels[upper + right].float(), across)
    below = pixels[lower + left].float().lerp(pixels[lower + right].float(), across)
    return above.lerp(below, down)
