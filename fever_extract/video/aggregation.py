"""Frames to steps of time: means and spreads; a frame counts for as long as it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

HOLD = 1.0
"""Seconds after which a frame no longer says how a face is, if no other comes."""

_BLOCK = 4096  # frames that are averaged at a time: copies in double precision are large
_SHORTEST = 1e-6  # seconds; containers count in microseconds


@dataclass(frozen=True, eq=False)
class Observations:
    """What was seen of one face, frame by frame.

    Attributes:
        times: ``(n,)`` float64, in seconds, rising.
        durations: ``(n,)`` float64, for how many seconds each frame is shown.
        values: ``(n, c)`` float32.
    """

    times: npt.NDArray[np.float64]
    durations: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.times)

    def take(self, rows: slice) -> Observations:
        """Some frames in a row."""
        return Observations(self.times[rows], self.durations[rows], self.values[rows])

    def replaced(self, values: npt.NDArray[np.float32]) -> Observations:
        """The same frames with other values."""
        return Observations(self.times, self.durations, values)

    def runs(self, gap: float) -> list[slice]:
        """Stretches in which the face is never out of sight for more than ``gap`` seconds."""
        away = self.times[1:] - (self.times[:-1] + self.durations[:-1])
        breaks = np.flatnonzero(away > gap) + 1
        return [slice(a, b) for a, b in zip([0, *breaks], [*breaks, len(self)]) if b > a]


@dataclass(frozen=True, eq=False)
class Steps:
    """What was seen of one face, step by step; a step in which it was not seen is left out.

    Attributes:
        index: ``(n,)`` int64, rising: step *i* is from *i* times its length on.
        seconds: ``(n,)`` float64, for how long the face was seen in it.
        frames: ``(n,)`` int64, how many frames with the face began in it.
        mean, sd: ``(n, c)`` float32: mean and standard deviation over that time.
    """

    index: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    frames: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float32]
    sd: npt.NDArray[np.float32]

    @classmethod
    def joined(cls, parts: list[Steps], columns: int) -> Steps:
        """Several, one after the other."""
        none = np.zeros((0, columns), np.float32)
        empty = cls(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), none, none)
        names = ("index", "seconds", "frames", "mean", "sd")
        return cls(*(np.concatenate([getattr(p, n) for p in [empty, *parts]]) for n in names))


def steps_of(times: npt.ArrayLike, step: float) -> npt.NDArray[np.int64]:
    """The step in which each time lies; times that are a step's beginning but for rounding, too."""
    return np.floor(np.asarray(times) / step + 1e-9).astype(np.int64)


def aggregate(seen: Observations, step: float) -> Steps:
    """Average what was seen of a face over steps of time.

    A frame that is shown across the border of two steps counts in both, each for its part.

    Args:
        seen: of one face.
        step: its length in seconds.
    """
    blocks = range(0, len(seen), _BLOCK)
    parts = [_block(seen.take(slice(start, start + _BLOCK)), step) for start in blocks]
    return merge(parts, seen.values.shape[1])


def merge(parts: list[Steps], columns: int) -> Steps:
    """Join what stretches of frames of one face came to, each step to one row.

    Args:
        parts: in any order.
        columns: how many values a frame has.
    """
    steps = Steps.joined(parts, columns)
    if (np.diff(steps.index) > 0).all():
        return steps
    order = np.argsort(steps.index, kind="stable")
    index = steps.index[order]
    starts, group = _groups(index)
    weights = steps.seconds[order, None]
    means = steps.mean[order].astype(np.float64)
    seconds = np.add.reduceat(weights, starts)
    mean = np.add.reduceat(means * weights, starts) / seconds
    squares = steps.sd[order].astype(np.float64) ** 2 + (means - mean[group]) ** 2
    variance = np.add.reduceat(squares * weights, starts) / seconds
    return Steps(
        index[starts],
        seconds[:, 0],
        np.add.reduceat(steps.frames[order], starts),
        mean.astype(np.float32),
        np.sqrt(variance).astype(np.float32),
    )


def _block(seen: Observations, step: float) -> Steps:
    first = steps_of(seen.times, step)
    ends = seen.times + np.maximum(seen.durations, _SHORTEST)
    last = np.maximum(np.ceil(ends / step - 1e-9).astype(np.int64) - 1, first)
    pieces = last - first + 1
    frame = np.repeat(np.arange(len(seen)), pieces)
    nth = np.arange(len(frame)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    index = first[frame] + nth
    weights = np.minimum(ends[frame], (index + 1) * step) - np.maximum(
        seen.times[frame], index * step
    )
    weights = np.maximum(weights, _SHORTEST)
    order = np.argsort(index, kind="stable")
    frame, index, weights, nth = frame[order], index[order], weights[order], nth[order]
    starts, group = _groups(index)
    seconds = np.add.reduceat(weights, starts)
    values = seen.values[frame].astype(np.float64)
    mean = np.add.reduceat(values * weights[:, None], starts) / seconds[:, None]
    values -= mean[group]
    variance = np.add.reduceat(values**2 * weights[:, None], starts) / seconds[:, None]
    return Steps(
        index[starts],
        seconds,
        np.add.reduceat((nth == 0).astype(np.int64), starts),
        mean.astype(np.float32),
        np.sqrt(variance).astype(np.float32),
    )


def _groups(
    index: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each run of equal numbers begins, and to which run each number belongs."""
    starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
    return starts, np.repeat(np.arange(len(starts)), np.diff([*starts, len(index)]))
