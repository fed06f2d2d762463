"""Augmentation: the variation that cameras and alignment add to a face.

All of it works on a whole batch of tensors and takes its randomness from one generator,
so that a run that goes on after a kill sees what it would have seen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from fever_extract.alignment import sampling_matrices, warp
from fever_extract.models.config import Preprocessing
from fever_extract.training.data.faces import Faces

if TYPE_CHECKING:
    import numpy.typing as npt


def crop_matrices(faces: Faces, preprocessing: Preprocessing) -> torch.Tensor:
    """Where each face's crop lies: by its landmarks, or the whole picture without them.

    Returns:
        ``(n, 2, 3)`` float32, from crop pixels to image pixels.
    """
    known = np.isfinite(faces.landmarks).all(axis=(1, 2))
    matrices = np.zeros((len(faces), 2, 3))
    matrices[known] = sampling_matrices(faces.landmarks[known], preprocessing)
    matrices[~known] = whole_picture(faces, preprocessing)
    return torch.from_numpy(matrices).float()


def whole_picture(faces: Faces, preprocessing: Preprocessing) -> npt.NDArray[np.float64]:
    """The matrix ``(2, 3)`` that takes the whole picture as the crop."""
    step = faces.images.shape[1] / preprocessing.size
    return np.array([[step, 0.0, 0.0], [0.0, step, 0.0]])


def jitter(
    matrices: torch.Tensor, size: int, generator: torch.Generator, amount: float = 1.0
) -> torch.Tensor:
    """Turn, scale, stretch and shift each crop a little: alignment is never perfect.

    Args:
        matrices: ``(n, 2, 3)``, as `crop_matrices` has them.
        size: the crop's side in pixels.
        generator: the only source of randomness.
        amount: 1 for up to 10 degrees, 8 % in scale and 4 % of the side in place; 0 for none.
    """
    count = len(matrices)

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit * amount

    angle, zoom = uniform(math.radians(10)), uniform(0.08).exp()
    stretch, shear = uniform(0.04).exp(), uniform(0.04)
    linear = torch.stack(
        [
            torch.stack([angle.cos() * zoom * stretch, -angle.sin() * zoom + shear], -1),
            torch.stack([angle.sin() * zoom, angle.cos() * zoom / stretch], -1),
        ],
        -2,
    )
    centre = torch.full((2, 1), size / 2)
    shift = torch.stack([uniform(0.04 * size), uniform(0.04 * size)], -1)[:, :, None]
    affine = torch.cat([linear, centre + shift - linear @ centre], dim=2)
    last = torch.tensor([[[0.0, 0.0, 1.0]]]).expand(count, 1, 3)
    return matrices @ torch.cat([affine, last], dim=1)


def sample(
    faces: Faces,
    indices: torch.Tensor,
    matrices: torch.Tensor,
    preprocessing: Preprocessing,
) -> torch.Tensor:
    """Crops ``(n, 1, size, size)`` float32 of the given faces; ``matrices`` is per index."""
    images = torch.from_numpy(faces.images[indices.numpy()])[:, None].float()
    return warp(images, matrices, preprocessing.size)


def mirror(crops: torch.Tensor, flipped: torch.Tensor) -> torch.Tensor:
    """Mirror the crops where ``flipped`` ``(n,)`` is true."""
    return torch.where(flipped[:, None, None, None], crops.flip(3), crops)


def mirrored_names(names: tuple[str, ...]) -> torch.Tensor:
    """For each blendshape, the index of its mirror image: left and right change places."""
    swap = {
        name: name.replace("Left", "R%").replace("Right", "Left").replace("R%", "Right")
        for name in names
    }
    return torch.tensor([names.index(swap[name]) for name in names], dtype=torch.int64)


def distort(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Light, resolution, noise and occlusion.

    Args:
        crops: ``(n, 1, s, s)`` float32, 0 to 255.
        generator: the only source of randomness.
    """
    count, _, size, _ = crops.shape

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    def column(low: float, high: float) -> torch.Tensor:
        return (low + (high - low) * rand(count))[:, None, None, None]

    # Low resolution: a few faces of the batch, all to one random size.
    poor = rand(count) < 0.15
    small = int(torch.randint(14, 49, (), generator=generator))
    reduced = F.interpolate(crops[poor], size=(small, small), mode="area")
    crops = crops.clone()
    crops[poor] = F.interpolate(reduced, size=(size, size), mode="bilinear")
    # Light: gamma, contrast, brightness.
    crops = (crops / 255).clamp(1e-3, 1) ** column(-0.3, 0.3).exp() * 255
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    crops = (crops - mean) * column(0.7, 1.3) + mean + column(-25, 25)
    noise = torch.randn(crops.shape, generator=generator)
    crops = crops + noise * column(-24, 8).clamp(min=0)
    # Occlusion: some faces lose a block of up to 22 % of the crop.
    hidden = rand(count) < 0.4
    area, aspect = 0.02 + 0.2 * rand(count), (rand(count) * 2 - 1).exp()
    height, width = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    ticks = (torch.arange(size) + 0.5) / size
    inside_y = (ticks[None] - rand(count, 1)).abs() < height[:, None]
    inside_x = (ticks[None] - rand(count, 1)).abs() < width[:, None]
    block = inside_y[:, None, :, None] & inside_x[:, None, None, :] & hidden[:, None, None, None]
    return torch.where(block, column(0, 255), crops).clamp(0, 255)
