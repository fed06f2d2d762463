"""Linear probes and nearest neighbours of embeddings on one labelled set.

All take embeddings ``(n, d)`` as they are and say nothing of where they came from.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.evaluation import SEED
from fever_extract.training.evaluation.retrieval import normalised

if TYPE_CHECKING:
    import numpy.typing as npt

    Embeddings = npt.NDArray[np.floating]
    Labels = npt.NDArray[np.int64]
    Fold = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

FOLDS = 5
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Values of C that a linear probe chooses from; the smaller, the more it is held back."""
RIDGES = (1e-2, 1e-1, 1.0, 10.0)
"""Penalties of ridge regression on standardised embeddings, for each face that it learns from."""
FARTHEST = 10.0
"""Standard deviations to which standardised numbers are clipped."""
NEIGHBOURS = 5
QUERIES = 250
"""Faces of a class that are looked up; they find all others."""
METRICS = ("cosine", "euclidean")

_INNER = 3
_TOLERANCE = 1e-3
_ITERATIONS = 300
_PICTURES = 10
_AT_ONCE = 256


def folds_by_people(labels: Labels, people: Labels, count: int = FOLDS) -> list[Fold]:
    """Split faces into folds, people apart and classes as even as that allows.

    Args:
        labels, people: ``(n,)``.
        count: how many folds; fewer where there are not so many people.

    Returns:
        Pairs of indices, to learn from and to measure on; each face is measured once.

    Raises:
        ValueError: if all faces are of one person.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

    persons = len(np.unique(people))
    if persons < 2:
        raise ValueError("probes need faces of at least three people, to keep people apart")
    count = min(count, persons)
    _, sizes = np.unique(labels, return_counts=True)
    if sizes.max() < count:  # nothing to be even about
        return list(GroupKFold(count).split(labels, labels, people))
    with warnings.catch_warnings():
        # Of classes with fewer faces than folds.
        warnings.simplefilter("ignore", UserWarning)
        if persons == len(people):
            folds = StratifiedKFold(count, shuffle=True, random_state=SEED).split(labels, labels)
        else:
            maker = StratifiedGroupKFold(count, shuffle=True, random_state=SEED)
            folds = maker.split(labels, labels, people)
        return list(folds)


def linear_probe(
    embeddings: Embeddings, labels: Labels, people: Labels, folds: Sequence[Fold]
) -> Labels:
    """Name faces by logistic regression on standardised embeddings.

    In each fold C is chosen from `STRENGTHS` by an inner cross-validation, people apart too.

    Args:
        embeddings, labels, people: ``(n, d)``, ``(n,)``, ``(n,)``.
        folds: as of `folds_by_people`.

    Returns:
        Classes ``(n,)``; -1 for faces that no fold measures.
    """
    predicted = np.full(len(labels), -1, np.int64)
    for learn, measured in folds:
        inner = folds_by_people(labels[learn], people[learn], _INNER)
        right = np.zeros(len(STRENGTHS))
        for inner_learn, inner_measured in inner:
            named = _fit_path(
                embeddings[learn][inner_learn],
                labels[learn][inner_learn],
                embeddings[learn][inner_measured],
            )
            right += [(each == labels[learn][inner_measured]).sum() for each in named]
        best = int(right.argmax())
        path = _fit_path(
            embeddings[learn], labels[learn], embeddings[measured], STRENGTHS[: best + 1]
        )
        predicted[measured] = path[-1]
    return predicted


def _fit_path(
    embeddings: Embeddings,
    labels: Labels,
    queries: Embeddings,
    strengths: Sequence[float] = STRENGTHS,
) -> list[Labels]:
    """What is named at each strength; each starts where the one before ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) == 1:
        return [np.full(len(queries), labels[0]) for _ in strengths]
    known, asked = standardised(embeddings, queries)
    if known.shape[1] > len(known):
        # Beyond the span of the examples every weight is zero: the same probe in fewer numbers.
        rotation = np.linalg.qr(known.T)[0]
        known, asked = known @ rotation, asked @ rotation
    probe = LogisticRegression(max_iter=_ITERATIONS, tol=_TOLERANCE, warm_start=True)
    named = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in strengths:
            probe.set_params(C=strength).fit(known, labels)
            named.append(probe.predict(asked).astype(np.int64))
    return named


def standardised(
    embeddings: Embeddings, queries: Embeddings
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Bring both to mean 0 and variance 1 of the first, at most `FARTHEST` from 0.

    A rectified feature may be all but constant in the first and far off in the second, and would
    then outweigh all others. What is constant becomes 0.
    """
    mean, spread = embeddings.mean(axis=0), embeddings.std(axis=0)
    scale = np.where(spread > 1e-7 * (1 + np.abs(mean)), 1 / np.maximum(spread, 1e-30), 0)
    known, asked = (
        ((each - mean) * scale).clip(-FARTHEST, FARTHEST).astype(np.float32)
        for each in (embeddings, queries)
    )
    return known, asked


def similarities(
    queries: Embeddings, embeddings: Embeddings, metric: str
) -> npt.NDArray[np.float32]:
    """How near each of n embeddings is to each of m queries, ``(m, n)``; more is nearer.

    Args:
        queries, embeddings: ``(m, d)`` and ``(n, d)``.
        metric: one of `METRICS`.
    """
    if metric == "cosine":
        return np.asarray(normalised(queries) @ normalised(embeddings).T)
    # Without the query's own length, which changes no order; centred, for float32's sake.
    centre = embeddings.mean(axis=0)
    near, far = (np.asarray(each - centre, np.float32) for each in (queries, embeddings))
    return np.asarray(2 * near @ far.T - (far**2).sum(axis=1))


def neighbours(
    embeddings: Embeddings, labels: Labels, folds: Sequence[Fold], metric: str
) -> Labels:
    """Name faces by the majority of their nearest neighbours; the nearer decide a tie.

    Args and returns as `linear_probe`.
    """
    predicted = np.full(len(labels), -1, np.int64)
    count = int(labels.max()) + 1
    for learn, measured in folds:
        k = min(NEIGHBOURS, len(learn))
        near = similarities(embeddings[measured], embeddings[learn], metric)
        top = np.argpartition(-near, k - 1, axis=1)[:, :k]
        top = np.take_along_axis(top, np.take_along_axis(-near, top, 1).argsort(axis=1), 1)
        votes = np.zeros((len(measured), count))
        for rank in range(k):
            votes[np.arange(len(measured)), labels[learn][top[:, rank]]] += 1 + 1e-3 * (k - rank)
        predicted[measured] = votes.argmax(axis=1)
    return predicted


def average_precision(
    embeddings: Embeddings, labels: Labels, people: Labels, metric: str
) -> dict[str, float]:
    """Look faces up among those of all other people: mean average precision, mean over classes.

    Args:
        embeddings, labels, people: ``(n, d)``, ``(n,)``, ``(n,)``.
        metric: one of `METRICS`.

    Returns:
        ``value``, and ``chance``: what random embeddings reach. At most `QUERIES` of a class ask.
    """
    random = np.random.default_rng(SEED)
    means, shares = [], []
    for label in np.unique(labels):
        asking = random.permutation(np.flatnonzero(labels == label))[:QUERIES]
        others = people[asking][:, None] != people
        near = np.where(others, similarities(embeddings[asking], embeddings, metric), -np.inf)
        order = (-near).argsort(axis=1, kind="stable")
        hit = np.take_along_axis((labels == label) & others, order, axis=1)
        precision = hit.cumsum(axis=1) / np.arange(1, hit.shape[1] + 1)
        hits = hit.sum(axis=1)
        asked = hits > 0
        if asked.any():
            means.append(((precision * hit).sum(axis=1)[asked] / hits[asked]).mean())
            shares.append((hits / np.maximum(others.sum(axis=1), 1)).mean())
    return {"value": float(np.mean(means)), "chance": float(np.mean(shares))}


def ridge(
    embeddings: Embeddings, targets: Embeddings, people: Labels, folds: Sequence[Fold]
) -> npt.NDArray[np.float64]:
    """Predict numbers by ridge regression on standardised embeddings.

    Each target's penalty is chosen from `RIDGES` on a quarter of the people learned from.

    Args:
        embeddings, targets, people: ``(n, d)``, ``(n, t)``, ``(n,)``.
        folds: as of `folds_by_people`.

    Returns:
        R² of each target, ``(t,)``, on the faces that the folds measure; at most 1, and below 0
        where the mean would be better. NaN for a constant target.
    """
    predicted = np.full(targets.shape, np.nan)
    for learn, measured in folds:
        inner = folds_by_people(np.zeros(len(learn), np.int64), people[learn], 4)[0]
        x, y = embeddings[learn], targets[learn]
        errors = [
            ((named - y[inner[1]]) ** 2).sum(axis=0)
            for named in _solve(x[inner[0]], y[inner[0]], x[inner[1]])
        ]
        best = np.argmin(errors, axis=0)
        answers = np.stack(_solve(x, y, embeddings[measured]))
        predicted[measured] = np.take_along_axis(answers, best[None, None], axis=0)[0]
    kept = np.isfinite(predicted).all(axis=1)
    truth = targets[kept].astype(np.float64)
    spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    missed = ((truth - predicted[kept]) ** 2).sum(axis=0)
    return np.asarray(np.where(spread > 1e-9, 1 - missed / np.maximum(spread, 1e-9), np.nan))


def _solve(
    embeddings: Embeddings, targets: Embeddings, queries: Embeddings
) -> list[npt.NDArray[np.float64]]:
    """Predictions for the queries at each of `RIDGES`, in closed form."""
    known, asked = standardised(embeddings, queries)
    mean = targets.mean(axis=0)
    centred = (targets - mean).astype(np.float32)
    # The smaller of the two systems, over numbers or over faces, has the same solution.
    wide = known.shape[1] > len(known)
    gram = (known @ known.T if wide else known.T @ known).astype(np.float64) / len(known)
    right = centred if wide else known.T @ centred
    reach = asked @ known.T if wide else asked
    answers = []
    for penalty in RIDGES:
        system = gram + penalty * np.eye(len(gram))
        answers.append(reach @ np.linalg.solve(system, right / len(known)) + mean)
    return answers


def identity(embeddings: Embeddings, people: Labels) -> dict[str, float] | None:
    """Tell how often the nearest other face, by cosine, is the same person's.

    Args:
        embeddings, people: ``(n, d)`` and ``(n,)``.

    Returns:
        ``accuracy``, ``chance`` and ``people``, of those with several pictures (of each the first
        ten); None where there are no two of them.
    """
    order = np.argsort(people, kind="stable")
    _, starts, counts = np.unique(people[order], return_index=True, return_counts=True)
    chosen = np.concatenate(
        [order[s : s + min(c, _PICTURES)] for s, c in zip(starts, counts) if c > 1] or [order[:0]]
    )
    who = people[chosen]
    if len(np.unique(who)) < 2:
        return None
    nearest = []
    for part in np.array_split(np.arange(len(chosen)), -(-len(chosen) // _AT_ONCE)):
        near = similarities(embeddings[chosen[part]], embeddings[chosen], "cosine")
        near[np.arange(len(part)), part] = -np.inf
        nearest.append(near.argmax(axis=1))
    same = who[np.concatenate(nearest)] == who
    pictures = np.unique(who, return_inverse=True, return_counts=True)
    return {
        "accuracy": float(same.mean()),
        "chance": float((pictures[2][pictures[1]] - 1).mean() / (len(who) - 1)),
        "people": len(pictures[0]),
    }
