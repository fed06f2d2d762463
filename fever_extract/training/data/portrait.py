"""Crop one face with a margin, and find its landmarks."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torchvision.ops import box_iou

from fever_extract import images
from fever_extract.detection.detector import Detector
from fever_extract.detection.parameters import Detections, smallest_face
from fever_extract.records import ExtractionError, Status
from fever_extract.training.data.readers.sample import Box, Sample

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = 192
"""Sides of a stored picture, at most, in pixels."""

# Sides of a crop, to one of a face's box. With landmarks, training turns and scales it; the
# aligned crop is about 1.2 boxes wide, and turned by 45 degrees it still fits. Without, the whole
# picture is what training shows.
_WIDE, _TIGHT = 1.8, 1.2
_LOOK = 3.0
"""Sides of what is searched, to one of the owner's box."""
_SAME = 0.2
"""Overlap (intersection over union) from which a found face is the owner's. Owners' boxes are
drawn in many ways: tight, or with all of the hair."""
_BORDER = 0.25
"""Of a tight crop's side: what is added about it before it is searched. MTCNN stretches what the
border cuts, so that landmarks in FER+'s crops come out 2 of 48 pixels (median) from where the same
detector puts them with something around the face; with a border, 0.6."""
_QUALITY = 95


@dataclass(frozen=True, eq=False)
class Portrait:
    """A square picture of one face.

    Attributes:
        image: an encoded file: the owner's own bytes where that is small and square.
        landmarks: ``(5, 2)`` float32 in its pixels, as `Detections` has them; None if no face was
            found.
    """

    image: bytes
    landmarks: npt.NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class _Square:
    """A region of a picture, in whole pixels; it may reach over the border."""

    left: int
    top: int
    side: int

    @classmethod
    def around(cls, box: npt.NDArray[np.floating], factor: float) -> _Square:
        """``factor`` times as large as a box's longer side, about its centre."""
        side = max(1, round(factor * float(max(box[2] - box[0], box[3] - box[1]))))
        x, y = (box[:2] + box[2:]) / 2
        return cls(round(float(x) - side / 2), round(float(y) - side / 2), side)

    @classmethod
    def whole(cls, width: int, height: int) -> _Square:
        """The smallest that has all of a picture in it."""
        side = max(width, height)
        return cls(-((side - width) // 2), -((side - height) // 2), side)

    def moved_inside(self, width: int, height: int) -> _Square:
        """Moved so that no more than need be lies outside of a picture of that size."""
        if self.side >= max(width, height):
            return _Square.whole(width, height)
        left, top = (
            min(max(start, 0), length - self.side) if self.side <= length else start
            for start, length in ((self.left, width), (self.top, height))
        )
        return _Square(left, top, self.side)


def cut_out(sample: Sample, detector: Detector) -> Portrait:
    """Find the sample's face as extraction would, and cut it out.

    Where the owner gives a box, the face nearest to it is taken, otherwise the largest. If none is
    found, the box is cut out; without a box, the picture is kept whole if it is a crop.

    Raises:
        ExtractionError: if the picture can't be read, or no face is found in a photograph.
    """
    pixels = images.read(sample.picture)
    height, width = pixels.shape[:2]
    whole = _Square.whole(width, height)
    box = None if sample.box is None else _in_pixels(sample.box, width, height)
    found = None
    if sample.is_crop and box is None:
        found = _find(pixels, None, detector, border=round(_BORDER * max(height, width)))
    if found is None:
        found = _find(pixels, box, detector)
    if found is not None:
        square, points = _Square.around(found.boxes[0], _WIDE), found.landmarks[0]
        square = square.moved_inside(width, height)
    elif box is not None:
        square, points = _Square.around(box, _TIGHT), None
    elif sample.is_crop:
        square, points = whole, None
    else:
        raise ExtractionError(Status.NO_FACE, "no face was found")
    if height == width <= SIDE and (points is not None or square is whole):
        square = whole
        if (own := _own_bytes(sample.picture)) is not None:
            return Portrait(own, points)
    picture = Image.fromarray(_region(pixels, square))
    scale = 1.0
    if square.side > SIDE:
        scale = SIDE / square.side
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    if points is not None:
        points = (points - np.array([square.left, square.top], np.float32)) * np.float32(scale)
    return Portrait(buffer.getvalue(), points)


def _in_pixels(box: Box, width: int, height: int) -> npt.NDArray[np.float64]:
    """The owner's box ``(4,)``: x1, y1, x2, y2.

    Raises:
        ExtractionError: if nothing of it is in the picture.
    """
    corners = np.array(box[:4], np.float64) * ([width, height] * 2 if box.relative else 1)
    inside = np.clip(corners, 0, [width, height] * 2)
    if box.is_empty or (inside[2:] - inside[:2]).min() < 1:
        raise ExtractionError(Status.NO_FACE, "its owner's face box is not in the picture")
    return corners


def _find(
    pixels: npt.NDArray[np.uint8],
    box: npt.NDArray[np.float64] | None,
    detector: Detector,
    border: int = 0,
) -> Detections | None:
    """The one face that is meant, in the picture's pixels."""
    left, top = -border, -border
    if border:
        pixels = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="edge")
    if box is not None:
        # In a large photograph, to look about the box only is quicker, and finds small faces.
        look = _Square.around(box, _LOOK)
        left, top = max(0, look.left), max(0, look.top)
        pixels = np.array(pixels[top : look.top + look.side, left : look.left + look.side])
    height, width = pixels.shape[:2]
    smallest = smallest_face(height, width)
    if min(height, width) < smallest:
        return None
    try:
        (faces,) = detector.detect([pixels], [smallest])
    except RuntimeError as error:
        # Out of memory, say: one picture's trouble, not the run's.
        raise ExtractionError(Status.DETECT_ERROR, f"detection failed: {error}"[:300]) from error
    offset = np.array([left, top], np.float32)
    faces = Detections(faces.boxes + np.tile(offset, 2), faces.scores, faces.landmarks + offset)
    if box is None:
        order = faces.order("largest", width, height)
    else:
        overlaps = box_iou(torch.from_numpy(faces.boxes).double(), torch.from_numpy(box)[None])
        overlaps = overlaps[:, 0].numpy()
        order = overlaps.argsort()[::-1]
        order = order[overlaps[order] >= _SAME]
    return faces.take(order[:1]) if len(order) else None


def _own_bytes(picture: str | bytes) -> bytes | None:
    """The file as it is, if whatever reads it gets the very pixels that were searched."""
    data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    with Image.open(io.BytesIO(data)) as file:
        upright = images.orientation(file) == 1
        plain = file.format in ("JPEG", "PNG") and file.mode in ("L", "RGB")
        plain = plain and not file.has_transparency_data
    return data if upright and plain else None


def _region(pixels: npt.NDArray[np.uint8], square: _Square) -> npt.NDArray[np.uint8]:
    """A square of a picture; what lies outside repeats the edge, as in `alignment.warp`."""
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(square.top, square.top + square.side), 0, height - 1)
    columns = np.clip(np.arange(square.left, square.left + square.side), 0, width - 1)
    return pixels[rows[:, None], columns]
