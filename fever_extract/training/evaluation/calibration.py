"""Expected calibration error of the head's probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.evaluation import SEED, bootstrap

if TYPE_CHECKING:
    import numpy.typing as npt

BINS = 15
_DRAWS = 500


def calibration_error(
    probabilities: npt.NDArray[np.floating],
    truth: npt.NDArray[np.int64],
    *,
    classes_alike: bool = False,
) -> dict[str, object]:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599).

    Images are binned by the probability of the class that is named, in 15 bins of equal width;
    the error is the mean gap between probability and share of right answers, weighted by
    the bins' images.

    Args:
        probabilities: ``(n, classes)``.
        truth: ``(n,)`` class indices.
        classes_alike: weight faces so that each class counts for as much: for probabilities that
            presume a uniform prior.

    Returns:
        ``error``, 0 to 1, its ``interval``, the mean ``confidence``, and ``perfect``, the
        ``error`` and ``interval`` that a perfectly calibrated head would be measured to have on
        these faces, by chance alone. A resample's error is a little larger than the whole's, since
        noise in a bin never cancels: so is the interval.
    """
    weights = _weights(truth) if classes_alike else np.ones(len(truth))
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    in_bin = (bins[:, None] == np.arange(BINS)).astype(np.float32)
    gaps = weights * (confidence - right)
    resampled = bootstrap.multiplicities(len(truth)) @ (in_bin * gaps[:, None].astype(np.float32))
    # The same faces, right as often as it says: what is left is chance.
    drawn = np.random.default_rng(SEED).random((_DRAWS, len(truth))) < confidence
    chance = np.abs((weights * (confidence - drawn)) @ in_bin).sum(axis=1) / len(truth)
    return {
        "error": float(np.abs(gaps @ in_bin).sum() / len(truth)),
        "interval": bootstrap.percentiles(np.abs(resampled).sum(axis=1) / len(truth)),
        "confidence": float(np.average(confidence, weights=weights)),
        "perfect": {"error": float(chance.mean()), "interval": bootstrap.percentiles(chance)},
    }


def _weights(truth: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """A weight a face, by which each class counts for as much; their mean is one."""
    counts = np.bincount(truth)
    return np.asarray(len(truth) / np.count_nonzero(counts) / counts[truth])
