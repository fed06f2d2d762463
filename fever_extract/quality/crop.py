"""Image quality of an aligned crop: sharpness, exposure, share outside the picture."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = 96
"""Side to which crops are resized, so that figures compare across crop sizes."""

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601
_LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
_GRID = 24  # points per side at which a crop is tested for lying in the picture


def sharpness_and_exposure(crops: torch.Tensor) -> torch.Tensor:
    """Measure aligned crops.

    Args:
        crops: ``(n, 3, size, size)``, or ``(n, 1, size, size)`` of grey, float, 0 to 255.

    Returns:
        ``(n, 2)`` float32, on their device: the variance of the Laplacian of the luminance
        (Pech-Pacheco et al. 2000), and the mean luminance, 0 (black) to 1 (white).
    """
    luminance, laplacian = _kernels(crops.device)
    grey = crops if crops.shape[1] == 1 else F.conv2d(crops, luminance)
    if grey.shape[-1] != SIDE:
        grey = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
    edges = F.conv2d(grey, laplacian)
    # Not `var`, which warns for no crops.
    spread = (edges - edges.mean(dim=(1, 2, 3), keepdim=True)).square().mean(dim=(1, 2, 3))
    return torch.stack([spread, grey.mean(dim=(1, 2, 3)) / 255], dim=1)


@lru_cache
def _kernels(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights of luminance and Laplacian, kept there: a GPU waits for each upload."""
    luminance = torch.tensor(_LUMINANCE, device=device).reshape(1, 3, 1, 1)
    return luminance, torch.tensor(_LAPLACIAN, device=device).reshape(1, 1, 3, 3)


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
