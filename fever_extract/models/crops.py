"""Convert aligned crops from elsewhere to the network's input."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy.typing as npt

_EXPECTED = (
    "crops must be an array or a tensor of shape (n, 3, s, s) or (n, s, s, 3), uint8 or float, "
    "0 to 255"
)


def as_crops(crops: torch.Tensor | npt.NDArray[Any], size: int) -> torch.Tensor:
    """Check crops, put channels first and bring them to the network's size.

    Args:
        crops: ``(n, 3, s, s)`` or ``(n, s, s, 3)``, RGB, or with one channel, grey; uint8 or
            floating point, 0 to 255.
        size: of the network's input, in pixels.

    Returns:
        ``(n, 3, size, size)`` or ``(n, 1, size, size)`` float32, where the crops were; gradients
        flow through it.

    Raises:
        TypeError, ValueError: if they have another shape, dtype or range.
    """
    if isinstance(crops, np.ndarray):
        if crops.dtype != np.uint8 and crops.dtype.kind != "f":
            raise TypeError(f"{_EXPECTED}; got dtype {crops.dtype}")
        crops = torch.from_numpy(np.ascontiguousarray(crops))
    elif not isinstance(crops, torch.Tensor):
        raise TypeError(f"{_EXPECTED}; got {type(crops).__name__}")
    if crops.dtype != torch.uint8 and not crops.is_floating_point():
        raise TypeError(f"{_EXPECTED}; got dtype {crops.dtype}")
    shape = tuple(crops.shape)
    if len(shape) == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
        crops = crops.permute(0, 3, 1, 2)
    if crops.ndim != 4 or crops.shape[1] not in (1, 3) or 0 in crops.shape[2:]:
        raise ValueError(f"{_EXPECTED}; got shape {shape}")
    if crops.is_floating_point() and crops.numel() and 0 < float(crops.detach().max()) <= 1:
        warnings.warn("the crops look as if they were 0 to 1; 0 to 255 is expected", stacklevel=3)
    crops = crops.float()
    if crops.shape[2:] != (size, size):
        crops = F.interpolate(crops, (size, size), mode="bilinear", antialias=True)
    return crops
