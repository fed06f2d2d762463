"""Filters of a course that leave its times as they are: Savitzky-Golay and One-Euro.

Each takes a stretch without gaps: ``times`` ``(n,)`` in seconds, rising, and ``values``
``(n, c)``, and returns values of that shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._utils.extras import require

if TYPE_CHECKING:
    import numpy.typing as npt

_EVEN = 0.1  # of the usual interval, by which one may differ: a filter needs even intervals


def savgol(
    times: npt.NDArray[np.float64],
    values: npt.NDArray[np.float32],
    *,
    window: float = 0.5,
    order: int = 2,
) -> npt.NDArray[np.float32]:
    """Fit a polynomial to each window (Savitzky and Golay 1964), without a lag; by scipy.

    At a variable frame rate the values are interpolated to even intervals, and back. A stretch
    too short for the polynomial stays as it is.

    Args:
        times, values: see above.
        window: in seconds; in a shorter stretch, its length.
        order: of the polynomial; 0 is a moving mean.

    Raises:
        ImportError: if scipy is missing.
        ValueError: if the window or the order can't be used.
    """
    require("scipy", extra="course", needed_by="Savitzky-Golay smoothing")
    from scipy.signal import savgol_filter

    if not (0 < window < math.inf and order >= 0):
        raise ValueError(f"window must be above 0 and order 0 or more, not {window} and {order}")
    if len(times) < 3:
        return values
    intervals = np.diff(times)
    usual = float(np.median(intervals))
    even = bool((np.abs(intervals - usual) <= _EVEN * usual).all())
    grid = times if even else np.arange(times[0], times[-1] + usual / 2, usual)
    size = min(round(window / usual), len(grid))
    size -= 1 - size % 2  # odd, so that it has a middle
    if size <= order:
        return values
    if not even:
        values = _interpolated(grid, times, values)
    smooth = savgol_filter(values, size, order, axis=0, mode="interp")
    # A polynomial overshoots; a probability does not.
    smooth = np.clip(smooth, values.min(axis=0), values.max(axis=0)).astype(np.float32)
    return smooth if even else _interpolated(times, grid, smooth)


def one_euro(
    times: npt.NDArray[np.float64],
    values: npt.NDArray[np.float32],
    *,
    min_cutoff: float = 1.0,
    beta: float = 1.0,
) -> npt.NDArray[np.float32]:
    """Low-pass each value less the faster it changes (Casiez, Roussel and Vogel, CHI 2012).

    It looks back only, as a camera needs it, and so lags.

    Args:
        times, values: see above.
        min_cutoff: cutoff frequency in Hz where nothing changes; lower is smoother.
        beta: by how many Hz the cutoff grows with each unit per second of change; higher lags
            less.

    Raises:
        ValueError: if they can't be used.
    """
    if not (0 < min_cutoff < math.inf and 0 <= beta < math.inf):
        raise ValueError(
            f"min_cutoff must be above 0 and beta 0 or more, not {min_cutoff} and {beta}"
        )
    smooth = values.astype(np.float64)
    speed = np.zeros(smooth.shape[1:])
    for row in range(1, len(times)):
        interval = max(float(times[row] - times[row - 1]), 1e-6)
        change = (values[row] - smooth[row - 1]) / interval
        speed += _weight(np.array(1.0), interval) * (change - speed)
        weight = _weight(min_cutoff + beta * np.abs(speed), interval)
        smooth[row] = smooth[row - 1] + weight * (values[row] - smooth[row - 1])
    return smooth.astype(np.float32)


Filter = Callable[..., "npt.NDArray[np.float32]"]
FILTERS: dict[str, Filter] = {"savgol": savgol, "one_euro": one_euro}


def _weight(cutoff: npt.NDArray[np.float64], interval: float) -> npt.NDArray[np.float64]:
    """Of a new value, in an exponential filter with this cutoff in Hz."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * interval))


def _interpolated(
    at: npt.NDArray[np.float64], times: npt.NDArray[np.float64], values: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    return np.stack([np.interp(at, times, v) for v in values.T], axis=1).astype(np.float32)
