"""Clips to records: sample frames, extract in batches, track the faces."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from fever_extract.options import Options
from fever_extract.records import ExtractionError, Frame, Record
from fever_extract.video import segments
from fever_extract.video.decoding import Clip, ClipLike, describe_problems, upright
from fever_extract.video.stretch import Stretch
from fever_extract.video.tracking import MAX_GAP, Tracker

if TYPE_CHECKING:
    from fractions import Fraction

    import numpy.typing as npt
    from av.video.frame import VideoFrame

    from fever_extract.pipeline import Pipeline

_Timed = TypeVar("_Timed")

_FRAMES_AT_ONCE = 4  # for a thread: large frames are large
_FRAMES_ON_GPU = 16  # it takes about as long for many as for few


def extract(
    pipeline: Pipeline,
    clip: ClipLike,
    options: Options,
    *,
    all_faces: bool,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    detect_every: int = 1,
) -> Iterator[Frame]:
    """See `Extractor.extract_video`."""
    for _, frame in with_pixels(
        pipeline,
        clip,
        options,
        all_faces=all_faces,
        fps=fps,
        start=start,
        end=end,
        detect_every=detect_every,
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
    detect_every: int = 1,
) -> Iterator[tuple[npt.NDArray[np.uint8] | None, Frame]]:
    """Yield each frame of `extract` with the picture that its boxes are in.

    The pictures are ``(h, w, 3)`` uint8 RGB; where the clip could not be read, there is none.
    """
    whole = Stretch(start or 0.0, end)
    for _, pixels, frame in _followed(
        pipeline, clip, options, whole, fps=fps, detect_every=detect_every, origin=whole.start
    ):
        yield pixels, frame if all_faces else dataclasses.replace(frame, faces=frame.faces[:1])


@dataclass
class Links:
    """How the faces of a stretch are joined with those of its neighbours.

    Each row of ``entry`` and ``exit`` is a face that may go on: its id in this stretch, the time
    at which it was seen last, and its box then.

    Attributes:
        entry: before the stretch's first frame, by the frames of the stretch before.
        exit: after its last frame.
        ids: of the faces in its frames, in order of their appearance.
    """

    entry: list[list[float]] = field(default_factory=list)
    exit: list[list[float]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


def extract_stretch(
    pipeline: Pipeline,
    clip: ClipLike,
    options: Options,
    stretch: Stretch,
    *,
    all_faces: bool,
    fps: float | None,
    detect_every: int = 1,
    origin: float,
    alive: Callable[[], None],
) -> tuple[list[Frame], Links]:
    """Extract one stretch of a clip: the frames that `extract` yields in that time.

    Args:
        pipeline, clip, options, all_faces, fps, detect_every: as in `extract`.
        stretch: which; ids of faces are its own, from 0.
        origin: ``start`` of all that is taken of the clip, in seconds.
        alive: called for each frame that was decoded.

    Returns:
        The frames (of a clip of several stretches, maybe none), and how to join their ids with
        those of the neighbours.
    """
    frames: list[Frame] = []
    links = Links()
    seen: dict[int, list[float]] = {}
    for own, _, frame in _followed(
        pipeline,
        clip,
        options,
        stretch,
        fps=fps,
        detect_every=detect_every,
        origin=origin,
        alive=alive,
    ):
        if own:
            if not frames:
                links.entry = [[track, *last] for track, last in seen.items()]
            frames.append(frame if all_faces else dataclasses.replace(frame, faces=frame.faces[:1]))
        for face in frame.faces:
            assert face.track is not None
            seen[face.track] = [frame.time, *face.box.tolist()]
            if own and face.track not in links.ids:
                links.ids.append(face.track)
        seen = {track: last for track, last in seen.items() if frame.time - last[0] <= MAX_GAP}
    links.exit = [[track, *last] for track, last in seen.items()]
    if not frames:
        links.entry = links.exit
    return frames, links


def _followed(
    pipeline: Pipeline,
    clip: ClipLike,
    options: Options,
    stretch: Stretch,
    *,
    fps: float | None,
    detect_every: int = 1,
    origin: float,
    alive: Callable[[], None] = lambda: None,
) -> Iterator[tuple[bool, npt.NDArray[np.uint8] | None, Frame]]:
    """Yield a stretch's frames with all faces: whether it is the stretch's own, pixels, frame.

    Before its own come some of the stretch before, so that faces are followed into it.
    """
    time, tracker = math.nan, Tracker()
    waiting: deque[tuple[float, npt.NDArray[np.uint8]]] = deque()
    problem: ExtractionError | None = None

    def pictures() -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
        nonlocal problem
        try:
            with Clip(clip, torch.get_num_threads()) as opened:
                reading = _Reading(opened, stretch, origin, alive)
                for time, (frame, pixel_aspect) in reading.taken(fps):
                    pixels = upright(frame, pixel_aspect)
                    waiting.append((time, pixels))
                    yield time, pixels
                problem = reading.problem()
        except ExtractionError as error:
            problem = error  # after the frames before it

    if detect_every > 1:
        records = segments.follow(pipeline, pictures(), options, detect_every)
    else:
        at_once = _FRAMES_AT_ONCE if pipeline.device.type == "cpu" else _FRAMES_ON_GPU
        few = options.replace({"batch_size": min(options.batch_size, at_once)})
        # All faces are followed, so that an id does not depend on which is chosen.
        records = pipeline.stream((pixels for _, pixels in pictures()), few, all_faces=True)
    for record in records:
        time, pixels = waiting.popleft()
        yield time >= stretch.start, pixels, _follow(record, time, pixels, tracker)
    if problem is not None:
        yield True, None, Frame(problem.status, str(problem), time=time)


class _Reading:
    """The frames of a stretch, as they are decoded."""

    def __init__(
        self, clip: Clip, stretch: Stretch, origin: float, alive: Callable[[], None]
    ) -> None:
        self._clip, self._stretch, self._origin, self._alive = clip, stretch, origin, alive
        self._given = False

    def taken(self, fps: float | None) -> Iterator[tuple[float, tuple[VideoFrame, Fraction]]]:
        """Yield the sampled frames, and those of some time before them, or the last one."""
        stretch = self._stretch
        since = stretch.start
        if stretch.number:
            since -= max(MAX_GAP, 2 / fps if fps else 0.0)
        before = None
        for time, picture in sample(self._shown(since), fps, self._origin):
            if stretch.end is not None and time >= stretch.end:
                return
            if time < since:
                before = time, picture
                continue
            if before is not None and time >= stretch.start:
                yield before
            before = None
            yield time, picture

    def _shown(self, since: float) -> Iterator[tuple[float, tuple[VideoFrame, Fraction]]]:
        stretch = self._stretch
        for time, frame in self._clip.walk(since):
            self._alive()
            over = stretch.end is not None and time >= stretch.end
            if over and stretch.last:
                return
            if time < self._origin:
                continue
            self._given = True
            # A frame's pixels are those of when it was decoded.
            yield time, (frame, self._clip.pixel_aspect)
            if over:  # one more, as the frame before it may be less near to a sampled time
                return

    def problem(self) -> ExtractionError | None:
        """Return what is to be reported of this stretch, after its frames."""
        stretch = self._stretch
        problems = [item for item in self._clip.problems if stretch.owns(item[0])]
        alone = stretch.number == 0 and stretch.last
        return describe_problems(problems, self._given or not alone, stretch.start)


def sample(
    frames: Iterable[tuple[float, _Timed]], fps: float | None, origin: float = 0.0
) -> Iterator[tuple[float, _Timed]]:
    """Sample the frames nearest to every 1/fps seconds; none comes twice.

    Whether a frame is taken depends on its time and those of its neighbours alone, so that a
    stretch of a clip has the same frames as the clip.

    Args:
        frames: each with its time in seconds, in order.
        fps: how many a second; None for all.
        origin: the first time to which a frame is to be near, in seconds.
    """
    if fps is None:
        yield from frames
        return
    met, gap = -1, 0.0  # how many of those times are nearer to earlier frames, less one
    previous: tuple[float, _Timed] | None = None

    def until(time: float) -> int:
        return math.floor((time - origin) * fps)

    for time, frame in frames:
        if previous is not None:
            gap = time - previous[0]
            reached = until(previous[0] + gap / 2)
            if reached > met:
                yield previous
            met = max(met, reached)
        previous = time, frame
    if previous is not None and until(previous[0] + gap / 2) > met:
        yield previous


def _follow(
    record: Record,
    time: float,
    pixels: npt.NDArray[np.uint8],
    tracker: Tracker,
) -> Frame:
    boxes = np.array([face.box for face in record.faces], np.float32).reshape(-1, 4)
    faces = [
        dataclasses.replace(face, track=track)
        for face, track in zip(record.faces, tracker.update(boxes, time, pixels))
    ]
    return Frame(record.status, record.error, tuple(faces), time)
