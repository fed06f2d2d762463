"""MTCNN on NumPy and ONNX Runtime; a part of fever_onnx.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fever_extract.bundle.pyramid import Pyramid
from fever_extract.detection.boxes import move, overlaps, square
from fever_extract.detection.parameters import (
    CELL,
    LEVEL_OVERLAP,
    O_SIZE,
    OVERLAP,
    R_SIZE,
    SAME,
    SETTLE,
    STILL,
    STRIDE,
    SURE,
    THRESHOLD,
    Detections,
)
from fever_extract.detection.suppression import suppress

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnxruntime


class Detector:
    """MTCNN (Zhang et al. 2016, arXiv 1604.02878), one image at a time.

    What is done, and in which order, is as in fever_extract.detection.detector, on NumPy.
    """

    def __init__(
        self,
        pnet: onnxruntime.InferenceSession,
        rnet: onnxruntime.InferenceSession,
        onet: onnxruntime.InferenceSession,
    ) -> None:
        self._pnet, self._rnet, self._onet = pnet, rnet, onet

    def detect(
        self, pixels: npt.NDArray[np.uint8], smallest: float, min_confidence: float
    ) -> Detections:
        """Find all faces of an image ``(h, w, 3)``."""
        pyramid = Pyramid(pixels)
        boxes = self._propose(pyramid, CELL / smallest)
        boxes = self._refine(pyramid, boxes)
        boxes, scores, landmarks = self._output(pyramid, boxes, min_confidence)
        # The networks also find some faces that are smaller than they were asked for.
        areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
        keep = (scores >= min_confidence) & (areas >= np.float32(smallest**2))
        boxes, landmarks = self._settle(pyramid, boxes[keep], landmarks[keep])
        return Detections(boxes, scores[keep], landmarks)

    def _propose(self, pyramid: Pyramid, scale: float) -> npt.NDArray[np.float32]:
        """P-Net over all scales: candidate squares ``(k, 4)``."""
        found = [(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)), np.zeros(0))]
        for number, level in enumerate(pyramid.levels(scale)):
            scores, offsets = self._pnet.run(None, {"image": level})
            rows, columns = (scores > THRESHOLD).nonzero()
            height, width = level.shape[:2]
            steps = np.array([pyramid.width / width, pyramid.height / height], np.float32)
            corners = STRIDE * np.stack([columns, rows], axis=1)
            boxes = np.concatenate([(corners + 1) * steps, (corners + CELL) * steps], axis=1)
            where = rows, columns
            found.append((boxes, scores[where], offsets[where], np.full(len(rows), number)))
        boxes, scores, offsets, levels = map(np.concatenate, zip(*found))
        boxes, offsets = boxes.astype(np.float32), offsets.astype(np.float32)
        keep = suppress(boxes, scores, LEVEL_OVERLAP, groups=levels)
        boxes, scores, offsets = boxes[keep], scores[keep], offsets[keep]
        keep = suppress(boxes, scores, OVERLAP)
        return square(move(boxes[keep], offsets[keep]))

    def _refine(self, pyramid: Pyramid, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """R-Net: fewer, better squares."""
        kept, crops = pyramid.crop(boxes, R_SIZE)
        boxes = boxes[kept]
        if not len(boxes):
            return boxes
        scores, offsets = self._rnet.run(None, {"crops": crops})
        likely = scores > THRESHOLD
        boxes, offsets, scores = boxes[likely], offsets[likely], scores[likely]
        keep = suppress(boxes, scores, OVERLAP)
        return square(move(boxes[keep], offsets[keep]))

    def _output(
        self, pyramid: Pyramid, boxes: npt.NDArray[np.float32], min_confidence: float
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """O-Net: boxes ``(k, 4)``, scores ``(k,)`` and landmarks ``(k, 5, 2)``.

        Of candidates that overlap, the best is looked at first; the others only where it turns out
        to be no face, or another.
        """
        first = suppress(boxes, -np.arange(len(boxes), dtype=float), SAME)
        _, *found = self._look(pyramid, boxes[first])
        sure = found[1] >= max(SURE, min_confidence)
        waiting = np.ones(len(boxes), bool)
        waiting[first] = False
        waiting &= (overlaps(boxes, square(found[0][sure])) <= SAME).all(axis=1)
        _, *more = self._look(pyramid, boxes[waiting])
        boxes, scores, landmarks = map(np.concatenate, zip(found, more))
        likely = scores > min(THRESHOLD, min_confidence)
        boxes, scores, landmarks = boxes[likely], scores[likely], landmarks[likely]
        keep = suppress(boxes, scores, OVERLAP, over_smaller=True)
        return boxes[keep], scores[keep], landmarks[keep]

    def _look(
        self, pyramid: Pyramid, squares: npt.NDArray[np.float32], padded: bool = False
    ) -> tuple[
        npt.NDArray[np.intp],
        npt.NDArray[np.float32],
        npt.NDArray[np.float32],
        npt.NDArray[np.float32],
    ]:
        """O-Net on squares: moved boxes ``(k, 4)``, scores ``(k,)``, landmarks ``(k, 5, 2)``.

        Before them, the indices ``(k,)`` of the squares that have a pixel in the image.
        """
        kept, crops = pyramid.crop(squares, O_SIZE, padded)
        squares = squares[kept]
        if not len(kept):
            return kept, squares, np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
        scores, offsets, points = self._onet.run(None, {"crops": crops})
        sides = squares[:, None, 2:] - squares[:, None, :2] + 1
        return kept, move(squares, offsets), scores, squares[:, None, :2] - 1 + points * sides

    def _settle(
        self,
        pyramid: Pyramid,
        boxes: npt.NDArray[np.float32],
        landmarks: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Look again where the faces were found: boxes ``(k, 4)``, landmarks ``(k, 5, 2)``."""
        moving = np.arange(len(boxes))
        for _ in range(SETTLE):
            squares = square(boxes[moving])
            # From grey beyond the border, O-Net tells where the rest of a cut face is.
            kept, moved, _, points = self._look(pyramid, squares, padded=True)
            moving, squares = moving[kept], squares[kept]
            if not len(moving):
                break
            steps = np.linalg.norm(points - landmarks[moving], axis=2).max(axis=1)
            boxes[moving], landmarks[moving] = moved, points
            moving = moving[steps > STILL * (squares[:, 2] - squares[:, 0])]
        return boxes, landmarks
