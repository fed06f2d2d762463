"""Few-shot accuracy of the nearest class mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.evaluation import SEED
from fever_extract.training.evaluation.bootstrap import percentiles
from fever_extract.training.evaluation.retrieval import normalised

if TYPE_CHECKING:
    import numpy.typing as npt

SHOTS = (1, 5, 20)
DRAWS = 200


def draw_support(
    labels: npt.NDArray[np.int64], shots: int, draws: int = DRAWS
) -> dict[int, npt.NDArray[np.int64]]:
    """Which images are given as examples, for each draw.

    Args:
        labels: ``(n,)`` class indices.
        shots: examples a class.
        draws: how many times.

    Returns:
        For each class with that many images, ``(draws, shots)`` indices; none twice in a draw.
    """
    random = np.random.default_rng(SEED + shots)
    support = {}
    for label, count in zip(*np.unique(labels, return_counts=True)):
        if count >= shots:
            members = np.flatnonzero(labels == label)
            order = random.random((draws, count)).argsort(axis=1)
            support[int(label)] = members[order[:, :shots]]
    return support


def classes_of(
    labels: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], shots: int
) -> npt.NDArray[np.int64]:
    """Classes with that many examples and at least one query, in order."""
    present, counts = np.unique(labels, return_counts=True)
    return np.intersect1d(present[counts >= shots], truth)


def few_shot(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int64],
    queries: npt.NDArray[np.floating],
    truth: npt.NDArray[np.int64],
    *,
    shots: int,
    draws: int = DRAWS,
) -> dict[str, object]:
    """Name each query by the class mean that is nearest by cosine (a nearest-centroid classifier).

    Embeddings have length one before they are averaged. Queries of a class that has too few
    examples, or none, are left out.

    Args:
        embeddings, labels: ``(n, d)`` and ``(n,)``, from which examples are drawn.
        queries, truth: ``(m, d)`` and ``(m,)``, all of which are named in each draw.
        shots: examples a class.
        draws: how many times.

    Returns:
        ``mean_class_accuracy``, 0 to 1, over the draws; the ``interval`` that holds 95 % of
        the draws, of which a user has one; ``classes`` and what ``chance`` would give.
    """
    support = draw_support(labels, shots, draws)
    classes = classes_of(labels, truth, shots)
    asked = np.isin(truth, classes)
    unit, questions = normalised(embeddings), normalised(queries[asked])
    member = (truth[asked][:, None] == classes).astype(np.float32)
    accuracies = []
    for draw in range(draws):
        examples = np.stack([support[label][draw] for label in classes.tolist()])
        means = normalised(unit[examples].mean(axis=1))
        right = classes[(questions @ means.T).argmax(axis=1)] == truth[asked]
        accuracies.append((right @ member / member.sum(axis=0)).mean())
    return {
        "mean_class_accuracy": float(np.mean(accuracies)),
        "interval": percentiles(np.array(accuracies)),
        "classes": len(classes),
        "chance": 1 / len(classes),
    }
