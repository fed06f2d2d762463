"""Draw faces on their image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from fever_extract.records import Face

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_COLOR = (255, 209, 0)
_INK = (20, 20, 20)
_SMOOTH = 4  # drawn this much larger and reduced: Pillow's own edges are jagged


def annotate(pixels: npt.NDArray[np.uint8], faces: Iterable[Face]) -> Image.Image:
    """Draw each face's box, landmarks and expression on a copy of the image.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB, the picture that the faces were found in.
        faces: what was found.
    """
    picture = Image.fromarray(pixels).copy()
    for face in faces:
        _draw(picture, face)
    return picture


def _draw(picture: Image.Image, face: Face) -> None:
    """Draw one face on a transparent layer as large as its surroundings."""
    line = max(1.5, face.size / 70)
    font_size = max(13, face.size / 8)
    font = ImageFont.load_default(size=_SMOOTH * font_size)
    text = "" if face.expression is None else f"{face.expression} {face.probability:.0%}"
    pad = 3 * line
    x1, y1, x2, y2 = face.box.tolist()
    text_width, text_height = font.getlength(text) / _SMOOTH, 1.2 * font_size
    label_width, label_height = text_width + 2 * pad, text_height + pad
    # The label is above the box, or inside it where there is no room, and never beyond the edge.
    label_x = max(0.0, min(x1 - line / 2, picture.width - label_width))
    label_y = y1 - label_height - line if y1 >= label_height + line else max(y1, 0.0) + line

    left, top = int(min(x1, label_x) - pad), int(min(y1, label_y) - pad)
    right, bottom = int(max(x2, label_x + label_width) + pad) + 1, int(y2 + pad) + 1
    size = (right - left, bottom - top)
    layer = Image.new("RGBA", (size[0] * _SMOOTH, size[1] * _SMOOTH))
    draw = ImageDraw.Draw(layer)

    def scaled(*values: float) -> list[float]:
        return [
            (value - (top if index % 2 else left)) * _SMOOTH for index, value in enumerate(values)
        ]

    radius = 3 * line * _SMOOTH
    width = round(line * _SMOOTH)
    draw.rounded_rectangle(scaled(x1, y1, x2, y2), radius, outline=_COLOR, width=width)
    spot = 1.4 * line
    for x, y in face.landmarks.tolist():
        if math.isfinite(x):  # NaN where nothing was detected
            around = scaled(x - spot, y - spot, x + spot, y + spot)
            draw.ellipse(around, fill=_COLOR, outline=_INK, width=max(1, width // 4))
    if text:
        corners = scaled(label_x, label_y, label_x + label_width, label_y + label_height)
        draw.rounded_rectangle(corners, radius, fill=_COLOR)
        x, y = scaled(label_x + pad, label_y + label_height / 2)
        draw.text((x, y), text, fill=_INK, font=font, anchor="lm")
    layer = layer.resize(size, Image.Resampling.BOX)
    picture.paste(layer, (left, top), layer)
