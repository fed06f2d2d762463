"""Read frames in real time in a thread of its own; only the newest waits, others are dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from fever_extract.live.sources import Source
from fever_extract.records import ExtractionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from av.video.frame import VideoFrame


@dataclass(frozen=True)
class Shot:
    """One frame as it came.

    Attributes:
        number: counted from 0 among the frames that are analysed.
        time: in seconds from the beginning of the source.
        came: when it came, by `time.monotonic`.
    """

    number: int
    time: float
    came: float
    _frame: VideoFrame
    _pixel_aspect: Fraction

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Its upright pixels, ``(h, w, 3)`` uint8 RGB.

        Raises:
            ExtractionError: ``decode_error``, if it has none.
        """
        from fever_extract.video.decoding import upright

        return upright(self._frame, self._pixel_aspect)


class Reader:
    """A source that is open; `take` gives its newest frame.

    Args:
        source: is opened at once, and closed when the reader is stopped or has come to its end.
        first: number of the first frame.
        wanted: asked at each frame; once it is False, the source is closed.

    Attributes:
        dropped: frames that nobody took.
        ended: why there are no more frames; None while there are.
        failed: whether that is a failure.

    Raises:
        SourceError, ExtractionError: if it can't be opened.
    """

    def __init__(
        self, source: Source, first: int = 0, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        self._clip, self._container = source.open()
        duration = self._container.duration if self._container is not None else None
        # A camera's frames come when they are due; a file's, and those of an address that has an
        # end, must wait for their time.
        self._paced = not source.is_camera and not (source.is_address and duration is None)
        self._wanted = wanted
        self._change = threading.Condition()
        self._newest: tuple[float, float, VideoFrame, Fraction] | None = None
        self._number = first
        self._stopped = False
        self.dropped = 0
        self.ended: str | None = None
        self.failed = False
        self._thread = threading.Thread(target=self._run, name="fever-reader", daemon=True)
        self._thread.start()

    @property
    def next_number(self) -> int:
        """Number of the next frame."""
        return self._number

    def take(self) -> Shot | None:
        """Wait for a frame that nobody has taken; None at the end."""
        with self._change:
            self._change.wait_for(lambda: self._newest is not None or self.ended is not None)
            if self._newest is None:
                return None
            shot = Shot(self._number, *self._newest)
            self._number += 1
            self._newest = None
            return shot

    def stop(self) -> None:
        """Close the source; a camera is free when this returns, unless it gives no frame at all."""
        self._stopped = True
        self._thread.join(timeout=5)

    def _run(self) -> None:
        reason = "the clip has ended" if self._paced else "the source has ended"
        try:
            began: float | None = None
            for moment, frame in self._clip.frames():
                if self._stopped or not self._wanted():
                    reason = "stopped"
                    break
                now = time.monotonic()
                began = now - moment if began is None else began
                if self._paced:
                    self._sleep_until(began + moment)
                    now = began + moment
                self._put((moment, now, frame, self._clip.pixel_aspect))
        except ExtractionError as error:
            reason, self.failed = str(error), True
        except Exception as error:  # whatever it is, a page or a program waits to be told
            reason, self.failed = f"{type(error).__name__}: {error}", True
        finally:
            with suppress(Exception):
                self._clip.close()
            if self._container is not None:
                with suppress(Exception):
                    self._container.close()
            with self._change:
                self.ended = reason
                self._change.notify_all()

    def _sleep_until(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0 and not self._stopped:
            time.sleep(min(left, 0.1))

    def _put(self, frame: tuple[float, float, VideoFrame, Fraction]) -> None:
        with self._change:
            self.dropped += self._newest is not None
            self._newest = frame
            self._change.notify()
