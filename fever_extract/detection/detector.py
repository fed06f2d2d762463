"""MTCNN face detector for images of any size (Zhang et al. 2016, arXiv 1604.02878).

What runs around the three networks is ours: facenet-pytorch's own pipeline fails where an
image yields no candidate, and spends most of its time on resampling the full image again
and again. Here every crop and every level is taken from a pyramid of halved images, and
all of a stage's crops, of several images, in few calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract.detection._nms import nms
from fever_extract.detection.following import surroundings
from fever_extract.detection.mtcnn import Mtcnn
from fever_extract.detection.parameters import (
    CELL,
    LEVEL_OVERLAP,
    O_SIZE,
    OVERLAP,
    R_SIZE,
    SETTLE,
    STILL,
    THRESHOLD,
    Detections,
)
from fever_extract.detection.pyramid import Pyramids
from fever_extract.detection.suppression import suppress

if TYPE_CHECKING:
    import numpy.typing as npt


class Detector:
    """Detect faces with MTCNN, in several images at a time.

    Args:
        device: where its networks run.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._networks = Mtcnn(self.device)

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
        pyramids = Pyramids(images, self.device)
        owners, boxes = self._propose(pyramids, smallest)
        owners, boxes = self._refine(pyramids, owners, boxes)
        owners, boxes, scores, landmarks = self._output(pyramids, owners, boxes, min_confidence)
        # The networks also find some faces below the smallest size.
        areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
        limits = torch.tensor([side**2 for side in smallest], device=self.device)[owners]
        keep = (scores >= min_confidence) & (areas >= limits)
        owners, scores = owners[keep], scores[keep]
        boxes, landmarks, _ = self._settle(pyramids, owners, boxes[keep], landmarks[keep])
        everything = Detections(boxes.cpu().numpy(), scores.cpu().numpy(), landmarks.cpu().numpy())
        whose = owners.cpu().numpy()
        return [everything.take((whose == index).nonzero()[0]) for index in range(len(images))]

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
        pyramids = Pyramids(images, self.device)
        counts = torch.tensor([len(some) for some in boxes], device=self.device)
        owners = torch.arange(len(images), device=self.device).repeat_interleave(counts)
        squares = _square(torch.from_numpy(np.concatenate(boxes)).to(self.device))
        _, crops = pyramids.crop(owners, squares, O_SIZE)
        moved, scores, landmarks = self._look(squares, crops)
        _, landmarks, _ = self._settle(pyramids, owners, moved, landmarks)
        ends = np.cumsum([len(some) for some in boxes])[:-1]
        parts = (np.split(values.cpu().numpy(), ends) for values in (scores, landmarks))
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
            The same faces as they are now; scores are O-Net's last, and NaN where the border cuts
            a face, or it left its surroundings.
        """
        boxes, landmarks = (
            np.concatenate(parts)
            for parts in ([some.boxes for some in known], [some.landmarks for some in known])
        )
        pictures = [image for image, some in zip(images, known) for _ in range(len(some))]
        # Of a large picture, little is resampled.
        cut = [surroundings(image, box) for image, box in zip(pictures, boxes)]
        corners = np.array([corner for _, corner in cut], np.float32)
        pyramids = Pyramids([region for region, _ in cut], self.device)
        owners = torch.arange(len(boxes), device=self.device)
        places = torch.from_numpy(boxes - np.tile(corners, 2)).to(self.device)
        points = torch.from_numpy(landmarks - corners[:, None]).to(self.device)
        places, points, scores = self._settle(pyramids, owners, places, points)
        scores = torch.where(pyramids.contains(owners, _square(places)), scores, torch.nan)
        everything = Detections(
            places.cpu().numpy() + np.tile(corners, 2),
            scores.cpu().numpy(),
            points.cpu().numpy() + corners[:, None],
        )
        starts = np.cumsum([0, *map(len, known)])
        return [everything.take(np.arange(*ends)) for ends in pairwise(starts.tolist())]

    def _propose(
        self, pyramids: Pyramids, smallest: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run P-Net at all scales: image indices ``(k,)`` and candidate squares ``(k, 4)``."""
        proposals, count = [], 0
        for sheet in pyramids.sheets([CELL / side for side in smallest]):
            rows, columns, scores, offsets = self._networks.propose(sheet.pixels, THRESHOLD)
            inside, levels, owners, boxes = sheet.find(rows, columns)
            proposals.append((owners, boxes, scores[inside], offsets[inside], levels + count))
            count += sheet.count
        if not proposals:
            nothing = torch.zeros(0, 4, device=self.device)
            return nothing[:, 0].long(), nothing
        owners, boxes, scores, offsets, levels = map(torch.cat, zip(*proposals))
        keep = _suppress(boxes, scores, levels, LEVEL_OVERLAP)
        owners, boxes, scores, offsets = owners[keep], boxes[keep], scores[keep], offsets[keep]
        keep = _suppress(boxes, scores, owners, OVERLAP)
        return owners[keep], _square(_move(boxes[keep], offsets[keep]))

    def _refine(
        self, pyramids: Pyramids, owners: torch.Tensor, boxes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run R-Net: fewer and better squares, in the form of `_propose`."""
        kept, crops = pyramids.crop(owners, boxes, R_SIZE)
        owners, boxes = owners[kept], boxes[kept]
        if not len(boxes):
            return owners, boxes
        scores, offsets = self._networks.refine(crops)
        keep = scores > THRESHOLD
        owners, boxes, offsets, scores = owners[keep], boxes[keep], offsets[keep], scores[keep]
        keep = _suppress(boxes, scores, owners, OVERLAP)
        return owners[keep], _square(_move(boxes[keep], offsets[keep]))

    def _output(
        self,
        pyramids: Pyramids,
        owners: torch.Tensor,
        boxes: torch.Tensor,
        min_confidence: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run O-Net: image indices and scores ``(k,)``, boxes ``(k, 4)``, landmarks ``(k, 5, 2)``.

        They are in the order images, boxes, scores, landmarks.
        """
        kept, crops = pyramids.crop(owners, boxes, O_SIZE)
        owners, boxes = owners[kept], boxes[kept]
        if not len(boxes):
            return owners, boxes, boxes.new_zeros(0), boxes.new_zeros(0, 5, 2)
        boxes, scores, landmarks = self._look(boxes, crops)
        keep = scores > min(THRESHOLD, min_confidence)
        owners, boxes, scores, landmarks = owners[keep], boxes[keep], scores[keep], landmarks[keep]
        # A box inside a larger one is the same face: overlap over the smaller area.
        found, groups = boxes.cpu().numpy(), owners.cpu().numpy()
        picked = suppress(found, scores.cpu().numpy(), OVERLAP, groups=groups, over_smaller=True)
        keep = torch.from_numpy(picked).to(boxes.device)
        return owners[keep], boxes[keep], scores[keep], landmarks[keep]

    def _look(
        self, boxes: torch.Tensor, crops: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run O-Net on crops: new boxes ``(k, 4)``, scores ``(k,)``, landmarks ``(k, 5, 2)``."""
        scores, offsets, points = self._networks.locate(crops)
        sides = boxes[:, None, 2:] - boxes[:, None, :2] + 1
        return _move(boxes, offsets), scores, boxes[:, None, :2] - 1 + points * sides

    def _settle(
        self,
        pyramids: Pyramids,
        owners: torch.Tensor,
        boxes: torch.Tensor,
        landmarks: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run O-Net again on its own boxes: boxes ``(k, 4)``, landmarks ``(k, 5, 2)``, scores.

        Where O-Net puts the landmarks depends a little on the square that it is given, and
        that on how the pyramid's levels fell. Looking at its own answer again forgets the
        first square, so that a face has the same landmarks in another cut of the picture.
        The scores ``(k,)`` are its last, NaN for a face that the border cuts.
        """
        scores = torch.full_like(boxes[:, 0], torch.nan)
        moving = torch.arange(len(boxes), device=boxes.device)
        for _ in range(SETTLE):
            squares = _square(boxes[moving])
            # A face that the border cuts is stretched in its crop, and would wander off.
            whole = pyramids.contains(owners[moving], squares)
            moving, squares = moving[whole], squares[whole]
            kept, crops = pyramids.crop(owners[moving], squares, O_SIZE)
            moving, squares = moving[kept], squares[kept]
            if not len(moving):
                break
            moved, sure, points = self._look(squares, crops)
            steps = (points - landmarks[moving]).norm(dim=2).amax(dim=1)
            boxes[moving], landmarks[moving], scores[moving] = moved, points, sure
            moving = moving[steps > STILL * (squares[:, 2] - squares[:, 0])]
        return boxes, landmarks, scores


def _suppress(
    boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, overlap: float
) -> torch.Tensor:
    """Return the indices that non-maximum suppression within each group keeps, best first.

    In doubles, as groups are set apart by shifts.
    """
    return nms(_set_apart(boxes, groups), scores.double(), overlap)


def _set_apart(boxes: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Shift boxes (as float64) so that those of different groups never overlap."""
    boxes = boxes.double()
    extent = boxes.max() - boxes.min() + 1 if len(boxes) else 0
    return boxes + (groups * extent)[:, None]


def _move(boxes: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Apply a network's box regression, whose offsets are in units of the box's sides."""
    return boxes + offsets * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def _square(boxes: torch.Tensor) -> torch.Tensor:
    """Make boxes square: same centre, longer side."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) / 2
    return torch.cat([centres - half, centres + half], dim=1)
