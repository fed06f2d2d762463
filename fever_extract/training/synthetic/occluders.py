"""Draw what covers faces: glasses, a mask, a hand, a ball or a bar before the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    import numpy.typing as npt

GLASSES, DARK_GLASSES, COVERED = 0.14, 0.03, 0.1
"""Shares of faces."""


def cover(
    picture: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Cover some faces.

    Args:
        picture: ``(side, side, 3)`` float32 of linear light, changed.
        points: ``(n, 2)`` in its pixels, of `outline`.
        rng: what decides.
    """
    chance = rng.random()
    if chance < GLASSES + DARK_GLASSES:
        _glasses(picture, points, rng, dark=chance < DARK_GLASSES)
    if rng.random() < COVERED:
        kind = rng.integers(4)
        (_mask, _hand, _ball, _bar)[kind](picture, points, rng)


def outline(
    eyes: npt.NDArray[np.float32], mouth: npt.NDArray[np.float32], nose: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Place in space what occluders are drawn by.

    Args:
        eyes: ``(2, 3)``, the right and the left one, from the person's view.
        mouth: ``(2, 3)``, its corners.
        nose: ``(3,)``, its tip.

    Returns:
        ``(52, 3)``: 20 points of a ring about each eye, one at each ear, and 10 of a mask's edge.
    """
    apart = float(np.linalg.norm(eyes[1] - eyes[0]))
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    # Between a circle and a square, somewhat before the eye.
    shape = np.stack([np.cos(turn), 0.8 * np.sin(turn)], axis=1)
    shape /= (np.abs(shape) ** 3).sum(axis=1, keepdims=True) ** (1 / 3)
    rings = [
        eye + apart * np.column_stack([0.4 * shape, np.full(20, 0.3)]) + [0, -0.05 * apart, 0]
        for eye in eyes
    ]
    ears = eyes + apart * np.array([[-0.75, 0.05, -1.3], [0.75, 0.05, -1.3]])
    low = mouth.mean(axis=0)
    corners = [(-0.75, 0.55, -0.75), (-0.4, 0.5, 0.02), (0, 0.62, 0.42), (0.4, 0.5, 0.02),
               (0.75, 0.55, -0.75), (0.78, -0.1, -0.8), (0.55, -0.6, -0.35), (0, -0.75, 0.0),
               (-0.55, -0.6, -0.35), (-0.78, -0.1, -0.8)]  # fmt: skip
    mask = low + apart * np.array(corners)
    mask[2] = nose + apart * np.array([0, 0.1, 0.05])
    return np.concatenate([*rings, ears, mask]).astype(np.float32)


def _lay(
    picture: npt.NDArray[np.float32], layer: Image.Image, colour: npt.ArrayLike, strength: float = 1
) -> None:
    """Lay a colour, or a picture of one, over what a grey mask says."""
    share = np.asarray(layer, np.float32)[..., None] * (strength / 255)
    picture += share * (np.asarray(colour, np.float32) - picture)


def _new(picture: npt.NDArray[np.float32]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    layer = Image.new("L", (picture.shape[1], picture.shape[0]))
    return layer, ImageDraw.Draw(layer)


def _glasses(
    picture: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
    rng: np.random.Generator,
    dark: bool,
) -> None:
    rings, ears = [points[:20], points[20:40]], points[40:42]
    apart = float(np.linalg.norm(rings[1].mean(axis=0) - rings[0].mean(axis=0)))
    width = max(1, round(float(rng.uniform(0.03, 0.1)) * apart))
    if dark:
        layer, pen = _new(picture)
        for ring in rings:
            pen.polygon([*map(tuple, ring.tolist())], fill=255)
        _lay(picture, layer, rng.uniform(0, 0.05, 3), rng.uniform(0.75, 1))
    layer, pen = _new(picture)
    for ring, ear, outer in zip(rings, ears, (10, 0)):
        path = [*map(tuple, ring.tolist())]
        pen.line([*path, path[0]], fill=255, width=width, joint="curve")
        # The side that is turned away has its arm behind the head.
        if abs(ear[0] - ring[:, 0].mean()) > 0.75 * np.ptp(ring[:, 0]):
            pen.line([path[outer], tuple(ear.tolist())], fill=255, width=width)
    pen.line([tuple(rings[0][0].tolist()), tuple(rings[1][10].tolist())], fill=255, width=width)
    _lay(picture, layer, rng.uniform(0, 0.6) * rng.uniform(0.3, 1, 3), rng.uniform(0.7, 1))


def _shaded(picture: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Shade a colour across the picture."""
    height, width = picture.shape[:2]
    colour = rng.uniform(0.02, 0.8, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0.02, 0.8))
    left, right, top, bottom = rng.uniform(0.5, 1.1, 4).tolist()
    across, down = np.linspace(left, right, width), np.linspace(top, bottom, height)
    grain = down[:, None] * across * rng.normal(1, 0.04, (height, width))
    shaded: npt.NDArray[np.float32] = (grain[..., None] * colour).astype(np.float32)
    return shaded


def _mask(
    picture: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    layer, pen = _new(picture)
    pen.polygon([*map(tuple, points[42:52].tolist())], fill=255)
    _lay(picture, layer.filter(ImageFilter.GaussianBlur(1)), _shaded(picture, rng))


def _hand(
    picture: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Draw a palm from below and fingers towards a place on the face."""
    low, high = points[42:].min(axis=0), points.max(axis=0)
    size = float(np.linalg.norm(points[20:40].mean(axis=0) - points[:20].mean(axis=0)))
    tip = rng.uniform(low, np.maximum(high, low + 1))
    angle = rng.uniform(0.15, 0.85) * np.pi
    along, across = (
        np.array([np.cos(angle), np.sin(angle)]),
        np.array([-np.sin(angle), np.cos(angle)]),
    )
    colour = rng.uniform(0.15, 1) * np.array([0.62, 0.36, 0.25])
    for finger in range(4):
        layer, pen = _new(picture)
        root = tip + along * size * 1.3 + across * size * 0.3 * (finger - 1.5)
        end = root - along * size * rng.uniform(0.9, 1.3)
        width = size * 0.27
        pen.line([tuple(root.tolist()), tuple(end.tolist())], fill=255, width=round(width))
        for place in (end, root):
            pen.ellipse([*(place - width / 2).tolist(), *(place + width / 2).tolist()], fill=255)
        _lay(picture, layer.filter(ImageFilter.GaussianBlur(1.2)), colour * rng.uniform(0.8, 1.1))
    layer, pen = _new(picture)
    palm = tip + along * size * 1.9
    pen.ellipse([*(palm - size * 0.8).tolist(), *(palm + size * 0.8).tolist()], fill=255)
    _lay(picture, layer.filter(ImageFilter.GaussianBlur(1.2)), colour * 0.9)


def _ball(
    picture: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    size = float(np.linalg.norm(points[20:40].mean(axis=0) - points[:20].mean(axis=0)))
    layer, pen = _new(picture)
    middle, radius = rng.uniform(points.min(axis=0), points.max(axis=0)), size * rng.uniform(0.4, 1)
    pen.ellipse([*(middle - radius).tolist(), *(middle + radius).tolist()], fill=255)
    # Lit from above at one side, as a ball is.
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    lit = middle + radius * rng.uniform([-0.5, -0.6], [0.5, -0.1])
    shade = np.clip(1.2 - np.hypot(x - lit[0], y - lit[1]) / (1.6 * radius), 0.1, 1.2)
    colours = _shaded(picture, rng) * shade[..., None].astype(np.float32)
    _lay(picture, layer.filter(ImageFilter.GaussianBlur(1)), colours)


def _bar(
    picture: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Draw a rod, a microphone or an edge across the face."""
    size = float(np.linalg.norm(points[20:40].mean(axis=0) - points[:20].mean(axis=0)))
    layer, pen = _new(picture)
    through, angle = rng.uniform(points.min(axis=0), points.max(axis=0)), rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)]) * picture.shape[0] * 2
    start = through if rng.random() < 0.5 else through - along
    width = max(2, round(size * rng.uniform(0.15, 0.6)))
    pen.line([tuple(start.tolist()), tuple((through + along).tolist())], fill=255, width=width)
    _lay(picture, layer.filter(ImageFilter.GaussianBlur(1)), _shaded(picture, rng))
