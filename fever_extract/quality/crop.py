"""Image quality of an aligned crop: sharpness, exposure, share outside the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = 96
"""Side to which crops are resized, so that figures compare across crop sizes."""

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601
_GRID = 24  # points per side at which a crop is tested for lying in the picture


def sharpness_and_exposure(crops: torch.Tensor) -> torch.Tensor:
    """Measure aligned crops.

    Args:
        crops: ``(n, 3, size, size)``, or ``(n, 1, size, size)`` of grey, float, 0 to 255.

    Returns:
        ``(n, 2)`` float32, on their device: the variance of the Laplacian of the luminance
        (Pech-Pacheco et al. 2000), and the mean luminance, 0 (black) to 1 (white).
    """
    grey = crops if crops.shape[1] == 1 else _luminance(crops)
    if grey.shape[-1] != SIDE:
        grey = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
    # The Laplacian; a convolution of one channel takes several times as long.
    inner = grey[..., 1:-1, 1:-1]
    edges = grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    edges.sub_(inner, alpha=4)
    # Not `var`, which warns for no crops.
    spread = (edges - edges.mean(dim=(1, 2, 3), keepdim=True)).square().mean(dim=(1, 2, 3))
    return torch.stack([spread, grey.mean(dim=(1, 2, 3)) / 255], dim=1)


def _luminance(crops: torch.Tensor) -> torch.Tensor:
    red, green, blue = (crops[:, channel, None] for channel in range(3))
    grey = red * _LUMINANCE[0]
    return grey.add_(green, alpha=_LUMINANCE[1]).add_(blue, alpha=_LUMINANCE[2])


def share_outside(
    matrices: npt.NDArray[np.float64], size: int, height: int, width: int
) -> npt.NDArray[np.float32]:
    """Measure the share of each crop outside the picture, where its edge is repeated.

    Args:
        matrices: ``(n, 2, 3)``, from crop pixels to the picture's, as of
            `fever_extract.alignment.sampling_matrices`.
        size: the crops' side in pixels.
        height, width: of the picture.

    Returns:
        ``(n,)`` float32, 0 to 1.
    """
    ticks = (np.arange(_GRID) + 0.5) * size / _GRID
    x, y = np.meshgrid(ticks, ticks)
    points = matrices @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    limits = np.array([[width], [height]])
    inside = ((points >= 0) & (points <= limits)).all(axis=1)
    share: npt.NDArray[np.float32] = (1 - inside.mean(axis=1)).astype(np.float32)
    return share
