"""Degradations of photographs in the wild: occlusion, low resolution, blur, compression.

The faces of a batch that are degraded are drawn anew each time, and each gets one cover and
one loss of quality at most; a covered face the latter half as often, as little is left to see.
As in `fever_extract.training.data.augment`, all randomness comes from one generator.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

_EYES_Y = 0.38  # of an aligned crop, as `start.TEMPLATE` has it
_SIZES = (10, 40)  # pixels a side that a face is reduced to
# Of covers, the more often the more they hide: mask, headset, glasses, block, hand.
_KINDS = (0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4)
_FILLS = (0, 0, 0, 0, 0, 0, 1, 2, 3)  # mostly black, else a tone, noise, or another face


def degrade(
    crops: torch.Tensor, covered: float, poor: float, generator: torch.Generator
) -> torch.Tensor:
    """Cover some of the faces, and lower the quality of some.

    Args:
        crops: ``(n, 1, s, s)`` float32, 0 to 255, aligned.
        covered: share of all faces, 0 to 1.
        poor: share of the faces that are not covered; of the others it is half of that.
        generator: the only source of randomness.

    Returns:
        ``(n, 1, s, s)`` float32, 0 to 255.
    """
    count, size = len(crops), crops.shape[-1]
    hidden = torch.rand(count, generator=generator) < covered
    fill = _fill(crops, generator)
    crops = torch.where(covers(count, size, generator) & hidden[:, None, None, None], fill, crops)
    chance = torch.where(hidden, poor / 2, poor)
    lowered = (torch.rand(count, generator=generator) < chance).nonzero()[:, 0]
    kinds = torch.randint(4, (len(lowered),), generator=generator)
    for kind, lower in enumerate((_reduce, _reduce, _blur, _store)):
        mine = lowered[kinds == kind]
        if len(mine):
            crops[mine] = lower(crops[mine], generator)
    return crops


def covers(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """What is hidden of each face, ``(count, 1, size, size)`` bool: one cover of five kinds.

    A mask (from the nose or the mouth down), a cap or headset from above, dark glasses, a block
    of 20 to 50 % of the crop, or an ellipse like a hand's.
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator))[:, None, None]

    ticks = (torch.arange(size) + 0.5) / size
    y, x = ticks[None, :, None], ticks[None, None, :]
    kind = torch.tensor(_KINDS)[torch.randint(len(_KINDS), (count,), generator=generator)]
    tilt = uniform(-0.2, 0.2) * (x - 0.5)
    below = y > uniform(0.42, 0.6) + tilt
    above = y < uniform(0.42, 0.58) + tilt
    glasses = ((x - 0.5).abs() < uniform(0.3, 0.45)) & (
        (y - _EYES_Y - tilt).abs() < uniform(0.07, 0.14)
    )
    area, aspect = uniform(0.2, 0.5), uniform(-0.7, 0.7).exp()
    height, width = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    down = ((y - uniform(0, 1) * (1 - 2 * height) - height) / height).abs()
    right = ((x - uniform(0, 1) * (1 - 2 * width) - width) / width).abs()
    block = (down < 1) & (right < 1)
    hand = ((y - uniform(0.2, 1)) / uniform(0.15, 0.4)).square() + (
        (x - uniform(0, 1)) / uniform(0.15, 0.35)
    ).square() < 1
    all_kinds = torch.stack([below, above, glasses.expand_as(below), block, hand])
    return all_kinds[kind, torch.arange(count)][:, None]


def _fill(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What covers are made of: black, one tone, noise, or another face of the batch."""
    count = len(crops)
    kind = torch.tensor(_FILLS)[torch.randint(len(_FILLS), (count, 1, 1, 1), generator=generator)]
    tone = torch.rand(count, 1, 1, 1, generator=generator) * 255
    noise = (tone + 40 * torch.randn(crops.shape, generator=generator)).clamp(0, 255)
    plain = torch.where(kind == 1, tone, torch.zeros(()))
    return torch.where(kind < 2, plain, torch.where(kind == 2, noise, crops.roll(1, dims=0)))


def _reduce(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """To one random size and back, small ones as often as large ones."""
    low, high = _SIZES
    ratio, choice = torch.rand(2, generator=generator).tolist()
    small = round(low * (high / low) ** ratio)
    reduced = F.interpolate(crops, size=(small, small), mode="area")
    enlarge = "bilinear" if choice < 0.5 else "bicubic"
    return F.interpolate(reduced, size=crops.shape[-2:], mode=enlarge).clamp(0, 255)


def _blur(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """By one Gaussian."""
    sigma = crops.shape[-1] * (0.008 + 0.03 * torch.rand((), generator=generator))
    radius = max(1, round(float(2 * sigma)))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma).square())
    taps = (taps / taps.sum())[None, None, None]
    padded = F.pad(crops, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, taps), taps.transpose(2, 3))


def _store(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As a JPEG of low quality."""
    qualities = torch.randint(8, 50, (len(crops),), generator=generator).tolist()
    stored = []
    for crop, quality in zip(crops.round().clamp(0, 255).byte().numpy(), qualities):
        buffer = io.BytesIO()
        Image.fromarray(crop[0]).save(buffer, "JPEG", quality=quality)
        stored.append(torch.from_numpy(np.array(Image.open(buffer), np.float32))[None])
    return torch.stack(stored)
