"""Face tracking: by the overlap of boxes, and by colours where a face was lost or replaced.

From frame to frame it is the IoU tracker of Bochinski, Eiselein and Sikora, "High-Speed
Tracking-by-Detection Without Using Image Information", AVSS 2017. A face that was lost gets its
id back by place, size and colours, if they fit it and no other; no network compares faces. An
id that is wrongly new costs less than two people in one, so the thresholds are strict: see
`benchmarks/tracking.py` for what they let through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.video.appearance import Appearance, likeness

if TYPE_CHECKING:
    import numpy.typing as npt

MIN_IOU = 0.3
"""Boxes that overlap less are not in the same place."""
MAX_GAP = 1.0
"""Seconds for which a face that is not found keeps its id by its place alone."""
MEMORY = 60.0
"""Seconds after which a lost face is forgotten."""
SAME_PLACE = 0.98
"""Likeness of the head's colours below which a face in the same place is another."""
ELSEWHERE = 0.985
"""The same, of a face that returns in another place."""
SAME_CLOTHES = 0.9
"""The same, of the clothes of a face that returns, where both can be seen."""
MARGIN = 0.01
"""By so much a face that returns is more like itself than any other face of the clip is."""
MAX_SCALE = 1.5
"""A face that returns is at most so many times as large or small as it was."""


@dataclass(eq=False)
class _Track:
    id: int
    box: npt.NDArray[np.float32]
    seen: float
    last: Appearance | None = None
    usual: Appearance | None = None  # averaged over a second or so

    def update(
        self, box: npt.NDArray[np.float32], time: float, appearance: Appearance | None
    ) -> None:
        weight = 1 - math.exp(-max(time - self.seen, 0.0))
        self.box, self.seen, self.last = box, time, appearance
        if self.usual is None:
            self.usual = appearance
        elif appearance is not None and appearance.whole >= self.usual.whole:
            self.usual = self.usual.blended(appearance, weight)


class Tracker:
    """Give each face of a clip an id, counted from 0, that it keeps while it is tracked.

    - The pairs of known and new boxes that overlap most are joined first, unless their colours
      (`SAME_PLACE`) say that a cut has put somebody else there.
    - A face that is not found keeps its place and its id for `MAX_GAP` seconds (in a frame later
      than that, it is given up).
    - One that comes back within `MEMORY` seconds gets its id back if its colours and size are as
      they were (`SAME_PLACE`, or `ELSEWHERE`), and no other face of the clip is nearly as much
      like it. Else it is new.

    Who a face is, is not looked at.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._lost: list[_Track] = []
        self._next_id = 0

    def update(
        self,
        boxes: npt.NDArray[np.float32],
        time: float,
        pixels: npt.NDArray[np.uint8] | None = None,
    ) -> list[int]:
        """Return the id of each face of the next frame.

        Args:
            boxes: ``(k, 4)``: x1, y1, x2, y2 in pixels.
            time: of the frame, in seconds.
            pixels: ``(h, w, 3)`` uint8 RGB, the frame; without it boxes alone decide, and a
                lost face never gets its id back.
        """
        looks: list[Appearance | None] = [
            None if pixels is None else Appearance.of(pixels, box) for box in boxes
        ]
        matched = self._follow(boxes, looks)
        if len(matched) < len(boxes) and pixels is not None:
            self._recover(boxes, looks, matched)
        for index, (box, look) in enumerate(zip(boxes, looks)):
            if index not in matched:
                matched[index] = _Track(self._next_id, box, time)
                self._next_id += 1
            matched[index].update(box, time, look)
        known = {track.id: track for track in [*self._lost, *self._tracks, *matched.values()]}
        self._tracks = [track for track in known.values() if time - track.seen <= MAX_GAP]
        self._lost = [t for t in known.values() if MAX_GAP < time - t.seen <= MEMORY]
        return [matched[index].id for index in range(len(boxes))]

    def _follow(
        self, boxes: npt.NDArray[np.float32], looks: Sequence[Appearance | None]
    ) -> dict[int, _Track]:
        """Join faces to those in the same place a moment ago."""
        matched: dict[int, _Track] = {}
        overlaps = _overlaps([track.box for track in self._tracks], boxes)
        for pair in np.argsort(-overlaps, axis=None, kind="stable"):
            known, new = np.unravel_index(pair, overlaps.shape)
            if overlaps[known, new] < MIN_IOU:
                break
            track, look = self._tracks[known], looks[new]
            if new in matched or track in matched.values():
                continue
            if look is not None and track.last is not None:
                head, _ = likeness(track.last, look)
                if head < SAME_PLACE:  # not where it can't be seen, NaN
                    continue
            matched[int(new)] = track
        return matched

    def _recover(
        self,
        boxes: npt.NDArray[np.float32],
        looks: Sequence[Appearance | None],
        matched: dict[int, _Track],
    ) -> None:
        """Give ids back to the faces that are certainly those that were lost."""
        known = [track for track in [*self._tracks, *self._lost] if track.usual is not None]
        if not known:
            return
        heads = np.zeros((len(known), len(boxes)))
        fits = np.zeros((len(known), len(boxes)), bool)
        overlaps = _overlaps([track.box for track in known], boxes)
        for row, track in enumerate(known):
            for column, look in enumerate(looks):
                if look is None:
                    continue
                head, clothes = _most_alike(track, look)
                heads[row, column] = head
                fits[row, column] = (
                    head >= (SAME_PLACE if overlaps[row, column] >= MIN_IOU else ELSEWHERE)
                    and not clothes < SAME_CLOTHES
                    and 1 / MAX_SCALE <= _scale(track.box, boxes[column]) <= MAX_SCALE
                )
        for row, column in zip(*np.nonzero(fits)):
            if int(column) in matched or known[row] in matched.values():
                continue
            head = heads[row, column]
            others = [*np.delete(heads[row], column), *np.delete(heads[:, column], row)]
            if head - max(others, default=0.0) >= MARGIN:
                matched[int(column)] = known[row]


def _most_alike(track: _Track, look: Appearance) -> tuple[float, float]:
    """How alike the colours are to those that the face usually had, or had last; 0 if unknown."""

    def pairs() -> Iterator[tuple[float, float]]:
        for known in (track.usual, track.last):
            if known is not None:
                head, clothes = likeness(known, look)
                yield (0.0 if math.isnan(head) else head), clothes

    return max(pairs(), key=lambda pair: pair[0])


def _overlaps(
    known: Sequence[npt.NDArray[np.float32]], boxes: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Intersection over union of each pair; 0 for boxes without an area."""
    first = np.array(known, np.float64).reshape(-1, 1, 4)
    second = boxes.astype(np.float64).reshape(1, -1, 4)
    corners = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    shared = np.maximum(corners, 0).prod(axis=-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(axis=-1) for b in (first, second)]
    union = areas[0] + areas[1] - shared
    overlaps: npt.NDArray[np.float64] = np.where(
        union > 0, shared / np.where(union > 0, union, 1), 0
    )
    return overlaps


def _scale(known: npt.NDArray[np.float32], box: npt.NDArray[np.float32]) -> float:
    """How many times as large a box is, a side; 0 where one has no area."""
    areas = [max((b[2] - b[0]) * (b[3] - b[1]), 0.0) for b in (box, known)]
    return float((areas[0] / areas[1]) ** 0.5) if areas[1] else 0.0
