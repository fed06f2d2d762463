"""Events in a course: stretches in which a signal is high, and blinks, which are short peaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._utils.extras import require

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.video.aggregation import Observations

GAP = 0.5
"""Seconds out of sight that end an event; a shorter gap does not."""
THRESHOLD = 0.5
"""That a signal reaches in an event."""
RELEASE = 0.7
"""Of the threshold: an event lasts from where the signal rises above to where it falls below."""
SHORTEST = 0.2
"""Seconds: shorter stretches are no events (of blinks, every one is)."""
BLINK = 0.1
"""By so much a blink rises above what is before and after it."""
OPEN = 0.4
"""A blink begins and ends with open eyes: the signal below this."""
LONGEST_BLINK = 0.5
"""Seconds: eyes that are closed for longer don't blink."""


@dataclass(frozen=True)
class Event:
    """One stretch in which a signal of a face is high.

    Attributes:
        face: its id.
        name: of the signal.
        onset, apex, offset: in seconds: where it begins, is highest, and ends.
        peak: the signal at its apex.
        complete: False if the face was seen only after it began, or no longer when it ended.
    """

    face: int
    name: str
    onset: float
    apex: float
    offset: float
    peak: float
    complete: bool

    @property
    def duration(self) -> float:
        """In seconds, from onset to offset."""
        return self.offset - self.onset


def find_stretches(
    seen: Observations,
    face: int,
    name: str,
    *,
    threshold: float | None = None,
    min_duration: float | None = None,
) -> list[Event]:
    """Find where a signal is high, with hysteresis: flicker about the threshold is one event.

    Args:
        seen: of one face, with the signal as its only value.
        face, name: for the events.
        threshold: that the signal reaches; `THRESHOLD` by default. An event begins and ends at
            `RELEASE` of it.
        min_duration: in seconds; `SHORTEST` by default.
    """
    threshold = THRESHOLD if threshold is None else threshold
    shortest = SHORTEST if min_duration is None else min_duration
    release = threshold * RELEASE if threshold > 0 else threshold
    events = []
    for run in seen.runs(GAP):
        part = seen.take(run)
        signal = part.values[:, 0]
        ends = part.times + part.durations
        borders = np.flatnonzero(np.diff(signal >= release, prepend=False, append=False))
        for first, after in zip(borders[::2], borders[1::2]):
            apex = first + int(np.argmax(signal[first:after]))
            event = Event(
                face,
                name,
                float(part.times[first]),
                float(part.times[apex]),
                float(ends[after - 1]),
                float(signal[apex]),
                bool(first > 0 and after < len(signal)),
            )
            # The durations of frames are rounded to microseconds.
            if event.peak >= threshold and event.duration >= shortest - 1e-5:
                events.append(event)
    return events


def find_blinks(
    seen: Observations,
    face: int,
    name: str,
    *,
    threshold: float | None = None,
    min_duration: float | None = None,
) -> list[Event]:
    """Find short peaks, whatever the level they rise from; by scipy's ``find_peaks``.

    Eyes look closed to a network in many ways (looking down, laughing): a blink is told by its
    rise from open eyes and its fall, rather than its height.

    Args:
        seen, face, name: as in `find_stretches`.
        threshold: by how much the peak rises above both sides; `BLINK` by default.
        min_duration: in seconds, at half of that rise; 0 by default. At most it is
            `LONGEST_BLINK`.

    Raises:
        ImportError: if scipy is missing.
    """
    require("scipy", extra="course", needed_by="finding blinks")
    from scipy.signal import find_peaks, peak_widths

    rise = BLINK if threshold is None else threshold
    shortest = 0.0 if min_duration is None else min_duration
    events = []
    for run in seen.runs(GAP):
        part = seen.take(run)
        signal = part.values[:, 0].astype(np.float64)
        peaks, found = find_peaks(signal, prominence=rise)
        bases = (found["prominences"], found["left_bases"], found["right_bases"])
        _, _, left, right = peak_widths(signal, peaks, 0.5, bases)
        onsets, offsets = _times_at(part.times, left), _times_at(part.times, right)
        lows = signal[peaks] - found["prominences"]
        for peak, low, onset, offset in zip(peaks, lows, onsets, offsets):
            if low < OPEN and shortest <= offset - onset <= LONGEST_BLINK:
                apex, height = float(part.times[peak]), float(signal[peak])
                event = Event(face, name, float(onset), apex, float(offset), height, True)
                events.append(event)
    return events


def _times_at(
    times: npt.NDArray[np.float64], rows: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return np.interp(rows, np.arange(len(times)), times)
