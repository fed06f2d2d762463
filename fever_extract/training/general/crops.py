"""Aligned crops with some room about them: cut once, then moved about at each step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from fever_extract import alignment
from fever_extract.models.config import Preprocessing
from fever_extract.training.data import augment
from fever_extract.training.general import web_teacher
from fever_extract.training.general.web_teacher import WebTeacher

if TYPE_CHECKING:
    import numpy.typing as npt

ROOM = 1.25
"""Side of what is kept, in sides of what the network sees."""

_AT_ONCE = 128
_LUMINANCE = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


def with_room(preprocessing: Preprocessing) -> Preprocessing:
    """Return the same alignment, with room about the face at the same scale."""
    template = tuple(
        ((x - 0.5) / ROOM + 0.5, (y - 0.5) / ROOM + 0.5) for x, y in preprocessing.template
    )
    size = round(ROOM * preprocessing.size)
    return dataclasses.replace(preprocessing, size=size, template=template)


def cut(
    pictures: Iterable[npt.NDArray[np.uint8]],
    landmarks: npt.NDArray[np.float32],
    preprocessing: Preprocessing,
    teacher: WebTeacher | None,
    what: str = "faces",
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Cut faces out as `fever_extract.alignment` does, with room, and ask the teacher about them.

    Args:
        pictures: n of them, ``(h, w, 3)`` uint8.
        landmarks: ``(n, 5, 2)`` in their pixels; NaN takes the whole picture.
        preprocessing: of the network; what is cut out is `ROOM` times as large.
        teacher: None says nothing.
        what: named by the progress bar.

    Returns:
        Grey crops ``(n, side, side)`` uint8, and the teacher's probabilities ``(n, 7)`` float32,
        zero without a teacher.
    """
    wide = with_room(preprocessing)
    arcface = dataclasses.replace(
        wide,
        size=web_teacher.SIZE,
        color="rgb",
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        template=web_teacher.TEMPLATE,
    )
    crops = np.zeros((len(landmarks), wide.size, wide.size), np.uint8)
    said = np.zeros((len(landmarks), len(web_teacher.CLASSES)), np.float32)
    shown: list[torch.Tensor] = []
    for row, picture in enumerate(tqdm(pictures, what, len(crops), leave=False, disable=None)):
        points = landmarks[row]
        crop = _cut(picture, points, wide, border=(ROOM - 1) / 2)
        crops[row] = (crop * _LUMINANCE).sum(dim=0).round().clamp(0, 255).byte().numpy()
        if teacher is None:
            continue
        shown.append(_cut(picture, points, arcface))
        if len(shown) == _AT_ONCE or row == len(crops) - 1:
            said[row + 1 - len(shown) : row + 1] = teacher(torch.stack(shown)).numpy()
            shown.clear()
    return crops, said


def views(
    crops: npt.NDArray[np.uint8],
    size: int,
    generator: torch.Generator | None = None,
    jitter: float = 0.0,
) -> torch.Tensor:
    """What the network sees of crops with room: their middle, moved about if so desired.

    Args:
        crops: ``(n, side, side)``, as `cut` returns them.
        size: of the network's crop, in pixels.
        generator: source of randomness; None leaves all in place.
        jitter: as in `augment.jitter`.

    Returns:
        ``(n, 1, size, size)`` float32, 0 to 255.
    """
    side = crops.shape[-1]
    scale, offset = side / (ROOM * size), side * (1 - 1 / ROOM) / 2
    matrices = torch.tensor([[scale, 0.0, offset], [0.0, scale, offset]]).repeat(len(crops), 1, 1)
    if generator is not None:
        matrices = augment.jitter(matrices, size, generator, jitter)
    # One sample a pixel is enough: both are of one scale.
    return alignment.warp(torch.from_numpy(crops)[:, None].float(), matrices, size, supersample=1)


def _cut(
    picture: npt.NDArray[np.uint8],
    landmarks: npt.NDArray[np.float32],
    preprocessing: Preprocessing,
    border: float = 0.0,
) -> torch.Tensor:
    """One face ``(3, size, size)``; the whole picture and a border without landmarks."""
    if np.isfinite(landmarks).all():
        return alignment.align(picture, landmarks[None], preprocessing)[0]
    whole = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    whole = F.pad(whole, [round(picture.shape[0] * border)] * 4, mode="replicate")
    size = [preprocessing.size] * 2
    return F.interpolate(whole, size, mode="bilinear", antialias=True)[0]
