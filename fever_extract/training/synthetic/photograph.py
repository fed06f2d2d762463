"""Make a photograph of what was rendered: exposure, blur, noise, and JPEG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    import numpy.typing as npt

_GREY, _SMALL, _SOFT = 0.3, 0.25, 0.5
"""Shares of pictures: without colour, enlarged from fewer pixels, out of focus."""


def develop(
    light: npt.NDArray[np.float32],
    face: npt.NDArray[np.bool_],
    side: int,
    rng: np.random.Generator,
) -> bytes:
    """Take the photograph.

    Args:
        light: ``(n side, n side, 3)`` float32, linear.
        face: ``(n side, n side)``, where skin is, by which exposure is measured.
        side: of the photograph.
        rng: what decides.

    Returns:
        A JPEG.
    """
    times = light.shape[0] // side
    seen = light[::4, ::4][face[::4, ::4]]
    bright = float(seen.mean() if len(seen) else light.mean())
    # Cameras level out most of the difference between faces, not all.
    gain = (np.exp(rng.normal(-1.25, 0.3)) / max(bright, 1e-3)) ** 0.6 / times**2
    shares = [light[row::times, column::times] for row, column in np.ndindex(times, times)]
    pixels = np.sqrt(np.float32(gain) * np.maximum(np.add.reduce(shares), 0))
    # Film and sensors go to white slowly.
    over = pixels > 0.8
    pixels[over] = 0.8 + 0.2 * np.tanh((pixels[over] - 0.8) / 0.2)
    pixels = 0.5 + (pixels - 0.5) * rng.uniform(0.75, 1.2) + rng.normal(0, 0.03)
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    if rng.random() < _SOFT:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3)))
    if rng.random() < _SMALL:
        small = int(rng.integers(32, side))
        way = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[rng.integers(2)]
        picture = picture.resize((small, small), Image.Resampling.BOX).resize((side, side), way)
    grey = rng.random() < _GREY
    if grey:
        picture = picture.convert("L").convert("RGB")
    noisy = np.asarray(picture, np.float32)
    strength = rng.uniform(0, 1) ** 2 * 9
    noisy = noisy + strength * rng.standard_normal((side, side, 1), np.float32)
    if not grey:
        noisy = noisy + strength / 2 * rng.standard_normal((side, side, 3), np.float32)
    buffer = io.BytesIO()
    picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    picture.save(buffer, "JPEG", quality=int(rng.integers(50, 97)))
    return buffer.getvalue()
