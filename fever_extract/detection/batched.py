"""MTCNN for a GPU: the pictures of a batch in few launches, with few waits for their results.

`Detector`'s algorithm and, but for rounding, its results, in another shape. A CPU is fast with
small calls on no more data than is needed. A GPU takes longer to be asked than to answer: here
all levels of all pictures are one canvas for P-Net, and what a stage rejects is masked rather than
removed. The CPU waits for the GPU where the number of candidates decides what is next, and for
the result: seven times a batch, however many pictures it has (as long as their levels fit on one
canvas).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from fever_extract._utils.precision import full_precision
from fever_extract._utils.sampling import upload
from fever_extract.detection._nms import nms
from fever_extract.detection.atlas import Atlas
from fever_extract.detection.boxes import overlaps, square
from fever_extract.detection.mtcnn import DENSE, POOLS, Heads, load_weights
from fever_extract.detection.parameters import (
    CELL,
    LEVEL_OVERLAP,
    O_SIZE,
    OVERLAP,
    R_SIZE,
    SAME,
    SETTLE,
    STILL,
    SURE,
    THRESHOLD,
    Detections,
)
from fever_extract.detection.suppression import suppress

if TYPE_CHECKING:
    import numpy.typing as npt

_CROPS = 2048  # that R-Net and O-Net take at once, at most
_FEW = 64  # crops at least: cuDNN prepares for each new number, so that they are rounded up


class BatchDetector:
    """Detect faces with MTCNN as `fever_extract.detection.detector.Detector` does, on a GPU.

    Args:
        device: where; a CPU computes the same, in more time than `Detector`.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._pnet, self._rnet, self._onet = (
            _Network(name, self.device) for name in ("pnet", "rnet", "onet")
        )

    @torch.inference_mode()
    @full_precision()
    def detect(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        smallest: Sequence[float],
        min_confidence: float = 0.9,
    ) -> list[Detections]:
        """Find all faces of some images; arguments and results are those of `Detector.detect`."""
        atlas = Atlas(images, self.device)
        owners, squares = self._propose(atlas, [CELL / side for side in smallest])
        if len(owners):
            owners, squares = self._refine(atlas, owners, squares)
        moved, scores, landmarks, inside = self._look(atlas, owners, squares)
        columns = moved, scores[:, None], owners[:, None], inside[:, None], squares
        rows = torch.cat(columns, dim=1).cpu().numpy()
        picked = _choose(rows, smallest, min_confidence)
        there = upload(picked, self.device)
        boxes, landmarks = self._settle(atlas, owners[there], moved[there], landmarks[there])
        settled = torch.cat([boxes, landmarks.flatten(1)], dim=1).cpu().numpy()
        points = settled[:, 4:].reshape(-1, 5, 2)
        everything = Detections(settled[:, :4], rows[picked, 4], points)
        whose = rows[picked, 5]
        return [everything.take((whose == index).nonzero()[0]) for index in range(len(images))]

    @torch.inference_mode()
    @full_precision()
    def locate(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        boxes: Sequence[npt.NDArray[np.float32]],
    ) -> list[Detections]:
        """Find the landmarks of faces whose boxes are known; see `Detector.locate`."""
        atlas = Atlas(images, self.device)
        counts = [len(some) for some in boxes]
        owners = upload(np.repeat(np.arange(len(images)), counts), self.device)
        squares = _square(upload(np.concatenate(boxes), self.device))
        moved, scores, landmarks, _ = self._look(atlas, owners, squares)
        _, landmarks = self._settle(atlas, owners, moved, landmarks)
        values = torch.cat([landmarks.flatten(1), scores[:, None]], dim=1).cpu().numpy()
        return [
            Detections(box, rows[:, 10], rows[:, :10].reshape(-1, 5, 2))
            for box, rows in zip(boxes, np.split(values, np.cumsum(counts)[:-1]))
        ]

    def _propose(self, atlas: Atlas, scales: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """Run P-Net at all scales: image indices ``(k,)`` and candidate squares ``(k, 4)``."""
        proposals, count = [], 0
        for canvas in atlas.canvases(scales):
            features = self._pnet.features(canvas.pixels)[0].permute(1, 2, 0)
            likely = self._pnet.margin(features) > math.log(THRESHOLD / (1 - THRESHOLD))
            rows, columns = (likely & (canvas.numbers >= 0)).nonzero(as_tuple=True)
            output = self._pnet.heads(features[rows, columns])
            levels, owners, boxes = canvas.find(rows, columns)
            proposals.append((owners, boxes, _scores(output), output[:, 2:], levels + count))
            count += canvas.count
        if not proposals:
            nothing = torch.zeros(0, 4, device=self.device)
            return nothing[:, 0].long(), nothing
        owners, boxes, scores, offsets, levels = map(torch.cat, zip(*proposals))
        keep = _suppress(boxes, scores, levels, LEVEL_OVERLAP)
        owners, boxes, scores, offsets = owners[keep], boxes[keep], scores[keep], offsets[keep]
        keep = _suppress(boxes, scores, owners, OVERLAP)
        return owners[keep], _square(_move(boxes[keep], offsets[keep]))

    def _refine(
        self, atlas: Atlas, owners: torch.Tensor, boxes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run R-Net: fewer and better squares, in the form of `_propose`."""
        output, inside = self._run(self._rnet, atlas, owners, boxes, R_SIZE)
        scores = _scores(output)
        (kept,) = (inside & (scores > THRESHOLD)).nonzero(as_tuple=True)
        owners, boxes, scores, offsets = (
            owners[kept], boxes[kept], scores[kept], output[kept, 2:]
        )  # fmt: skip
        kept = _suppress(boxes, scores, owners, OVERLAP)
        return owners[kept], _square(_move(boxes[kept], offsets[kept]))

    def _look(
        self, atlas: Atlas, owners: torch.Tensor, squares: torch.Tensor, *, padded: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run O-Net: boxes ``(k, 4)``, scores ``(k,)``, landmarks ``(k, 5, 2)``.

        And which of the squares had a pixel inside their image ``(k,)``.
        """
        output, inside = self._run(self._onet, atlas, owners, squares, O_SIZE, padded=padded)
        points = output[:, 6:].reshape(-1, 2, 5).transpose(1, 2)
        sides = squares[:, None, 2:] - squares[:, None, :2] + 1
        landmarks = squares[:, None, :2] - 1 + points * sides
        return _move(squares, output[:, 2:6]), _scores(output), landmarks, inside

    def _settle(
        self, atlas: Atlas, owners: torch.Tensor, boxes: torch.Tensor, landmarks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run O-Net again on its own boxes: boxes ``(k, 4)``, landmarks ``(k, 5, 2)``."""
        moving = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
        for _ in range(SETTLE if len(boxes) else 0):
            squares = _square(boxes)
            moved, _, points, inside = self._look(atlas, owners, squares, padded=True)
            moving = moving & inside
            steps = (points - landmarks).norm(dim=2).amax(dim=1)
            boxes = torch.where(moving[:, None], moved, boxes)
            landmarks = torch.where(moving[:, None, None], points, landmarks)
            moving = moving & (steps > STILL * (squares[:, 2] - squares[:, 0]))
        return boxes, landmarks

    def _run(
        self,
        network: _Network,
        atlas: Atlas,
        owners: torch.Tensor,
        boxes: torch.Tensor,
        size: int,
        *,
        padded: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run R-Net or O-Net on boxes: outputs, and which have a pixel inside their image."""
        outputs, inside = [], []
        for some, theirs in zip(torch.split(owners, _CROPS), torch.split(boxes, _CROPS)):
            crops, valid = atlas.crop(some, theirs, size, padded=padded)
            more = max(_FEW, 1 << (len(crops) - 1).bit_length()) - len(crops)
            filled = F.pad(crops, (0, 0, 0, 0, 0, 0, 0, more)) if len(crops) else crops
            outputs.append(network(filled.permute(0, 3, 1, 2))[: len(crops)])
            inside.append(valid)
        return torch.cat(outputs), torch.cat(inside)


class _Network(Heads):
    """P-Net, R-Net or O-Net: images ``(n, 3, h, w)``, 0 to 255, channels last, to all heads."""

    def __init__(self, name: str, device: torch.device) -> None:
        weights = {key: value.to(device) for key, value in load_weights(name).items()}
        super().__init__(name, weights, device)
        self._layers = [
            (
                weights[f"conv{number}.weight"].to(memory_format=torch.channels_last),
                weights[f"conv{number}.bias"],
                weights[f"prelu{number}.weight"],
                pool,
            )
            for number, pool in enumerate(POOLS[name], 1)
        ]
        self._dense = None
        if name in DENSE:
            prelu = weights[f"prelu{len(self._layers) + 1}.weight"]
            self._dense = weights[f"{DENSE[name]}.weight"], weights[f"{DENSE[name]}.bias"], prelu

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        if self._dense is not None:
            weight, bias, slope = self._dense
            x = F.prelu(F.linear(x.transpose(1, 3).flatten(1), weight, bias), slope)
        return self.heads(x)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Run the convolutions: ``(n, c, h, w)``."""
        for weight, bias, slope, pool in self._layers:
            x = F.prelu(F.conv2d(x, weight, bias), slope)
            x = F.max_pool2d(x, pool, 2, ceil_mode=True) if pool else x
        return x


def _choose(
    rows: npt.NDArray[np.float32], smallest: Sequence[float], min_confidence: float
) -> npt.NDArray[np.intp]:
    """Choose the faces among O-Net's results: indices, best first.

    Args:
        rows: ``(k, 11)``: box, score, image, whether its square had a pixel inside that, and the
            square, in the order of R-Net's scores.
        smallest, min_confidence: as in `BatchDetector.detect`.
    """
    boxes, scores, owners = rows[:, :4], rows[:, 4], rows[:, 5].astype(int)
    inside, squares = rows[:, 6] > 0, rows[:, 7:]
    # `Detector` does not look at what overlaps a sure face: its answer there may be another.
    first = suppress(squares, -np.arange(len(rows), dtype=float), SAME, groups=owners)
    sure = first[inside[first] & (scores[first] >= max(SURE, min_confidence))]
    same = overlaps(squares, square(boxes[sure])) > SAME
    looked = ~(same & (owners[:, None] == owners[sure])).any(axis=1)
    looked[first] = True
    (kept,) = ((scores > min(THRESHOLD, min_confidence)) & inside & looked).nonzero()
    # A box inside a larger one is the same face: overlap over the smaller area.
    groups = owners[kept]
    kept = kept[suppress(boxes[kept], scores[kept], OVERLAP, groups=groups, over_smaller=True)]
    # The networks also find some faces below the smallest size.
    areas = np.maximum(boxes[kept, 2:] - boxes[kept, :2], 0).prod(axis=1)
    limits = np.array([side**2 for side in smallest], np.float32)[owners[kept]]
    chosen: npt.NDArray[np.intp] = kept[(scores[kept] >= min_confidence) & (areas >= limits)]
    return chosen


def _suppress(
    boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, overlap: float
) -> torch.Tensor:
    """Return the indices that non-maximum suppression within each group keeps, best first."""
    apart = boxes.double()
    if len(boxes):  # groups are set apart by shifts, which take doubles
        apart = apart + (groups * (apart.max() - apart.min() + 1))[:, None]
    return nms(apart, scores.double(), overlap)


def _move(boxes: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Apply a network's box regression, whose offsets are in units of the box's sides."""
    return boxes + offsets * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def _square(boxes: torch.Tensor) -> torch.Tensor:
    """Make boxes square: same centre, longer side."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) / 2
    return torch.cat([centres - half, centres + half], dim=1)


def _scores(output: torch.Tensor) -> torch.Tensor:
    """Return the softmax probability of the second of two logits, the face's."""
    return (output[..., 1] - output[..., 0]).sigmoid()
