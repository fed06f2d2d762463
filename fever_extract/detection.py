"""Faces in images of any size, by MTCNN (Zhang et al. 2016, arXiv 1604.02878).

The three networks and their weights are facenet-pytorch's. What runs around them is
ours: its own pipeline fails where an image yields no candidate, and spends most of its
time on resampling the full image again and again. Here every crop and every level is
taken from a pyramid of halved images, and all of a stage's crops in one call a level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import torch
from facenet_pytorch import ONet, PNet, RNet
from facenet_pytorch.models.utils.detect_face import bbreg, generateBoundingBox, nms_numpy, rerec
from PIL import Image
from torch.nn import functional as F
from torchvision.ops import nms, roi_align

if TYPE_CHECKING:
    import numpy.typing as npt

_SMALLEST = 20  # MTCNN's own default; below, little that it finds is right
_CELL = 12  # P-Net's receptive field, and so the smallest face on a level of its pyramid
_R_SIZE, _O_SIZE = 24, 48
_SCALE_STEP = 0.709  # about half the area from level to level
_P_THRESHOLD, _R_THRESHOLD, _O_THRESHOLD = 0.6, 0.7, 0.7
_SETTLE = 3  # more looks at a face once it is found
_LAYOUT = torch.channels_last  # 1.6 times as fast on CPU, most of it in pooling
_CHUNK = 512  # crops at a time through R-Net and O-Net


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
        """Some of them, in the given order."""
        return Detections(self.boxes[indices], self.scores[indices], self.landmarks[indices])

    def order(self, select: str, width: int, height: int) -> npt.NDArray[np.intp]:
        """Indices, best first, by a value of `fever_extract.options.SELECT`."""
        corners = self.boxes.reshape(-1, 2, 2)
        if select == "most_confident":
            badness = -self.scores
        elif select == "center":
            centres = corners.mean(axis=1) - np.array([width, height]) / 2
            badness = np.hypot(centres[:, 0], centres[:, 1])
        else:
            badness = -np.prod(corners[:, 1] - corners[:, 0], axis=1)
        return badness.argsort(kind="stable")


def smallest_face(height: int, width: int, min_face_size: float | None = None) -> float:
    """The smallest face to look for in an image: as given, or by default 1/32 of the
    shorter side and 20 pixels at least, which keeps the time an image takes in bounds."""
    if min_face_size is not None:
        return min_face_size
    return max(_SMALLEST, min(height, width) / 32)


class Detector:
    """MTCNN with facenet-pytorch's weights.

    Args:
        device: where its networks run.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._pnet = _load(PNet, "pnet.pt", self.device)
        self._rnet = _load(RNet, "rnet.pt", self.device)
        self._onet = _load(ONet, "onet.pt", self.device)

    @torch.inference_mode()
    def detect(
        self, image: npt.NDArray[np.uint8], smallest: float, min_confidence: float = 0.9
    ) -> Detections:
        """Find all faces of one image.

        Args:
            image: ``(h, w, 3)`` uint8 RGB, of any size, C-contiguous and writable.
            smallest: the smallest face that is looked for, in pixels; 12 at least.
            min_confidence: faces with a lower score are left out.
        """
        # O-Net sees the smallest face in 48 pixels: more of them than that are of no use.
        reduction = max(1, int(smallest / _O_SIZE))
        if reduction > 1:
            image = np.array(Image.fromarray(image).reduce(reduction))
        pyramid = _Pyramid(image, self.device)
        boxes = self._propose(pyramid, smallest / reduction)
        boxes = self._refine(pyramid, boxes)
        boxes, scores, landmarks = self._output(pyramid, boxes, min_confidence)
        # The networks also find some faces that are smaller than they were asked for.
        areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
        keep = (scores >= min_confidence) & (areas >= (smallest / reduction) ** 2)
        boxes, landmarks = self._settle(pyramid, boxes[keep], landmarks[keep])
        return Detections(
            (boxes * reduction).cpu().numpy(),
            scores[keep].cpu().numpy(),
            (landmarks * reduction).cpu().numpy(),
        )

    def _propose(self, pyramid: _Pyramid, smallest: float) -> torch.Tensor:
        """P-Net over all scales: candidate squares ``(k, 4)``."""
        found = []
        scale = _CELL / smallest
        while min(pyramid.height, pyramid.width) * scale >= _CELL:
            offsets, scores = self._pnet(pyramid.level(scale))
            boxes, _ = generateBoundingBox(offsets, scores[:, 1], scale, _P_THRESHOLD)
            found.append(boxes[nms(boxes[:, :4], boxes[:, 4], 0.5)])
            scale *= _SCALE_STEP
        if not found:
            return torch.zeros(0, 4, device=self.device)
        boxes = torch.cat(found)
        boxes = boxes[nms(boxes[:, :4], boxes[:, 4], 0.7)]
        sides = (boxes[:, 2:4] - boxes[:, :2]).repeat(1, 2)
        squares: torch.Tensor = rerec(boxes[:, :4] + boxes[:, 5:9] * sides)
        return squares

    def _refine(self, pyramid: _Pyramid, boxes: torch.Tensor) -> torch.Tensor:
        """R-Net: fewer, better squares ``(k, 4)``."""
        boxes, crops = pyramid.crop(boxes, _R_SIZE)
        if not len(boxes):
            return boxes
        offsets, scores = _in_chunks(self._rnet, crops)
        keep = scores[:, 1] > _R_THRESHOLD
        boxes, offsets, scores = boxes[keep], offsets[keep], scores[keep, 1]
        keep = nms(boxes, scores, 0.7)
        squares: torch.Tensor = rerec(bbreg(boxes[keep], offsets[keep]))
        return squares

    def _output(
        self, pyramid: _Pyramid, boxes: torch.Tensor, min_confidence: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """O-Net: boxes ``(k, 4)``, scores ``(k,)`` and landmarks ``(k, 5, 2)``."""
        boxes, crops = pyramid.crop(boxes, _O_SIZE)
        if not len(boxes):
            return boxes, boxes.new_zeros(0), boxes.new_zeros(0, 5, 2)
        boxes, scores, landmarks = self._look(boxes, crops)
        keep = scores > min(_O_THRESHOLD, min_confidence)
        boxes, scores, landmarks = boxes[keep], scores[keep], landmarks[keep]
        # A box inside a larger one is the same face: overlap over the smaller area.
        picked = nms_numpy(boxes.cpu().numpy(), scores.cpu().numpy(), 0.7, "Min")
        keep = torch.as_tensor(picked, dtype=torch.long, device=boxes.device).reshape(-1)
        return boxes[keep], scores[keep], landmarks[keep]

    def _look(
        self, boxes: torch.Tensor, crops: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """O-Net on crops: moved boxes ``(k, 4)``, scores ``(k,)``, landmarks ``(k, 5, 2)``."""
        offsets, points, scores = _in_chunks(self._onet, crops)
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = torch.stack([points[:, :5], points[:, 5:]], dim=2)
        landmarks = landmarks * sides[:, None] + boxes[:, None, :2] - 1
        return bbreg(boxes, offsets), scores[:, 1], landmarks

    def _settle(
        self, pyramid: _Pyramid, boxes: torch.Tensor, landmarks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Look again where the faces were found: boxes ``(k, 4)``, landmarks ``(k, 5, 2)``.

        Where O-Net puts the landmarks depends a little on the square that it is given, and
        that on how the pyramid's levels fell. Looking at its own answer again forgets the
        first square, so that a face has the same landmarks in another cut of the picture.
        """
        for _ in range(_SETTLE):
            squares, crops = pyramid.crop(rerec(boxes.clone()), _O_SIZE)
            if not len(squares) or len(squares) < len(boxes):
                break  # no faces, or one has its centre outside: leave them where they are
            boxes, _, landmarks = self._look(squares, crops)
        return boxes, landmarks


class _Pyramid:
    """One image, halved again and again, from which levels and crops are resampled.

    Coordinates are the full image's.
    """

    def __init__(self, image: npt.NDArray[np.uint8], device: torch.device) -> None:
        self.height, self.width = image.shape[:2]
        pixels = torch.from_numpy(image).to(device)
        self._levels = [(pixels.permute(2, 0, 1)[None].float() - 127.5) / 128]
        while min(self._levels[-1].shape[2:]) >= 2 * _CELL:
            self._levels.append(F.avg_pool2d(self._levels[-1], 2, ceil_mode=True))

    def _nearest(self, scale: float) -> int:
        """Index of the smallest level that is at least ``scale`` of the full image."""
        return min(max(0, math.floor(-math.log2(scale) + 1e-6)), len(self._levels) - 1)

    def level(self, scale: float) -> torch.Tensor:
        """The whole image at ``scale``: ``(1, 3, h, w)``."""
        size = (int(self.height * scale + 1), int(self.width * scale + 1))
        source = self._levels[self._nearest(scale)]
        level = F.interpolate(source, size=size, mode="bilinear", antialias=True)
        return level.contiguous(memory_format=_LAYOUT)

    def crop(self, boxes: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes resampled to ``size``; those without a pixel inside the image are left out.

        Boxes count pixels from 1 and include their last one, as MTCNN's always have. Unlike
        there, their corners are not cut to whole pixels: what is sampled moves smoothly.

        Returns:
            The boxes that remain ``(k, 4)``, and their crops ``(k, 3, size, size)``.
        """
        limit = boxes.new_tensor([self.width, self.height] * 2)
        edges = boxes.maximum(boxes.new_ones(4)).minimum(limit)
        edges = torch.cat([edges[:, :2] - 1, edges[:, 2:]], dim=1)
        keep = (edges[:, 2:] > edges[:, :2]).all(dim=1)
        boxes, edges = boxes[keep], edges[keep]
        crops = boxes.new_zeros(len(boxes), 3, size, size)
        sides = (edges[:, 2:] - edges[:, :2]).amax(dim=1)
        levels = (sides / size).clamp(min=1).log2().floor().clamp(max=len(self._levels) - 1)
        for index in torch.unique(levels).int().tolist():
            chosen = (levels == index).nonzero()[:, 0]
            crops[chosen] = roi_align(
                self._levels[index],
                [edges[chosen]],
                output_size=size,
                spatial_scale=0.5**index,
                sampling_ratio=2,
                aligned=True,
            )
        return boxes, crops


def _load(kind: type[torch.nn.Module], file: str, device: torch.device) -> torch.nn.Module:
    """One of facenet-pytorch's networks, without running the pickle its loader would."""
    network = kind(pretrained=False)
    with (resources.files("facenet_pytorch") / "data" / file).open("rb") as data:
        network.load_state_dict(torch.load(data, map_location="cpu", weights_only=True))
    return network.eval().to(device).to(memory_format=_LAYOUT)


def _in_chunks(network: torch.nn.Module, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(map(torch.cat, zip(*(network(chunk) for chunk in torch.split(crops, _CHUNK)))))
