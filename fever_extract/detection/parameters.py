"""MTCNN's thresholds and sizes, shared by every implementation of its pipeline.

These are `fever_extract.detection.detector` on torch, and a bundle's on NumPy and in JavaScript.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.options import SMALLEST_FACE
from fever_extract.records import ExtractionError, Status

if TYPE_CHECKING:
    import numpy.typing as npt

CELL = 12
"""P-Net's receptive field in pixels: smaller faces can't be detected."""
STRIDE = 2
"""Distance between P-Net's cells, in pixels."""
R_SIZE, O_SIZE = 24, 48
"""Side of the crops that R-Net and O-Net take, in pixels."""
SCALE_STEP = 0.709
"""Scale from one level of the pyramid to the next: about half the area."""
THRESHOLD = 0.7
"""Least score of a candidate after each of the three networks."""
LEVEL_OVERLAP = 0.5
"""Intersection over union above which the worse of two boxes is dropped, within a level."""
OVERLAP = 0.7
"""The same within an image; after O-Net, intersection over the smaller area."""
SAME, SURE = 0.5, 0.9
"""Candidates that overlap a face of this score by more (intersection over union) are the same."""
SLACK = 0.05
"""How far a followed box may reach over what is searched for it, in its sides."""
GREY = 127.5
"""The networks' mean, which stands for what is beyond the border when a box is refined again."""
SETTLE = 3
"""Further passes of O-Net over a detected face, at most."""
STILL = 0.02
"""Landmarks that move less than this have settled, in sides of the face."""
LEAST, USUAL = 20, 40
"""Smallest face to detect by default, in small pictures and in others, in pixels."""
SMALL_PART, LARGE_PART = 9, 50
"""Divisors of the shorter side for that, in small and in very large pictures."""


@dataclass(frozen=True, eq=False)
class Detections:
    """The k faces of one image.

    Attributes:
        boxes: ``(k, 4)`` float32: x1, y1, x2, y2 in pixels; may reach over the border.
        scores: ``(k,)`` float32, 0 to 1.
        landmarks: ``(k, 5, 2)`` float32 in pixels: left eye, right eye, nose, left and
            right mouth corner, as seen.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, indices: npt.NDArray[np.intp]) -> Detections:
        """Take some of the faces, in the given order."""
        return Detections(self.boxes[indices], self.scores[indices], self.landmarks[indices])

    def scaled(self, factor: float) -> Detections:
        """Scale to a picture that is ``factor`` times as large per side."""
        return Detections(self.boxes * factor, self.scores, self.landmarks * factor)

    def order(self, select: str, width: int, height: int) -> npt.NDArray[np.intp]:
        """Rank the faces by a value of `fever_extract.options.SELECT`: indices, best first."""
        corners = self.boxes.reshape(-1, 2, 2)
        if select == "most_confident":
            badness = -self.scores
        elif select == "center":
            centres = corners.mean(axis=1) - np.array([width, height]) / 2
            badness = np.hypot(centres[:, 0], centres[:, 1])
        else:
            badness = -np.prod(corners[:, 1] - corners[:, 0], axis=1)
        return badness.argsort(kind="stable")


def whole_picture(height: int, width: int) -> Detections:
    """Take a whole picture as a face that was not detected: no score, no landmarks.

    Raises:
        ExtractionError: ``too_small``, for less than `SMALLEST_FACE` a side.
    """
    if min(height, width) < SMALLEST_FACE:
        raise ExtractionError(
            Status.TOO_SMALL,
            f"the picture is {width}x{height} pixels; a face needs {SMALLEST_FACE}",
        )
    return Detections(
        boxes=np.array([[0, 0, width, height]], np.float32),
        scores=np.full(1, np.nan, np.float32),
        landmarks=np.full((1, 5, 2), np.nan, np.float32),
    )


def smallest_face(height: int, width: int, detect_size: int | None = None) -> float:
    """Return the smallest face to detect in an image by default, in pixels.

    40; less in small images (a ninth of the shorter side, 20 at least), and more in very
    large ones (a fiftieth), which keeps the time for one in bounds. Or, with a
    ``detect_size``, the same after reducing the longer side to that.
    """
    reduction = max(1.0, max(height, width) / detect_size) if detect_size else 1.0
    shorter = min(height, width) / reduction
    return reduction * max(LEAST, min(USUAL, shorter / SMALL_PART), shorter / LARGE_PART)
