"""Retrieval: agreement of embedding distances with votes, and identity leakage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.evaluation import SEED, bootstrap

if TYPE_CHECKING:
    import numpy.typing as npt

TRIPLETS = 20_000
# Of ten voters: two may differ by chance (the share of a vote has a standard error of up to
# 0.16), five are a majority that would have to change its mind.
SAME, DIFFERENT = 0.2, 0.5
PEOPLE = re.compile(r"(.+)_\d+\.\w+")
PICTURES = 10

_PAIRS = ((1, 2), (0, 2), (0, 1))  # pair i leaves image i of the triplet out
_DRAWN_AT_ONCE = 16_384
_DRAWN_AT_MOST = 20_000_000


def normalised(embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Rows brought to length one, so that their product is the cosine; zeros stay zeros."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = (embeddings / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


def draw_triplets(
    votes: npt.NDArray[np.floating], count: int = TRIPLETS
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Triplets of images whose votes say beyond doubt which two are the closest pair.

    Three different images at random are kept if one pair's votes lie at most 0.2 apart and
    both other pairs' at least 0.5, in total variation: the share of the voters who would have to
    vote otherwise.

    Args:
        votes: ``(n, classes)``, a distribution a row.
        count: how many triplets.

    Returns:
        Images' indices ``(m, 3)``, and ``(m,)`` which of the three is *not* in the closest
        pair. ``m`` is ``count``, or fewer (even none) where the images hardly have such triplets.
    """
    random, found, drawn, enough = np.random.default_rng(SEED), [], 0, 0
    while enough < count and drawn < _DRAWN_AT_MOST and len(votes) >= 3:
        triplets = random.integers(len(votes), size=(_DRAWN_AT_ONCE, 3))
        apart = np.stack(
            [np.abs(votes[triplets[:, a]] - votes[triplets[:, b]]).sum(1) / 2 for a, b in _PAIRS],
            axis=1,
        )
        apart_in_order = np.sort(apart, axis=1)
        # Votes are tenths, say: a hair's breadth keeps rounding out of the comparison.
        clear = (apart_in_order[:, 0] < SAME + 1e-6) & (apart_in_order[:, 1] > DIFFERENT - 1e-6)
        clear &= (np.diff(np.sort(triplets, axis=1), axis=1) > 0).all(axis=1)
        found.append((triplets[clear], apart[clear].argmin(axis=1)))
        drawn, enough = drawn + len(triplets), enough + int(clear.sum())
        if drawn >= 10 * _DRAWN_AT_ONCE and not enough:
            break
    if not enough:
        return np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
    triplets, odd = (np.concatenate(parts)[:count] for parts in zip(*found))
    return triplets, odd


def triplet_accuracy(
    embeddings: npt.NDArray[np.floating],
    triplets: npt.NDArray[np.int64],
    odd: npt.NDArray[np.int64],
) -> dict[str, object]:
    """How often the closest pair by the embeddings' cosine is the closest by votes.

    Chance is a third. Equal cosines count as wrong. The interval resamples images, not
    triplets, which share images: a triplet is in a resample as often as its images allow.

    Args:
        embeddings: ``(n, d)``.
        triplets, odd: of `draw_triplets`.
    """
    unit = normalised(embeddings)
    cosines = np.stack(
        [np.einsum("nd,nd->n", unit[triplets[:, a]], unit[triplets[:, b]]) for a, b in _PAIRS],
        axis=1,
    )
    best = np.take_along_axis(cosines, odd[:, None], axis=1)
    right = (cosines >= best).sum(axis=1) == 1
    shares = []
    for drawn in np.array_split(bootstrap.multiplicities(len(embeddings)), 50):
        first, second, third = (drawn[:, images] for images in triplets.T)
        weights = first * second * third
        shares.append(weights @ right / np.maximum(weights.sum(axis=1), 1))
    return {
        "accuracy": float(right.mean()),
        "interval": bootstrap.percentiles(np.concatenate(shares)),
    }


def draw_people(
    names: npt.NDArray[np.str_], pictures: int = PICTURES
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Some pictures of everybody who has that many, by file names like ``Some_Name_0001.jpg``.

    Returns:
        Indices of pictures ``(p * pictures,)``, person by person, and who is in each.
    """
    by_person: dict[str, list[int]] = {}
    for index, name in enumerate(names.tolist()):
        match = PEOPLE.fullmatch(name)
        if match:
            by_person.setdefault(match[1], []).append(index)
    random = np.random.default_rng(SEED)
    chosen = [
        np.sort(random.choice(indices, pictures, replace=False))
        for _, indices in sorted(by_person.items())
        if len(indices) >= pictures
    ]
    who = np.repeat(np.arange(len(chosen)), pictures)
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64), who


def identity_leak(
    embeddings: npt.NDArray[np.floating], who: npt.NDArray[np.int64]
) -> dict[str, object]:
    """How often the nearest other picture, by cosine, is of the same person.

    Args:
        embeddings: ``(n, d)``.
        who: ``(n,)``, of `draw_people`: equally many pictures of each person.

    Returns:
        ``accuracy``, 0 to 1; its ``interval`` over people, whose pictures are not independent;
        and what ``chance`` would give.
    """
    unit = normalised(embeddings)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    right = who[cosines.argmax(axis=1)] == who
    people = int(who.max()) + 1
    by_person = np.bincount(who, right) / np.bincount(who)
    return {
        "accuracy": float(right.mean()),
        "interval": bootstrap.mean_interval(by_person),
        "people": people,
        "chance": (len(who) / people - 1) / (len(who) - 1),
    }
