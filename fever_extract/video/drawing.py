"""Draw faces on their picture, above a band that plots their last ten seconds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fever_extract.records import Face
from fever_extract.video.plot import COLOURS

if TYPE_CHECKING:
    import numpy.typing as npt

Colour = tuple[int, int, int]

YELLOW: Colour = (255, 209, 0)
# Of faces, by id: light, so that dark letters stand on them.
FACE_COLOURS: tuple[Colour, ...] = (
    YELLOW,
    (110, 200, 255),
    (255, 150, 110),
    (130, 225, 150),
    (235, 160, 235),
    (215, 215, 215),
)
_INK = (20, 20, 20)
_SMOOTH = 4  # drawn this much larger and reduced: Pillow's own edges are jagged
_PAPER = (24, 24, 24)
_LIGHT = (225, 225, 225)
_GRID = (70, 70, 70)
_SECONDS = 10.0  # that the band shows
_ROWS = 4  # faces in the band: those of the last frames


def draw_face(
    picture: Image.Image, face: Face, text: str, colour: Colour = YELLOW, *, landmarks: bool = True
) -> None:
    """Draw one face's box and label, and its landmarks, on a picture.

    Args:
        picture: RGB; it is changed.
        face: in the picture's pixels.
        text: the label; empty for none.
        colour: of all of it.
        landmarks: draw these, too.
    """
    line = max(1.5, face.size / 70)
    font_size = max(13, face.size / 8)
    font = ImageFont.load_default(size=_SMOOTH * font_size)
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
    draw.rounded_rectangle(scaled(x1, y1, x2, y2), radius, outline=colour, width=width)
    spot = 1.4 * line
    for x, y in face.landmarks.tolist() if landmarks else ():
        if math.isfinite(x):  # NaN where nothing was detected
            around = scaled(x - spot, y - spot, x + spot, y + spot)
            draw.ellipse(around, fill=colour, outline=_INK, width=max(1, width // 4))
    if text:
        corners = scaled(label_x, label_y, label_x + label_width, label_y + label_height)
        draw.rounded_rectangle(corners, radius, fill=colour)
        x, y = scaled(label_x + pad, label_y + label_height / 2)
        draw.text((x, y), text, fill=_INK, font=font, anchor="lm")
    layer = layer.resize(size, Image.Resampling.BOX)
    picture.paste(layer, (left, top), layer)


def draw_faces(pixels: npt.NDArray[np.uint8], faces: Iterable[Face]) -> Image.Image:
    """Draw each face of a frame on a copy of it, with its id and most probable expression.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB.
        faces: what was found in it.
    """
    picture = Image.fromarray(pixels).copy()
    for face in faces:
        draw_face(picture, face, describe(face), colour_of(face), landmarks=False)
    return picture


def describe(face: Face) -> str:
    """The label of a face: ``0 happiness 99%``."""
    words = [] if face.track is None else [str(face.track)]
    if face.expression is not None:
        words += [face.expression, f"{face.probability:.0%}"]
    return " ".join(words)


def colour_of(face: Face) -> Colour:
    """The colour of a face's id."""
    return FACE_COLOURS[(face.track or 0) % len(FACE_COLOURS)]


class Annotator:
    """Draws the frames of one clip, each with the last ten seconds in a band at its foot.

    The band has a row for each face of late: bars as high as its most probable expression is
    probable, in that expression's colour.
    """

    def __init__(self) -> None:
        self._past: dict[int, deque[tuple[float, int, float]]] = {}
        self._expressions: list[str] = []

    def draw(
        self, pixels: npt.NDArray[np.uint8], faces: Sequence[Face], time: float
    ) -> npt.NDArray[np.uint8]:
        """Draw one frame.

        Args:
            pixels: ``(h, w, 3)`` uint8 RGB.
            faces: of the frame.
            time: of the frame in seconds; frames come in the order of time.

        Returns:
            ``(H, W, 3)`` uint8 RGB with even sides, as codecs want them: the frame with a band
            below; all frames of a size come out in one size.
        """
        for face in faces:
            if face.expressions and face.track is not None:
                self._expressions = list(face.expressions)
                place = self._expressions.index(str(face.expression))
                past = self._past.setdefault(face.track, deque())
                past.append((time, place, float(face.probability or 0)))
        for track, past in list(self._past.items()):
            while past and past[0][0] < time - _SECONDS:
                past.popleft()
            if not past:
                del self._past[track]
        picture = draw_faces(pixels, faces)
        band = self._band(picture.width, picture.height, time)
        width, height = picture.width, picture.height + band.height
        whole = Image.new("RGB", (width + width % 2, height + height % 2), _PAPER)
        whole.paste(picture, (0, 0))
        whole.paste(band, (0, picture.height))
        return np.array(whole)

    def _band(self, width: int, height: int, time: float) -> Image.Image:
        row = max(18, height // 16)
        text = round(row * 0.62)
        band = Image.new("RGB", (width, (_ROWS + 1) * row), _PAPER)
        draw = ImageDraw.Draw(band)
        font = ImageFont.load_default(size=text)
        left = round(2.5 * row)
        scale = (width - left) / _SECONDS
        end = max(time, _SECONDS)  # at first the band fills from the left

        def across(moment: float) -> float:
            return left + (moment - end + _SECONDS) * scale

        for second in range(math.ceil(end - _SECONDS), math.floor(end) + 1):
            draw.line([across(second), 0, across(second), _ROWS * row], fill=_GRID)
        latest = sorted(self._past, key=lambda track: (-self._past[track][-1][0], track))
        for number, track in enumerate(sorted(latest[:_ROWS])):
            foot = (number + 1) * row - 2
            colour = FACE_COLOURS[track % len(FACE_COLOURS)]
            draw.text((6, foot - row / 2), str(track), fill=colour, font=font, anchor="lm")
            past = self._past[track]
            for (start, place, probability), after in zip(past, [*list(past)[1:], None]):
                until = start + 0.04 if after is None else min(after[0], start + 1)
                top = foot - probability * (row - 4)
                x1, x2 = across(max(start, end - _SECONDS)), across(until)
                draw.rectangle([x1, top, max(x2, x1), foot], fill=_shade(place))
        self._legend(draw, font, width, _ROWS * row, row)
        return band

    def _legend(
        self,
        draw: ImageDraw.ImageDraw,
        font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
        width: int,
        top: int,
        row: int,
    ) -> None:
        shown = sorted({place for past in self._past.values() for _, place, _ in past})
        x = 6.0
        for place in shown:
            name = self._expressions[place]
            needed = row + font.getlength(name)
            if x + needed > width:
                break  # the label of the face has it, too
            side = row * 0.45
            y = top + row / 2
            draw.rectangle([x, y - side / 2, x + side, y + side / 2], fill=_shade(place))
            draw.text((x + side + 4, y), name, fill=_LIGHT, font=font, anchor="lm")
            x += needed + 4


def _shade(place: int) -> str:
    # Black is for paper that is white.
    colour = COLOURS[place % len(COLOURS)]
    return "#ffffff" if colour == "#000000" else colour
