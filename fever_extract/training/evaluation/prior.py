"""Class prior of an expression head, and its probabilities without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.models.config import EXPRESSIONS
from fever_extract.training.data.faces import FERPLUS

if TYPE_CHECKING:
    import numpy.typing as npt


RAREST = 1e-3
"""Share below which a class was hardly seen, and its probability says nothing to be divided."""


def ferplus_prior(data: Path) -> npt.NDArray[np.float64] | None:
    """Read how often each expression was voted for in FER+ train, single votes dropped.

    Args:
        data: folder of ``ferplus.parquet``.

    Returns:
        ``(8,)``, summing to one; None where the table is not among the data.
    """
    import pyarrow.parquet as pq

    if not (data / FERPLUS).is_file():
        return None
    names = [f"votes_{name}" for name in EXPRESSIONS]
    table = pq.read_table(data / FERPLUS, columns=["split", *names])
    votes = np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float64)
    votes = votes[np.array(table["split"].to_pylist()) == "train"]
    votes[votes <= 1] = 0
    voted = votes[votes.sum(axis=1) > 0]
    return np.asarray((voted / voted.sum(axis=1, keepdims=True)).mean(axis=0))


def without_prior(
    probabilities: npt.NDArray[np.floating], prior: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Take the training set's class shares out of probabilities: divide by them, renormalise.

    What is left is what a head trained on equally many faces of each class would say, if its
    probabilities were right (Saerens et al. 2002).

    Args:
        probabilities: ``(n, classes)``.
        prior: ``(classes,)``; what is less than `RAREST` counts as that.
    """
    shares = probabilities / np.maximum(np.asarray(prior, np.float64), RAREST)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
