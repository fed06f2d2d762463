"""Draw a random scene around a face: pose, camera, lights and background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything but the person and the expression.

    Attributes:
        yaw, pitch, roll: degrees; the face turns to the picture's right, up, and clockwise.
        distance: of the camera from the head, in units of the eyes' distance: a near one is a wide
            lens.
        eyes: how far the eyes of a face from the front are apart, to the picture's side.
        shift: ``(2,)`` of the face from the picture's middle, to its side.
        ambient: ``(2, 3)`` float32, linear light from above and below.
        lights: ``(n, 9)`` float32, as `fever_extract.training.synthetic.raster.shade` takes them.
        shadows: whether the first casts any.
    """

    yaw: float
    pitch: float
    roll: float
    distance: float
    eyes: float
    shift: npt.NDArray[np.float64]
    ambient: npt.NDArray[np.float32]
    lights: npt.NDArray[np.float32]
    shadows: bool


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw pose, camera and one to three lights."""
    wide = rng.random() < 0.15
    yaw = rng.uniform(-60, 60) if wide else np.clip(rng.normal(0, 17), -50, 50)
    return Scene(
        float(yaw),
        float(np.clip(rng.normal(0, 9), -30, 30)),
        float(np.clip(rng.normal(0, 8), -30, 30)),
        float(np.exp(rng.uniform(np.log(5.5), np.log(40)))),
        float(rng.uniform(0.26, 0.36)),
        rng.normal(0, 0.025, 2),
        _ambient(rng),
        _lights(rng),
        bool(rng.random() < 0.75),
    )


def rotation(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float32]:
    """Make the matrix ``(3, 3)`` that turns a head: first by yaw, then by pitch, then by roll."""
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians([yaw, pitch, roll])) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    matrix: npt.NDArray[np.float32] = (about_z @ about_x @ about_y).astype(np.float32)
    return matrix


def _tint(rng: np.random.Generator, strength: float) -> npt.NDArray[np.float64]:
    """Light from warm to cold."""
    warm = rng.normal(0, strength)
    return np.exp(np.array([warm, 0, -warm]) + rng.normal(0, strength / 4, 3))


def _ambient(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    above = rng.uniform(0.25, 0.8) * _tint(rng, 0.12)
    below = rng.uniform(0.3, 0.9) * above * _tint(rng, 0.1)
    return np.stack([above, below]).astype(np.float32)


def _lights(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A key light from the front or a side, often a weak one, sometimes one from behind."""
    count = rng.choice(3, p=[0.35, 0.4, 0.25]) + 1
    lights = np.zeros((count, 9))
    for number in range(count):
        around, up, strength = rng.normal(0, 38), rng.normal(25, 20), rng.uniform(0.5, 1.3)
        if number == 1:
            around, up, strength = rng.uniform(-90, 90), rng.normal(5, 20), rng.uniform(0.1, 0.5)
        elif number == 2:
            around = rng.choice([-1, 1]) * rng.uniform(100, 160)
            strength = rng.uniform(0.3, 1.2)
        a, b = np.radians([np.clip(around, -170, 170), np.clip(up, -40, 75)])
        towards = np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])
        half = towards + np.array([0, 0, 1])
        colour = strength * _tint(rng, 0.15 if number else 0.1)
        lights[number] = np.concatenate([towards, colour, half / np.linalg.norm(half)])
    return lights.astype(np.float32)


def draw_background(rng: np.random.Generator, side: int) -> npt.NDArray[np.float32]:
    """Draw one: plain, a gradient, blots, or shapes out of focus.

    Returns:
        ``(side, side, 3)`` float32 of linear light, 0 to 1.
    """
    kind = rng.integers(4)
    base = rng.uniform(0, 1) ** 1.2 * (1 - rng.uniform(0, 0.6) * rng.uniform(0, 1, 3))
    if kind == 0:
        small = np.broadcast_to(base, (2, 2, 3)) + rng.normal(0, 0.03, (2, 2, 1))
    elif kind == 1:
        small = base + rng.normal(0, 0.2, (2, 2, 1)) + rng.normal(0, 0.06, (2, 2, 3))
    else:
        cells = int(rng.integers(3, 14))
        small = (
            base + rng.normal(0, 0.15, (cells, cells, 1)) + rng.normal(0, 0.04, (cells, cells, 3))
        )
    picture = Image.fromarray((np.clip(small, 0, 1) * 255).astype(np.uint8))
    picture = picture.resize((64, 64), Image.Resampling.BICUBIC)
    if kind == 3:
        for _ in range(rng.integers(2, 9)):
            left, top = rng.integers(-20, 60, 2)
            width, height = rng.integers(4, 40, 2)
            colour = tuple(
                int(part) for part in np.clip(rng.integers(256) + rng.normal(0, 25, 3), 0, 255)
            )
            picture.paste(colour, (int(left), int(top), int(left + width), int(top + height)))
        picture = picture.reduce(int(rng.integers(1, 5)))
    picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    return np.square(np.asarray(picture, np.float32) / 255)
