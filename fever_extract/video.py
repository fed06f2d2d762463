"""From a clip to records: choose frames, extract in batches, follow the faces."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from fever_extract.clips import Clip, ClipLike, upright
from fever_extract.options import Options
from fever_extract.records import ExtractionError, Frame, Record
from fever_extract.tracking import Tracker

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.pipeline import Pipeline

_Timed = TypeVar("_Timed")

_BYTES_AT_ONCE = 200_000_000  # of RGB: 32 frames of 1920x1080, 8 of 3840x2160


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
    time, tracker = math.nan, Tracker()
    try:
        with Clip(clip, torch.get_num_threads()) as opened:
            frames = sample(opened.frames(start, end), fps)
            pictures = ((time, upright(frame)) for time, frame in frames)
            for batch in _batches(pictures, options.batch_size):
                # All faces are followed, so that an id does not depend on which is chosen.
                records = pipeline.process([pixels for _, pixels in batch], options, all_faces=True)
                for (time, _), record in zip(batch, records):
                    yield _follow(record, time, tracker, all_faces)
    except ExtractionError as error:
        yield Frame(error.status, str(error), time=time)


def sample(
    frames: Iterable[tuple[float, _Timed]], fps: float | None
) -> Iterator[tuple[float, _Timed]]:
    """Of frames at any times, those nearest to every 1/fps seconds; none comes twice.

    Args:
        frames: each with its time in seconds, in order.
        fps: how many a second; None for all.
    """
    if fps is None:
        yield from frames
        return
    wanted, gap = math.nan, 0.0
    previous: tuple[float, _Timed] | None = None
    for time, frame in frames:
        if previous is None:
            wanted = time
        else:
            gap = time - previous[0]
            middle = previous[0] + gap / 2
            if wanted <= middle:
                yield previous
                wanted += (math.floor((middle - wanted) * fps) + 1) / fps
        previous = time, frame
    if previous is not None and wanted <= previous[0] + gap / 2:
        yield previous


def _follow(record: Record, time: float, tracker: Tracker, all_faces: bool) -> Frame:
    boxes = np.array([face.box for face in record.faces], np.float32).reshape(-1, 4)
    faces = [
        dataclasses.replace(face, track=track)
        for face, track in zip(record.faces, tracker.update(boxes, time))
    ]
    return Frame(record.status, record.error, tuple(faces if all_faces else faces[:1]), time)


def _batches(
    pictures: Iterable[tuple[float, npt.NDArray[np.uint8]]], size: int
) -> Iterator[list[tuple[float, npt.NDArray[np.uint8]]]]:
    """At most ``size`` at a time; what there is comes before an `ExtractionError`."""
    batch: list[tuple[float, npt.NDArray[np.uint8]]] = []
    try:
        for picture in pictures:
            batch.append(picture)
            if len(batch) == size or len(batch) * picture[1].nbytes >= _BYTES_AT_ONCE:
                yield batch
                batch = []
    except ExtractionError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
