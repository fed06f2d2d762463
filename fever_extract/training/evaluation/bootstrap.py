"""Bootstrap confidence intervals (Efron 1979).

A resample is a row of multiplicities (how often each image was drawn), so that a statistic of
all resamples is one product of matrices.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.evaluation import SEED

if TYPE_CHECKING:
    import numpy.typing as npt

RESAMPLES = 1000
LEVEL = 0.95


@lru_cache(maxsize=4)
def multiplicities(count: int, resamples: int = RESAMPLES) -> npt.NDArray[np.float32]:
    """How often each of ``count`` images is in each resample.

    The same for all that is measured on the same images: differences are between equals.

    Returns:
        ``(resamples, count)`` float32; each row sums to ``count``. Not to be changed.
    """
    random = np.random.default_rng(SEED)
    drawn = np.zeros((resamples, count), np.float32)
    for row in drawn:
        row[:] = np.bincount(random.integers(count, size=count), minlength=count)
    drawn.flags.writeable = False
    return drawn


def percentiles(statistics: npt.NDArray[np.floating]) -> list[float]:
    """Lower and upper end of the interval that holds 95 % of the statistics ``(resamples,)``."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(statistics, [tail, 100 - tail])
    return [float(low), float(high)]


def mean_interval(values: npt.NDArray[np.generic]) -> list[float]:
    """Interval of the mean of one value an image, ``(n,)``."""
    return percentiles(multiplicities(len(values)) @ values.astype(np.float32) / len(values))


def class_means_interval(
    right: npt.NDArray[np.bool_], truth: npt.NDArray[np.int64], classes: int
) -> list[float]:
    """Interval of the mean over classes of the share that is right.

    A resample may lack a rare class; the mean is then over those it has.

    Args:
        right, truth: ``(n,)``, whether an image was told right, and its class.
        classes: how many there are.
    """
    drawn = multiplicities(len(truth))
    member = (truth[:, None] == np.arange(classes)).astype(np.float32)
    faces = drawn @ member
    shares = np.where(faces > 0, drawn @ (member * right[:, None]) / np.maximum(faces, 1), np.nan)
    return percentiles(np.nanmean(shares, axis=1))
