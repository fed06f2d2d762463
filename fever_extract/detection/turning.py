"""Detection in four orientations, for faces that are sideways or upside down.

MTCNN finds many upside-down faces in the picture as it is, and puts the eyes where the mouth is, so
that neither score nor landmarks tell. But where the face is upright, the score is higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.detection.parameters import Detections
from fever_extract.detection.suppression import suppress

if TYPE_CHECKING:
    import numpy.typing as npt

TURNS = 4
_OVERLAP = 0.5  # of the smaller box; more is the same face


def turned(pixels: npt.NDArray[np.uint8], looks: int) -> list[npt.NDArray[np.uint8]]:
    """Rotate an image anticlockwise by 0, 90, 180 and 270 degrees; return the first ``looks``."""
    return [np.ascontiguousarray(np.rot90(pixels, turns)) for turns in range(looks)]


def merge(looks: Sequence[Detections], height: int, width: int) -> Detections:
    """Merge the detections of one image's rotations; each face keeps its best score.

    Args:
        looks: the faces in each picture of `turned`.
        height, width: of the picture as it is, in pixels.

    Returns:
        The faces in its pixels, best first.
    """
    back = [_turned_back(faces, turns, height, width) for turns, faces in enumerate(looks)]
    everything = Detections(
        np.concatenate([faces.boxes for faces in back]),
        np.concatenate([faces.scores for faces in back]),
        np.concatenate([faces.landmarks for faces in back]),
    )
    kept = suppress(everything.boxes, everything.scores, _OVERLAP, over_smaller=True)
    return everything.take(kept)


def _turned_back(faces: Detections, turns: int, height: int, width: int) -> Detections:
    # Boxes count pixels from 1: edges are turned.
    edges = faces.boxes.reshape(-1, 2, 2) - np.array([[1, 1], [0, 0]], np.float32)
    landmarks = faces.landmarks
    for turn in reversed(range(turns)):
        side = height if turn % 2 else width
        edges, landmarks = _clockwise(edges, side), _clockwise(landmarks, side)
    edges = np.sort(edges, axis=1) + np.array([[1, 1], [0, 0]], np.float32)
    return Detections(edges.reshape(-1, 4), faces.scores, landmarks)


def _clockwise(points: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Rotate points (x, y) with their image by 90 degrees clockwise; ``side`` is its new width."""
    return np.stack([side - points[..., 1], points[..., 0]], axis=-1)
