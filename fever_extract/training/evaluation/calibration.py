"""Expected calibration error of the head's probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.evaluation import bootstrap

if TYPE_CHECKING:
    import numpy.typing as npt

BINS = 15


def calibration_error(
    probabilities: npt.NDArray[np.floating], truth: npt.NDArray[np.int64]
) -> dict[str, object]:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599).

    Images are binned by the probability of the class that is named, in 15 bins of equal width;
    the error is the mean gap between probability and share of right answers, weighted by
    the bins' images.

    Args:
        probabilities: ``(n, classes)``.
        truth: ``(n,)`` class indices.

    Returns:
        ``error``, 0 to 1, its ``interval``, and the mean ``confidence``. A resample's error
        is a little larger than the whole's, since noise in a bin never cancels: so is the interval.
    """
    confidence = probabilities.max(axis=1)
    gaps = confidence - (probabilities.argmax(axis=1) == truth)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps_by_bin = np.zeros((len(truth), BINS), np.float32)
    gaps_by_bin[np.arange(len(truth)), bins] = gaps
    resampled = bootstrap.multiplicities(len(truth)) @ gaps_by_bin
    return {
        "error": float(np.abs(gaps_by_bin.sum(axis=0)).sum() / len(truth)),
        "interval": bootstrap.percentiles(np.abs(resampled).sum(axis=1) / len(truth)),
        "confidence": float(confidence.mean()),
    }
