"""Valence and arousal: how near a head's values come to people's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

NAMES = ("valence", "arousal")


def affect_measures(
    said: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]
) -> dict[str, dict[str, float]]:
    """Compare valence and arousal with labels.

    Args:
        said: ``(n, 2)``, -1 to 1.
        truth: ``(n, 2)``; NaN where there is no label.

    Returns:
        For each of `NAMES` that has two labels that differ: ``ccc``, the concordance correlation
        coefficient (Lin 1989), which counts an offset and another spread as errors;
        ``correlation``, Pearson's, which does not; ``rmse``, the root mean square error; and
        ``faces``.
    """
    measures = {}
    for name, values, labels in zip(NAMES, said.T, truth.T):
        known = np.isfinite(labels)
        x, y = values[known].astype(np.float64), labels[known].astype(np.float64)
        if len(y) < 2 or not y.std():
            continue
        covariance = ((x - x.mean()) * (y - y.mean())).mean()
        apart = (x.mean() - y.mean()) ** 2
        spread = x.std() * y.std()
        measures[name] = {
            "ccc": float(2 * covariance / (x.var() + y.var() + apart)),
            "correlation": float(covariance / spread) if spread else 0.0,
            "rmse": float(np.sqrt(((x - y) ** 2).mean())),
            "faces": int(known.sum()),
        }
    return measures
