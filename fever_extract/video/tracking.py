"""Face tracking by the overlap of boxes (IoU).

The method is the IoU tracker of Bochinski, Eiselein and Sikora, "High-Speed
Tracking-by-Detection Without Using Image Information", AVSS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision.ops import box_iou

if TYPE_CHECKING:
    import numpy.typing as npt

MIN_IOU = 0.3
"""Boxes that overlap less are not the same face."""
MAX_GAP = 1.0
"""Seconds for which a face that is not found keeps its id."""


@dataclass(eq=False)
class _Track:
    id: int
    box: npt.NDArray[np.float32]
    seen: float


class Tracker:
    """Give each face of a clip an id, counted from 0, that it keeps while it is tracked.

    The pairs of known and new boxes that overlap most are joined first. A face that is not
    found keeps its place and its id for `MAX_GAP` seconds (in a frame later than that, it is
    given up); one that comes back after that, or elsewhere, is new. Who a face is, is not
    looked at.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next_id = 0

    def update(self, boxes: npt.NDArray[np.float32], time: float) -> list[int]:
        """Return the id of each face of the next frame.

        Args:
            boxes: ``(k, 4)``: x1, y1, x2, y2 in pixels.
            time: of the frame, in seconds.
        """
        matched: dict[int, _Track] = {}
        known_boxes = np.array([track.box for track in self._tracks], np.float32).reshape(-1, 4)
        # Boxes without an area have no overlap: NaN.
        overlaps = np.nan_to_num(
            box_iou(torch.from_numpy(known_boxes), torch.as_tensor(boxes, dtype=torch.float32))
        )
        for pair in np.argsort(-overlaps, axis=None, kind="stable"):
            known, new = np.unravel_index(pair, overlaps.shape)
            if overlaps[known, new] < MIN_IOU:
                break
            if new not in matched and self._tracks[known] not in matched.values():
                matched[int(new)] = self._tracks[known]
        for index, box in enumerate(boxes):
            if index not in matched:
                matched[index] = _Track(self._next_id, box, time)
                self._tracks.append(matched[index])
                self._next_id += 1
            matched[index].box, matched[index].seen = box, time
        self._tracks = [track for track in self._tracks if time - track.seen <= MAX_GAP]
        return [matched[index].id for index in range(len(boxes))]
