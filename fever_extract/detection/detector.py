"""MTCNN face detector for images of any size (Zhang et al. 2016, arXiv 1604.02878).

What runs around the three networks is ours: facenet-pytorch's own pipeline fails where an
image yields no candidate, and spends most of its time on resampling the full image again
and again. Here every crop and every level is taken from a pyramid of halved images, and
all of a stage's crops, of several images, in few calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from facenet_pytorch.models.utils.detect_face import nms_numpy
from torchvision.ops import batched_nms

from fever_extract.detection.mtcnn import CELL, O_SIZE, R_SIZE, Mtcnn
from fever_extract.detection.pyramid import Pyramids

if TYPE_CHECKING:
    import numpy.typing as npt

_LEAST = 20  # MTCNN's own default; below, little that it finds is right
_USUAL = 40
_P_THRESHOLD, _R_THRESHOLD, _O_THRESHOLD = 0.7, 0.7, 0.7
_P_OVERLAP, _R_OVERLAP, _O_OVERLAP = 0.7, 0.7, 0.7
_SETTLE = 3  # more looks at a face once it is found, at most
_STILL = 0.01  # of a face's side: landmarks that moved less have settled


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
        """Select detections by index."""
        return Detections(self.boxes[indices], self.scores[indices], self.landmarks[indices])

    def scaled(self, factor: float) -> Detections:
        """Scale to an image that is ``factor`` times as large per side."""
        return Detections(self.boxes * factor, self.scores, self.landmarks * factor)

    def order(self, select: str, width: int, height: int) -> npt.NDArray[np.intp]:
        """Rank by a value of `fever_extract.options.SELECT`; return indices, best first."""
        corners = self.boxes.reshape(-1, 2, 2)
        if select == "most_confident":
            badness = -self.scores
        elif select == "center":
            centres = corners.mean(axis=1) - np.array([width, height]) / 2
            badness = np.hypot(centres[:, 0], centres[:, 1])
        else:
            badness = -np.prod(corners[:, 1] - corners[:, 0], axis=1)
        return badness.argsort(kind="stable")


def smallest_face(height: int, width: int, detect_size: int | None = None) -> float:
    """Choose the smallest face to look for in an image, in pixels.

    40; less in small images (a ninth of the shorter side, 20 at least), and more in very
    large ones (a fiftieth), which keeps the time for one in bounds. Or, with a
    ``detect_size``, the same after reducing the longer side to that.
    """
    reduction = max(1.0, max(height, width) / detect_size) if detect_size else 1.0
    shorter = min(height, width) / reduction
    return reduction * max(_LEAST, min(_USUAL, shorter / 9), shorter / 50)


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
        # The networks also find some faces that are smaller than they were asked for.
        areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
        limits = torch.tensor([side**2 for side in smallest], device=self.device)[owners]
        keep = (scores >= min_confidence) & (areas >= limits)
        owners, scores = owners[keep], scores[keep]
        boxes, landmarks = self._settle(pyramids, owners, boxes[keep], landmarks[keep])
        everything = Detections(boxes.cpu().numpy(), scores.cpu().numpy(), landmarks.cpu().numpy())
        whose = owners.cpu().numpy()
        return [everything.take((whose == index).nonzero()[0]) for index in range(len(images))]

    def _propose(
        self, pyramids: Pyramids, smallest: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run P-Net at all scales: image indices ``(k,)`` and candidate squares ``(k, 4)``."""
        proposals, count = [], 0
        for sheet in pyramids.sheets([CELL / side for side in smallest]):
            rows, columns, scores, offsets = self._networks.propose(sheet.pixels, _P_THRESHOLD)
            inside, levels, owners, boxes = sheet.find(rows, columns)
            proposals.append((owners, boxes, scores[inside], offsets[inside], levels + count))
            count += sheet.count
        if not proposals:
            nothing = torch.zeros(0, 4, device=self.device)
            return nothing[:, 0].long(), nothing
        owners, boxes, scores, offsets, levels = map(torch.cat, zip(*proposals))
        keep = _suppress(boxes, scores, levels, 0.5)
        owners, boxes, scores, offsets = owners[keep], boxes[keep], scores[keep], offsets[keep]
        keep = _suppress(boxes, scores, owners, _P_OVERLAP)
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
        keep = scores > _R_THRESHOLD
        owners, boxes, offsets, scores = owners[keep], boxes[keep], offsets[keep], scores[keep]
        keep = _suppress(boxes, scores, owners, _R_OVERLAP)
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
        keep = scores > min(_O_THRESHOLD, min_confidence)
        owners, boxes, scores, landmarks = owners[keep], boxes[keep], scores[keep], landmarks[keep]
        # A box inside a larger one is the same face: overlap over the smaller area.
        apart = _set_apart(boxes, owners).cpu().numpy()
        picked = nms_numpy(apart, scores.cpu().numpy(), _O_OVERLAP, "Min")
        keep = torch.as_tensor(picked, dtype=torch.long, device=boxes.device).reshape(-1)
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
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run O-Net again on its own boxes: boxes ``(k, 4)``, landmarks ``(k, 5, 2)``.

        Where O-Net puts the landmarks depends a little on the square that it is given, and
        that on how the pyramid's levels fell. Looking at its own answer again forgets the
        first square, so that a face has the same landmarks in another cut of the picture.
        """
        moving = torch.arange(len(boxes), device=boxes.device)
        for _ in range(_SETTLE):
            squares = _square(boxes[moving])
            # A face that the border cuts is stretched in its crop, and would wander off.
            whole = pyramids.contains(owners[moving], squares)
            moving, squares = moving[whole], squares[whole]
            kept, crops = pyramids.crop(owners[moving], squares, O_SIZE)
            moving, squares = moving[kept], squares[kept]
            if not len(moving):
                break
            moved, _, points = self._look(squares, crops)
            steps = (points - landmarks[moving]).norm(dim=2).amax(dim=1)
            boxes[moving], landmarks[moving] = moved, points
            moving = moving[steps > _STILL * (squares[:, 2] - squares[:, 0])]
        return boxes, landmarks


def _suppress(
    boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, overlap: float
) -> torch.Tensor:
    """Return the indices that non-maximum suppression within each group keeps, best first.

    In doubles, as groups are set apart by shifts.
    """
    kept: torch.Tensor = batched_nms(boxes.double(), scores.double(), groups, overlap)
    return kept


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
