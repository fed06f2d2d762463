"""Segments: consecutive frames of which only the first is searched for faces.

Which frames begin one depends on nothing but the second that they are in, so that a stretch of a
clip has the same segments as the clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from fever_extract._utils.threads import map_in_threads, one_thread
from fever_extract.options import Options
from fever_extract.records import Record

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fever_extract.pipeline import Pipeline

Timed = tuple[float, "npt.NDArray[np.uint8]"]
"""A frame's time in seconds, and its pixels ``(h, w, 3)``."""

_PIXELS = 8_000_000  # of segments that are followed together: more won't be faster


def follow(
    pipeline: Pipeline, frames: Iterable[Timed], options: Options, detect_every: int
) -> Iterator[Record]:
    """Yield a record per frame, with all its faces, in order.

    Args:
        pipeline: what to do it with.
        frames: of a clip, in order.
        options: with a ``batch_size`` of 1, each frame is finished before the next is read.
        detect_every: detect faces in every so many frames, and follow them between.
    """
    if options.batch_size > 1:
        segments = _segments(frames, detect_every)
        yield from map_in_threads(
            lambda group: pipeline.follow(group, options), _groups(segments, options.batch_size)
        )
        return
    record: Record | None = None
    for begins, pixels in _begin(frames, detect_every):
        before = () if begins or record is None else (record,)
        with one_thread():
            (record,) = pipeline.follow([[pixels]], options, before)
        yield record


def _begin(frames: Iterable[Timed], length: int) -> Iterator[tuple[bool, npt.NDArray[np.uint8]]]:
    """Tell of each frame whether it begins a segment: counted anew each second, or size."""
    count, last = 0, None
    for time, pixels in frames:
        now = math.floor(time), pixels.shape
        count = 0 if now != last else (count + 1) % length
        last = now
        yield count == 0, pixels


def _segments(frames: Iterable[Timed], length: int) -> Iterator[list[npt.NDArray[np.uint8]]]:
    segment: list[npt.NDArray[np.uint8]] = []
    for begins, pixels in _begin(frames, length):
        if begins and segment:
            yield segment
            segment = []
        segment.append(pixels)
    if segment:
        yield segment


def _groups(
    segments: Iterable[list[npt.NDArray[np.uint8]]], most: int
) -> Iterator[list[list[npt.NDArray[np.uint8]]]]:
    """Put segments together: of ``most`` frames and `_PIXELS`, unless one has more."""
    group: list[list[npt.NDArray[np.uint8]]] = []
    frames = pixels = 0
    for segment in segments:
        size = sum(frame.size // 3 for frame in segment)
        if group and (frames + len(segment) > most or pixels + size > _PIXELS):
            yield group
            group, frames, pixels = [], 0, 0
        group.append(segment)
        frames, pixels = frames + len(segment), pixels + size
    if group:
        yield group
