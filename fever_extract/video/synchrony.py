"""Synchrony of two courses: windowed cross-correlation, and what chance would give.

Boker, Xu, Rotondo and King, "Windowed cross-correlation and peak picking", Psychological
Methods 7 (2002). The comparison with shifted courses follows Ramseyer and Tschacher,
"Nonverbal synchrony in psychotherapy", JPSP 101 (2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.video.aggregation import Observations

_SHIFTS = 100  # courses that chance is judged by, at most
_RATE = 10.0  # values a second: expressions are slower
_SEEN = 0.8  # share of a window in which both faces are seen
_STILL = 0.02  # a signal that varies less within a window follows nothing


@dataclass(frozen=True, eq=False)
class Synchrony:
    """How two faces' signals go together.

    Attributes:
        first, second: ids of the faces.
        name: of the signal.
        times: ``(n,)`` the middle of each window, in seconds.
        lags: ``(m,)`` in seconds; where it is above 0, the second face follows the first.
        correlations: ``(n, m)`` Pearson's r; NaN where a face is out of sight for more than a
            fifth of the window, or one of them does not move.
        by_chance: ``(k,)`` the mean of courses that don't belong together: one of the two
            shifted against the other by so much that it has nothing to do with it. Empty where
            they are too short for that.
    """

    first: int
    second: int
    name: str
    times: npt.NDArray[np.float64]
    lags: npt.NDArray[np.float64]
    correlations: npt.NDArray[np.float64]
    by_chance: npt.NDArray[np.float64]

    @cached_property
    def peaks(self) -> npt.NDArray[np.float64]:
        """The highest correlation of each window over all lags, ``(n,)``; NaN for none."""
        filled = np.where(np.isnan(self.correlations), -np.inf, self.correlations)
        highest = filled.max(axis=1, initial=-np.inf)
        return np.where(np.isfinite(highest), highest, np.nan)

    @cached_property
    def peak_lags(self) -> npt.NDArray[np.float64]:
        """The lag at which that is, ``(n,)`` in seconds."""
        filled = np.where(np.isnan(self.correlations), -np.inf, self.correlations)
        return np.where(np.isnan(self.peaks), np.nan, self.lags[filled.argmax(axis=1)])

    @property
    def mean(self) -> float:
        """Mean of the peaks (by Fisher's z), -1 to 1; NaN if there is no window.

        It is above 0 for any two courses, since the best lag is taken: compare `by_chance`.
        """
        return _mean_peak(self.correlations)

    @property
    def chance(self) -> float:
        """Mean of `by_chance`; NaN without it."""
        return float(np.mean(self.by_chance)) if len(self.by_chance) else float("nan")

    @property
    def p(self) -> float:
        """Share of shifted courses (and this one) that go together as well; NaN without them."""
        if not len(self.by_chance) or np.isnan(self.mean):
            return float("nan")
        return float((1 + (self.by_chance >= self.mean).sum()) / (1 + len(self.by_chance)))

    def __repr__(self) -> str:
        return (
            f"Synchrony(faces {self.first} and {self.second}, {self.name}: {self.mean:.2f}, by "
            f"chance {self.chance:.2f}, p {self.p:.2f}, {len(self.times)} windows)"
        )


def correlate(
    a: Observations,
    b: Observations,
    faces: tuple[int, int],
    name: str,
    *,
    window: float,
    max_lag: float,
    gap: float,
) -> Synchrony:
    """Correlate two faces' signals in windows that overlap by half.

    Args:
        a, b: of the two faces, with the signal as their only value.
        faces, name: for the result.
        window: in seconds.
        max_lag: in seconds, either way.
        gap: seconds out of sight that are bridged.

    Raises:
        ValueError: if the window or the lag can't be used, or the two are never seen together.
    """
    if not (0 < window < np.inf and 0 <= max_lag < np.inf):
        raise ValueError(f"window must be above 0, max_lag 0 or more; not {window} and {max_lag}")
    start = max(a.times[0], b.times[0])
    end = min(a.times[-1] + a.durations[-1], b.times[-1] + b.durations[-1])
    if end - start < window:
        raise ValueError(
            f"faces {faces[0]} and {faces[1]} are in the clip together for "
            f"{max(end - start, 0):.1f} s; a window is {window:g} s (window=)"
        )
    interval = max(
        1 / _RATE, float(np.median(np.diff(a.times))), float(np.median(np.diff(b.times)))
    )
    size, lag = round(window / interval), round(max_lag / interval)
    if size < 4:
        raise ValueError(f"a window of {window:g} s has {size} frames; give more (window=)")
    grid = start + interval * np.arange(int((end - start) / interval + 1e-6))
    x, y = _evenly(a, grid, gap), _evenly(b, grid, gap)
    middles, correlations = _windows(x, y, size, lag)
    # A shift by less than a window and the lag compares parts with themselves.
    shifts = np.arange(size + lag, len(grid) - size - lag)
    if len(shifts) > _SHIFTS:
        shifts = shifts[np.linspace(0, len(shifts) - 1, _SHIFTS).astype(int)]
    chance = [_mean_peak(_windows(x, np.roll(y, shift), size, lag)[1]) for shift in shifts]
    by_chance = np.array(chance, float)
    return Synchrony(
        *faces,
        name,
        np.asarray(start + interval * (middles + 0.5), np.float64),
        np.asarray(interval * np.arange(-lag, lag + 1), np.float64),
        correlations,
        by_chance[~np.isnan(by_chance)],
    )


def _evenly(
    seen: Observations, grid: npt.NDArray[np.float64], gap: float
) -> npt.NDArray[np.float64]:
    """The signal at even times, NaN where the face is out of sight for longer than ``gap``."""
    values = np.interp(grid, seen.times, seen.values[:, 0])
    visible = np.zeros(len(grid), bool)
    for run in seen.runs(gap):
        part = seen.take(run)
        visible |= (grid >= part.times[0]) & (grid < part.times[-1] + part.durations[-1] + 1e-6)
    return np.where(visible, values, np.nan)


def _windows(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], size: int, lag: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The middle of each window, in values, and its correlation at each lag."""
    starts = np.arange(0, len(x) - size + 1, max(size // 2, 1), dtype=np.int64)
    rows = starts[:, None] + np.arange(size)
    padded = np.concatenate([np.full(lag, np.nan), y, np.full(lag, np.nan)])
    # Half to either side, as Boker et al. do it: lag 0 compares one window with itself.
    columns = [_pearson(x[rows], padded[rows + lag + shift]) for shift in range(-lag, lag + 1)]
    middles: npt.NDArray[np.float64] = starts.astype(np.float64) + (size - 1) / 2
    return middles, np.stack(columns, axis=1)


def _pearson(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The correlation of each row, over the values that both have."""
    both = ~(np.isnan(x) | np.isnan(y))
    count = both.sum(axis=1)

    def centred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = np.where(both, values, 0.0)
        mean = values.sum(axis=1) / np.maximum(count, 1)
        return np.where(both, values - mean[:, None], 0.0)

    x, y = centred(x), centred(y)
    power_x, power_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
    usable = count >= _SEEN * both.shape[1]
    usable &= np.minimum(power_x, power_y) > _STILL**2 * count
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (x * y).sum(axis=1) / np.sqrt(power_x * power_y)
    return np.where(usable, r, np.nan)


def _mean_peak(correlations: npt.NDArray[np.float64]) -> float:
    some = ~np.isnan(correlations).all(axis=1)
    if not some.any():
        return float("nan")
    peaks = np.nanmax(correlations[some], axis=1)
    return float(np.tanh(np.mean(np.arctanh(np.clip(peaks, -0.9999, 0.9999)))))
