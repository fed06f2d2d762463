"""Faces given by the caller: boxes or landmarks that replace detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract.detection.parameters import Detections
from fever_extract.images import ImageLike
from fever_extract.options import SMALLEST_FACE
from fever_extract.records import Status

if TYPE_CHECKING:
    import numpy.typing as npt

_SHAPES = {
    "boxes": "x1, y1, x2, y2 in pixels of the upright picture, (4,) or (k, 4)",
    "landmarks": "five points x, y in pixels of the upright picture, (5, 2), (10,) or (k, 5, 2)",
}
# MTCNN's boxes relative to its landmarks: centre, width and height in sides of a crop with the eyes
# at 32 % and 68 % across; means over photographs.
_EYES_APART = 0.36
_BOX = (0.0, -0.06, 0.73, 1.04)


@dataclass(frozen=True, eq=False)
class Given:
    """An image and its faces.

    Attributes:
        image: as `fever_extract.images.read` takes it.
        boxes: ``(k, 4)`` float32, x1, y1, x2, y2; None to take them from the landmarks.
        landmarks: ``(k, 5, 2)`` float32; None to find them in the boxes.
    """

    image: ImageLike
    boxes: npt.NDArray[np.float32] | None
    landmarks: npt.NDArray[np.float32] | None

    def check(self, height: int, width: int) -> list[tuple[Status, str] | None]:
        """Check each face against the picture's size: None if it can be used, else the reason."""
        corners = self.boxes
        if corners is None:
            assert self.landmarks is not None
            corners = np.concatenate(
                [self.landmarks.min(axis=1), self.landmarks.max(axis=1)], axis=1
            )
        return [_check_box(box, height, width, self.boxes is not None) for box in corners]

    def explain(self, height: int, width: int) -> tuple[Status, str | None]:
        """Return the status and the reason if faces can't be used: all of an image's, or some."""
        problems = self.check(height, width)
        if not problems:
            return Status.NO_FACE, "no face was given for it"
        found = [(index, problem) for index, problem in enumerate(problems) if problem]
        if len(problems) == 1:
            return found[0][1] if found else (Status.OK, None)
        reasons = [f"face {index}: {reason}" for index, (_, reason) in found]
        status = found[0][1][0] if len(found) == len(problems) else Status.OK
        return status, "; ".join(reasons) or None

    def take(self, chosen: Sequence[int]) -> Given:
        """Take some of the faces, by their indices."""
        boxes, landmarks = (
            None if side is None else side[list(chosen)] for side in (self.boxes, self.landmarks)
        )
        return Given(self.image, boxes, landmarks)

    def detections(self) -> Detections:
        """Convert to detections, where landmarks were given or there are no faces."""
        if self.landmarks is None:
            nothing = np.zeros(0, np.float32)
            return Detections(nothing.reshape(0, 4), nothing, nothing.reshape(0, 5, 2))
        boxes = box_around(self.landmarks) if self.boxes is None else self.boxes
        return Detections(boxes, np.full(len(boxes), np.nan, np.float32), self.landmarks)


def pair(images: Sequence[ImageLike], single: bool, boxes: Any, landmarks: Any) -> list[Given]:
    """Pair images with their faces.

    Args:
        images: any number of them.
        single: whether the faces are those of one image, not in a list of their own.
        boxes: per image ``(4,)``, ``(k, 4)`` or None; or None altogether.
        landmarks: per image ``(5, 2)``, ``(10,)``, ``(k, 5, 2)``, ``(k, 10)`` or None; or None.

    Raises:
        ValueError: if there are not as many as images, or a shape or a box is not possible.
    """
    sides: list[list[npt.NDArray[np.float32]] | None] = []
    for name, values, shape in (("boxes", boxes, (4,)), ("landmarks", landmarks, (5, 2))):
        if values is None:
            sides.append(None)
            continue
        listed = [values] if single else list(values)
        if len(listed) != len(images):
            raise ValueError(
                f"{name}: {len(listed)} for {len(images)} images; give one entry an image, None "
                "where there is no face"
            )
        sides.append([_rows(name, index, one, shape) for index, one in enumerate(listed)])
    given = []
    for index, image in enumerate(images):
        box, points = (None if side is None else side[index] for side in sides)
        if box is not None and points is not None and len(box) != len(points):
            raise ValueError(f"image {index}: {len(box)} boxes and {len(points)} sets of landmarks")
        given.append(Given(image, box, points))
    return given


def box_around(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Draw boxes as MTCNN would around landmarks ``(k, 5, 2)``, by its mean proportions."""
    points = landmarks.astype(np.float64)
    middle = (points[:, :2].mean(axis=1) + points[:, 3:].mean(axis=1)) / 2
    eyes = points[:, 1] - points[:, 0]
    down = points[:, 3:].mean(axis=1) - points[:, :2].mean(axis=1)
    # The longer of two measures: a face in profile has its eyes near each other.
    side = np.maximum(np.linalg.norm(eyes, axis=1), 0.9 * np.linalg.norm(down, axis=1))
    side = (side / _EYES_APART)[:, None]
    centre = middle + np.array(_BOX[:2]) * side
    half = np.array(_BOX[2:]) * side / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def _rows(name: str, index: int, value: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    if value is None:
        return np.zeros((0, *shape), np.float32)
    problem = f"{name} of image {index}: expected {_SHAPES[name]}"
    try:
        rows = np.atleast_1d(np.asarray(value, np.float32))
    except (TypeError, ValueError):
        raise ValueError(f"{problem}; got {type(value).__name__}") from None
    if not rows.size:
        return np.zeros((0, *shape), np.float32)
    flat = int(np.prod(shape))
    if rows.shape not in ((flat,), shape, (len(rows), flat), (len(rows), *shape)):
        raise ValueError(f"{problem}; got shape {rows.shape}")
    rows = rows.reshape(-1, *shape)
    if name == "boxes" and (rows[:, 2:] <= rows[:, :2]).any():
        raise ValueError(f"{problem}; got {_shown(rows[0])}: are these x, y, width, height?")
    return rows


def _check_box(
    box: npt.NDArray[np.float32], height: int, width: int, is_box: bool
) -> tuple[Status, str] | None:
    name = "the box" if is_box else "the landmarks' box"
    if not np.isfinite(box).all():
        return Status.NO_FACE, "no box was given for it" if is_box else "no landmarks were given"
    x1, y1, x2, y2 = box.tolist()
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return (
            Status.NO_FACE,
            f"{name} {_shown(box)} lies outside the picture of {width}x{height} pixels",
        )
    if is_box and min(x2 - x1, y2 - y1) < SMALLEST_FACE:
        hint = ": are these fractions of the picture?" if box.max() <= 1 else ""
        return (
            Status.TOO_SMALL,
            f"{name} {_shown(box)} is smaller than {SMALLEST_FACE} pixels{hint}",
        )
    return None


def _shown(box: npt.NDArray[np.float32]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box.tolist()) + ")"
