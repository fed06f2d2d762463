"""Analyse a source in real time: some threads take the newest frame, results come in order."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract.live.reader import Reader, Shot
from fever_extract.live.sources import Source
from fever_extract.records import ExtractionError, Record
from fever_extract.serve.answers import face_fields
from fever_extract.video.tracking import Tracker

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.extractor import Extractor

_WINDOW = 2.0  # seconds over which frames a second are counted


@dataclass(frozen=True, eq=False)
class Result:
    """One frame and its faces, which have ids.

    Attributes:
        number, time: of the frame, as in `fever_extract.live.reader.Shot`.
        came: when it came, by `time.monotonic`.
        record: its status and faces.
        pixels: ``(h, w, 3)`` uint8 RGB; None where the frame can't be shown.
        rate: frames a second, analysed, over the last two seconds.
        latency: seconds from when the frame came to this result.
        dropped: frames that were passed over since the source was opened.
    """

    number: int
    time: float
    came: float
    record: Record
    pixels: npt.NDArray[np.uint8] | None
    rate: float
    latency: float
    dropped: int


class Analysis:
    """A source under analysis, from when it is made until it ends or is stopped.

    Args:
        extractor: whose options are used.
        source: what is looked at.
        publish: called with each result, in order, in a thread of the analysis.
        ended: called when there is nothing more, with the reason, and whether that is a failure.
        threads: that analyse, a frame each.
        detect_every: look for faces in every n-th frame; between, follow those that are known.
        first: number of the first frame.
        wanted: see `fever_extract.live.reader.Reader`.

    Raises:
        SourceError, ExtractionError: if the source can't be opened.
    """

    def __init__(
        self,
        extractor: Extractor,
        source: Source,
        publish: Callable[[Result], None],
        ended: Callable[[str, bool], None] = lambda *_: None,
        *,
        threads: int = 1,
        detect_every: int = 1,
        first: int = 0,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._extractor, self._publish, self._ended = extractor, publish, ended
        self._detect_every = detect_every
        self._reader = Reader(source, first, wanted)
        self._tracker = Tracker()
        self._turn = threading.Condition()
        self._next = first
        self._last: Record | None = None
        self._times: deque[float] = deque()
        self._running = threads
        self._threads = [
            threading.Thread(target=self._run, name=f"fever-live-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_running(self) -> bool:
        """Whether more results may come."""
        return self._running > 0

    @property
    def next_number(self) -> int:
        """Number of the next frame."""
        return self._reader.next_number

    def stop(self) -> None:
        """Close the source, and wait until it is closed and the last result is published."""
        self._reader.stop()
        self.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False if it did not come in time, in seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        problem: str | None = None
        while problem is None and (shot := self._reader.take()) is not None:
            pixels: npt.NDArray[np.uint8] | None = None
            record: Record
            try:
                pixels = shot.pixels()
                record = self._analyse(shot, pixels)
            except ExtractionError as error:
                record = Record(error.status, str(error))
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            with self._turn:
                self._turn.wait_for(lambda number=shot.number: self._next == number)  # type: ignore[misc]
                try:
                    if problem is None:
                        self._publish(self._result(shot, record, pixels))
                except Exception as error:  # a reader of the results that has gone, say
                    problem = f"{type(error).__name__}: {error}"
                finally:
                    self._next += 1
                    self._turn.notify_all()
        if problem is not None:
            self._reader.stop()
        with self._turn:
            if self._running == 1:  # the last thread; whoever sees it ended knows the reason
                failed = problem is not None or self._reader.failed
                self._ended(problem or self._reader.ended or "stopped", failed)
            self._running -= 1

    def _analyse(self, shot: Shot, pixels: npt.NDArray[np.uint8]) -> Record:
        before = self._last if shot.number % self._detect_every else None
        if before is not None:
            return self._extractor.extract_next(pixels, before)
        (record,) = self._extractor.extract_records([pixels], all_faces=True)
        return record

    def _result(self, shot: Shot, record: Record, pixels: npt.NDArray[np.uint8] | None) -> Result:
        boxes = np.array([face.box for face in record.faces], np.float32).reshape(-1, 4)
        tracks = self._tracker.update(boxes, shot.time, pixels)
        faces = tuple(
            dataclasses.replace(face, track=track) for face, track in zip(record.faces, tracks)
        )
        self._last = record
        now = time.monotonic()
        self._times.append(now)
        while now - self._times[0] > _WINDOW:
            self._times.popleft()
        passed = now - self._times[0]
        return Result(
            number=shot.number,
            time=shot.time,
            came=shot.came,
            record=dataclasses.replace(record, faces=faces),
            pixels=pixels,
            rate=(len(self._times) - 1) / passed if passed else 0.0,
            latency=now - shot.came,
            dropped=self._reader.dropped,
        )


def fields(result: Result) -> dict[str, Any]:
    """A result as JSON takes it, without pixels and embeddings."""
    height, width = (0, 0) if result.pixels is None else result.pixels.shape[:2]
    return {
        "frame": result.number,
        "time": result.time,
        "status": result.record.status.value,
        "error": result.record.error,
        "width": width,
        "height": height,
        "rate": round(result.rate, 2),
        "latency": round(result.latency, 4),
        "dropped": result.dropped,
        "faces": [face_fields(face, embedding=False) for face in result.record.faces],
    }
