"""Clips to records: sample frames, extract in batches, track the faces."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from fever_extract.options import Options
from fever_extract.records import ExtractionError, Frame, Record
from fever_extract.video.decoding import Clip, ClipLike, upright
from fever_extract.video.tracking import Tracker

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.pipeline import Pipeline

_Timed = TypeVar("_Timed")

_FRAMES_AT_ONCE = 4  # for a thread: large frames are large


def extract(
    pipeline: Pipeline,
    clip: ClipLike,
    options: Options,
    *,
    all_faces: bool,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Iterator[Frame]:
    """See `Extractor.extract_video`."""
    for _, frame in with_pixels(
        pipeline, clip, options, all_faces=all_faces, fps=fps, start=start, end=end
    ):
        yield frame


def with_pixels(
    pipeline: Pipeline,
    clip: ClipLike,
    options: Options,
    *,
    all_faces: bool,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Iterator[tuple[npt.NDArray[np.uint8] | None, Frame]]:
    """Yield each frame of `extract` with the picture that its boxes are in.

    The pictures are ``(h, w, 3)`` uint8 RGB; where the clip could not be read, there is none.
    """
    time, tracker = math.nan, Tracker()
    waiting: deque[tuple[float, npt.NDArray[np.uint8]]] = deque()
    problem: ExtractionError | None = None

    def pictures() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal problem
        try:
            with Clip(clip, torch.get_num_threads()) as opened:
                # A frame's pixels are those of when it was decoded.
                shown = (
                    (time, (frame, opened.pixel_aspect))
                    for time, frame in opened.frames(start, end)
                )
                for time, (frame, pixel_aspect) in sample(shown, fps):
                    pixels = upright(frame, pixel_aspect)
                    waiting.append((time, pixels))
                    yield pixels
        except ExtractionError as error:
            problem = error  # after the frames before it

    few = options.replace({"batch_size": min(options.batch_size, _FRAMES_AT_ONCE)})
    # All faces are followed, so that an id does not depend on which is chosen.
    for record in pipeline.stream(pictures(), few, all_faces=True):
        time, pixels = waiting.popleft()
        yield pixels, _follow(record, time, pixels, tracker, all_faces)
    if problem is not None:
        yield None, Frame(problem.status, str(problem), time=time)


def sample(
    frames: Iterable[tuple[float, _Timed]], fps: float | None
) -> Iterator[tuple[float, _Timed]]:
    """Sample the frames nearest to every 1/fps seconds; none comes twice.

    Args:
        frames: each with its time in seconds, in order.
        fps: how many a second; None for all.
    """
    if fps is None:
        yield from frames
        return
    target, gap = math.nan, 0.0
    previous: tuple[float, _Timed] | None = None
    for time, frame in frames:
        if previous is None:
            target = time
        else:
            gap = time - previous[0]
            middle = previous[0] + gap / 2
            if target <= middle:
                yield previous
                target += (math.floor((middle - target) * fps) + 1) / fps
        previous = time, frame
    if previous is not None and target <= previous[0] + gap / 2:
        yield previous


def _follow(
    record: Record,
    time: float,
    pixels: npt.NDArray[np.uint8],
    tracker: Tracker,
    all_faces: bool,
) -> Frame:
    boxes = np.array([face.box for face in record.faces], np.float32).reshape(-1, 4)
    faces = [
        dataclasses.replace(face, track=track)
        for face, track in zip(record.faces, tracker.update(boxes, time, pixels))
    ]
    return Frame(record.status, record.error, tuple(faces if all_faces else faces[:1]), time)
