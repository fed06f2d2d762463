"""Faces drawn on their picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from fever_extract.records import Face

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_COLOR = (255, 209, 0)
_INK = (20, 20, 20)


def annotate(pixels: npt.NDArray[np.uint8], faces: Iterable[Face]) -> Image.Image:
    """A copy of the picture with each face's box, landmarks and expression.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB, the picture that the faces were found in.
        faces: what was found.
    """
    picture = Image.fromarray(pixels).copy()
    draw = ImageDraw.Draw(picture)
    for face in faces:
        line = max(2, round(face.size / 60))
        draw.rectangle(face.box.tolist(), outline=_COLOR, width=line)
        for x, y in face.landmarks.tolist():
            radius = line * 1.2
            spot = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(spot, fill=_COLOR, outline=_INK)
        if face.expression is None:
            continue
        font = ImageFont.load_default(size=max(12, round(face.size / 8)))
        text = f"{face.expression} {face.probability:.0%}"
        left, top = face.box[0], face.box[1]
        _, _, width, height = draw.textbbox((0, 0), text, font=font)
        # Above the box where there is room, else inside it.
        top = top - height - 2 * line if top > height + 2 * line else top + line
        draw.rectangle((left, top, left + width + 4 * line, top + height + 2 * line), fill=_COLOR)
        draw.text((left + 2 * line, top + line / 2), text, fill=_INK, font=font)
    return picture
