"""MTCNN face detector for images of any size (Zhang et al. 2016, arXiv 1604.02878).

What runs around the three networks is ours: facenet-pytorch's own pipeline fails where an
image yields no candidate, and spends most of its time on resampling the full image again
and again. Here every crop and every level is taken from a pyramid of halved images, and
all of a stage's crops, of several images, in few calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from fever_extract.detection._nms import nms
from fever_extract.detection.boxes import move, overlaps, square
from fever_extract.detection.compiled import CompiledMtcnn
from fever_extract.detection.following import surroundings
from fever_extract.detection.mtcnn import Mtcnn
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
from fever_extract.detection.pyramid import Pyramids
from fever_extract.detection.suppression import suppress
from fever_extract.kernels.library import instructions

if TYPE_CHECKING:
    import numpy.typing as npt


class _Look(NamedTuple):
    """What O-Net says of the k of some squares that have a pixel in their image.

    Attributes:
        kept: their indices ``(k,)``.
        boxes: as it moves them, ``(k, 4)``.
        scores: ``(k,)``.
        landmarks: ``(k, 5, 2)``.
    """

    kept: npt.NDArray[np.intp]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]


class Detector:
    """Detect faces with MTCNN, in several images at a time.

    Args:
        device: where its networks run.
        compiled: run them as compiled code; by default wherever that can be done.
    """

    def __init__(self, device: torch.device | str = "cpu", *, compiled: bool | None = None) -> None:
        self.device = torch.device(device)
        if compiled is None:
            compiled = self.device.type == "cpu" and instructions() > 0
        self._compiled = CompiledMtcnn() if compiled else None
        self._networks = self._compiled or Mtcnn(self.device)

    @torch.inference_mode()
    def detect(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        smallest: Sequence[float],
        min_confidence: float = 0.9,
    ) -> list[Detections]:
        """Find all faces of some images; the result does not depend on what else is in the batch.

        Args:
            images: each ``(h, w, 3)`` uint8 RGB, of any size, C-contiguous and writable.
            smallest: the smallest face that is looked for in each, in pixels; 12 at least.
            min_confidence: faces with a lower score are left out.
        """
        pyramids = Pyramids(images, self.device, self._compiled)
        owners, boxes = self._propose(pyramids, smallest)
        owners, boxes = self._refine(pyramids, owners, boxes)
        owners, boxes, scores, landmarks = self._output(pyramids, owners, boxes, min_confidence)
        # The networks also find some faces below the smallest size.
        areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
        limits = np.array([side**2 for side in smallest], np.float32)[owners]
        keep = (scores >= min_confidence) & (areas >= limits)
        owners, scores = owners[keep], scores[keep]
        boxes, landmarks, _ = self._settle(pyramids, owners, boxes[keep], landmarks[keep])
        everything = Detections(boxes, scores, landmarks)
        return [everything.take((owners == index).nonzero()[0]) for index in range(len(images))]

    @torch.inference_mode()
    def locate(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        boxes: Sequence[npt.NDArray[np.float32]],
    ) -> list[Detections]:
        """Find the landmarks of faces whose boxes are known, by O-Net.

        Args:
            images: as in `detect`.
            boxes: of each image ``(k, 4)``; each has some of the image in it. About from brows
                to chin, as MTCNN's own.

        Returns:
            The faces in the order of the boxes, with these boxes; scores are O-Net's for them.
        """
        pyramids = Pyramids(images, self.device, self._compiled)
        owners = np.repeat(np.arange(len(images)), [len(some) for some in boxes])
        squares = square(np.concatenate(boxes))
        look = self._look(pyramids, owners, squares)
        _, landmarks, _ = self._settle(pyramids, owners, look.boxes, look.landmarks)
        ends = np.cumsum([len(some) for some in boxes])[:-1]
        parts = (np.split(values, ends) for values in (look.scores, landmarks))
        return [Detections(*found) for found in zip(boxes, *parts)]

    @torch.inference_mode()
    def follow(
        self, images: Sequence[npt.NDArray[np.uint8]], known: Sequence[Detections]
    ) -> list[Detections]:
        """Find faces again that were known a moment ago, by O-Net alone.

        O-Net looks where each was, and at its own answer until that is still, as `detect` does in
        the end. Whether what it finds is the same face, or any, is for
        `fever_extract.detection.following` to judge.

        Args:
            images: as in `detect`.
            known: the faces of each, as they were.

        Returns:
            The same faces as they are now; scores are O-Net's last, and NaN where a face left
            its surroundings.
        """
        boxes, landmarks = (
            np.concatenate(parts)
            for parts in ([some.boxes for some in known], [some.landmarks for some in known])
        )
        pictures = [image for image, some in zip(images, known) for _ in range(len(some))]
        # Of a large picture, little is resampled.
        cut = [surroundings(image, box) for image, box in zip(pictures, boxes)]
        corners = np.array([corner for _, corner in cut], np.float32)
        pyramids = Pyramids([region for region, _ in cut], self.device, self._compiled)
        shifts, owners = np.tile(corners, 2), np.arange(len(boxes))
        boxes, landmarks, scores = self._settle(
            pyramids, owners, boxes - shifts, landmarks - corners[:, None]
        )
        scores[~pyramids.contains(owners, square(boxes))] = np.nan
        everything = Detections(boxes + shifts, scores, landmarks + corners[:, None])
        starts = np.cumsum([0, *map(len, known)])
        return [everything.take(np.arange(*ends)) for ends in pairwise(starts.tolist())]

    def _propose(
        self, pyramids: Pyramids, smallest: Sequence[float]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Run P-Net at all scales: image indices ``(k,)`` and candidate squares ``(k, 4)``."""
        levels = pyramids.levels([CELL / side for side in smallest])
        if not levels:
            return np.zeros(0, np.intp), np.zeros((0, 4), np.float32)
        numbers, rows, columns, scores, offsets = self._networks.propose(
            [level.pixels for level in levels], THRESHOLD
        )
        owners = np.array([level.image for level in levels])[numbers]
        steps = np.array([level.steps for level in levels], np.float32)[numbers]
        corners = STRIDE * np.stack([columns, rows], axis=1).astype(np.float32)
        boxes = np.concatenate([(corners + 1) * steps, (corners + CELL) * steps], axis=1)
        keep = _suppress(boxes, scores, numbers, LEVEL_OVERLAP)
        owners, boxes, scores, offsets = owners[keep], boxes[keep], scores[keep], offsets[keep]
        keep = _suppress(boxes, scores, owners, OVERLAP)
        return owners[keep], square(move(boxes[keep], offsets[keep]))

    def _refine(
        self,
        pyramids: Pyramids,
        owners: npt.NDArray[np.intp],
        boxes: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Run R-Net: fewer and better squares, in the form of `_propose`."""
        kept, crops = pyramids.crop(owners, boxes, R_SIZE)
        owners, boxes = owners[kept], boxes[kept]
        if not len(boxes):
            return owners, boxes
        scores, offsets = self._networks.refine(crops)
        keep = scores > THRESHOLD
        owners, boxes, offsets, scores = owners[keep], boxes[keep], offsets[keep], scores[keep]
        picked = _suppress(boxes, scores, owners, OVERLAP)
        return owners[picked], square(move(boxes[picked], offsets[picked]))

    def _output(
        self,
        pyramids: Pyramids,
        owners: npt.NDArray[np.intp],
        boxes: npt.NDArray[np.float32],
        min_confidence: float,
    ) -> tuple[
        npt.NDArray[np.intp],
        npt.NDArray[np.float32],
        npt.NDArray[np.float32],
        npt.NDArray[np.float32],
    ]:
        """Run O-Net: image indices and scores ``(k,)``, boxes ``(k, 4)``, landmarks ``(k, 5, 2)``.

        They are in the order images, boxes, scores, landmarks. Most candidates are of a face that
        others are of too: the best of those that overlap is looked at first, and the others only
        where it turns out to be no face, or another.
        """
        ranks = -np.arange(len(boxes), dtype=np.float32)
        first = _suppress(boxes, ranks, owners, SAME)
        seen = self._look(pyramids, owners[first], boxes[first])
        sure = seen.scores >= max(SURE, min_confidence)
        whose = owners[first[seen.kept[sure]]]
        same = overlaps(boxes, square(seen.boxes[sure])) > SAME
        done = (same & (owners[:, None] == whose)).any(axis=1)
        done[first] = True
        (others,) = (~done).nonzero()
        more = self._look(pyramids, owners[others], boxes[others])
        owners = owners[np.concatenate([first[seen.kept], others[more.kept]])]
        boxes = np.concatenate([seen.boxes, more.boxes])
        scores = np.concatenate([seen.scores, more.scores])
        landmarks = np.concatenate([seen.landmarks, more.landmarks])
        keep = scores > min(THRESHOLD, min_confidence)
        owners, boxes, scores, landmarks = owners[keep], boxes[keep], scores[keep], landmarks[keep]
        # A box inside a larger one is the same face: overlap over the smaller area.
        picked = suppress(boxes, scores, OVERLAP, groups=owners, over_smaller=True)
        return owners[picked], boxes[picked], scores[picked], landmarks[picked]

    def _look(
        self,
        pyramids: Pyramids,
        owners: npt.NDArray[np.intp],
        squares: npt.NDArray[np.float32],
        *,
        padded: bool = False,
    ) -> _Look:
        """Run O-Net on squares ``(n, 4)``; for ``padded``, see `Pyramids.crop`."""
        kept, crops = pyramids.crop(owners, squares, O_SIZE, padded=padded)
        squares = squares[kept]
        if not len(kept):
            return _Look(kept, squares, np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
        scores, offsets, points = self._networks.locate(crops)
        sides = squares[:, None, 2:] - squares[:, None, :2] + 1
        landmarks = squares[:, None, :2] - 1 + points * sides
        return _Look(kept, move(squares, offsets), scores, landmarks)

    def _settle(
        self,
        pyramids: Pyramids,
        owners: npt.NDArray[np.intp],
        boxes: npt.NDArray[np.float32],
        landmarks: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Run O-Net again on its own boxes: boxes ``(k, 4)``, landmarks ``(k, 5, 2)``, scores.

        Where O-Net puts the landmarks depends a little on the square that it is given, and
        that on how the pyramid's levels fell. Looking at its own answer again forgets the
        first square, so that a face has the same landmarks in another cut of the picture.
        Where the border cuts a face, the first look was at what is left, stretched; these see
        grey beyond the border, from which O-Net tells where the rest of the face is.
        The scores ``(k,)`` are its last.
        """
        scores = np.full(len(boxes), np.nan, np.float32)
        moving = np.arange(len(boxes))
        for _ in range(SETTLE):
            squares = square(boxes[moving])
            look = self._look(pyramids, owners[moving], squares, padded=True)
            moving, squares = moving[look.kept], squares[look.kept]
            if not len(moving):
                break
            steps = np.linalg.norm(look.landmarks - landmarks[moving], axis=2).max(axis=1)
            boxes[moving], landmarks[moving] = look.boxes, look.landmarks
            scores[moving] = look.scores
            moving = moving[steps > STILL * (squares[:, 2] - squares[:, 0])]
        return boxes, landmarks, scores


def _suppress(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    groups: npt.NDArray[np.intp],
    overlap: float,
) -> npt.NDArray[np.intp]:
    """Return the indices that non-maximum suppression within each group keeps, best first.

    In doubles, as groups are set apart by shifts.
    """
    corners = boxes.astype(np.float64)
    extent = corners.max() - corners.min() + 1 if len(corners) else 0
    corners += (groups * extent)[:, None]
    ranks = torch.from_numpy(scores.astype(np.float64))
    return nms(torch.from_numpy(corners), ranks, overlap).numpy()
