"""Paint what no asset has: eyes, the skin's unevenness, and where beards grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fever_extract.training.synthetic.assets import SIDE

if TYPE_CHECKING:
    import numpy.typing as npt


def grow_beard(base: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Say how dense a beard grows at each vertex ``(v,)``: on lip, chin, jaw and under it."""
    x, y, z = np.abs(base[:, 0]), base[:, 1], base[:, 2]
    upper = np.interp(x, [0, 0.3, 0.42, 0.6, 0.7], [6.79, 6.74, 6.52, 6.62, 7.0])
    top = np.clip((upper - y) / 0.07, 0, 1)
    bottom = np.clip((y - 6.02) / 0.15, 0, 1)
    beard: npt.NDArray[np.float32] = (top * bottom * np.clip((z - 0.55) / 0.2, 0, 1)).astype(
        np.float32
    )
    return beard


def make_noise(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Make noise ``(256, 256)`` of several scales."""
    total = np.zeros((256, 256))
    for cells, strength in ((32, 0.5), (128, 0.7), (256, 0.6)):
        layer = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        total += strength * np.asarray(layer.resize((256, 256), Image.Resampling.BILINEAR))
    return np.clip(total, -2, 2).astype(np.float32)


BROWN_EYES = 5
"""How many of the eyes are brown; they come first."""
_IRISES = (
    (70, 42, 22), (92, 58, 30), (48, 30, 18), (60, 38, 24), (52, 34, 22),
    (110, 85, 48), (95, 100, 62), (85, 110, 130), (110, 130, 150), (90, 105, 110),
)  # fmt: skip


def paint_eyes() -> npt.NDArray[np.uint8]:
    """Paint eyes of several colours.

    Returns:
        ``(n, 512, 512, 4)`` uint8, RGBA, with the pupil in the middle; a quarter of a side is 90
        degrees on the eyeball.
    """
    rng = np.random.default_rng(1)
    place = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    right, up = np.meshgrid(place, -place)
    angle = np.hypot(right, up) * 360  # degrees from the eye's axis
    around = np.arctan2(up, right)
    textures = np.zeros((len(_IRISES), SIDE, SIDE, 4), np.uint8)
    for number, colour in enumerate(_IRISES):
        rays = np.interp(around, np.linspace(-np.pi, np.pi, 181), rng.uniform(0.75, 1.2, 181))
        iris = np.array(colour) * (rays * np.interp(angle, [8, 20, 27], [1.25, 1, 0.45]))[..., None]
        red = np.clip((angle - 35) / 40, 0, 1)[..., None]
        eye = (1 - red) * np.array([222, 216, 212]) + red * np.array([205, 165, 158])
        eye = np.where(angle[..., None] < 27, iris, eye)
        edge = np.clip((angle - 25.5) / 3, 0, 1)[..., None]
        eye = np.where((angle[..., None] > 25.5) & (angle[..., None] < 28.5),
                       iris * (1 - edge) + eye * edge, eye)  # fmt: skip
        pupil = 8 + rng.uniform(0, 4)
        eye = np.where(angle[..., None] < pupil, 6, eye)
        textures[number, ..., :3] = np.clip(eye, 0, 255)
    textures[..., 3] = 255
    return textures
