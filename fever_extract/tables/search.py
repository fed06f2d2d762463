"""Exact nearest-neighbour search in a table: every embedding, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fever_extract.tables.embeddings import Embeddings

if TYPE_CHECKING:
    import numpy.typing as npt

T = TypeVar("T", np.float32, np.float64)

METRICS = ("cosine", "euclidean")

_PRODUCTS = 4_000_000  # numbers of a block of products
_SPARE = 8  # candidates beyond those asked for, which rounding may have put behind them
_SAME = 1e-5  # cosine distance under which two embeddings are of the same picture


@dataclass(frozen=True)
class Neighbors:
    """Rows of a table, nearest first.

    Attributes:
        rows: ``(n,)`` int64 for one query, ``(m, n)`` for several, where -1 fills up rows.
        distances: of that shape, float32: the cosine distance, 0 to 2, or the Euclidean; NaN if
            there is none.
    """

    rows: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float32]


def nearest(
    embeddings: Embeddings, queries: npt.ArrayLike, n: int, metric: str, leave_out_same: bool
) -> Neighbors:
    """See `fever_extract.tables.reading.Table.nearest`."""
    asked = check_queries(queries, embeddings.width, n, metric)
    several = asked if asked.ndim == 2 else asked[None]
    units = scaled(several) if metric == "cosine" else several
    best = _Best(len(units), n + _SPARE, embeddings.width)
    step = max(1, _PRODUCTS // max(len(units), 1))
    start = 0
    for block in embeddings.blocks():
        for first in range(0, len(block), step):
            part = block[first : first + step]
            best.add(_scores(units, part, metric, leave_out_same), part, start + first)
        start += len(block)
    rows, distances = best.settle(several, n, metric)
    if asked.ndim == 2:
        return Neighbors(rows, distances)
    there = rows[0] >= 0
    return Neighbors(rows[0][there], distances[0][there])


def check_queries(
    queries: npt.ArrayLike, width: int, n: int, metric: str
) -> npt.NDArray[np.float32]:
    """Queries as float32, ``(d,)`` or ``(m, d)``.

    Raises:
        ValueError: if they are not, or ``n`` or ``metric`` is not possible.
    """
    asked = np.asarray(queries, np.float32)
    if asked.ndim not in (1, 2) or asked.shape[-1] != width:
        raise ValueError(f"the table's embeddings have {width} numbers; got shape {asked.shape}")
    if not np.isfinite(asked).all():
        raise ValueError("a query is NaN: its picture had no face")
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")
    return asked


def _scores(
    units: npt.NDArray[np.float32], part: npt.NDArray[np.float32], metric: str, leave_out_same: bool
) -> npt.NDArray[np.float32]:
    """Score how near each embedding is to each query, higher is nearer; NaN rows score lowest."""
    squares = np.einsum("ij,ij->i", part, part)
    products = units @ part.T
    if metric == "cosine":
        scores = products / np.sqrt(np.maximum(squares, 1e-30))
        same = scores >= 1 - _SAME
    else:
        lengths = (units**2).sum(axis=1, keepdims=True)
        scores = 2 * products - squares - lengths
        same = -scores <= 2 * _SAME * lengths
    scores[:, ~np.isfinite(squares)] = -np.inf
    if leave_out_same:
        scores[same] = -np.inf
    return np.asarray(scores, np.float32)


class _Best:
    """The nearest embeddings to each query so far, a few more than asked for."""

    def __init__(self, queries: int, kept: int, width: int) -> None:
        self._scores = np.full((queries, kept), -np.inf, np.float32)
        self._rows = np.full((queries, kept), -1, np.int64)
        self._embeddings = np.zeros((queries, kept, width), np.float32)

    def add(
        self, scores: npt.NDArray[np.float32], part: npt.NDArray[np.float32], start: int
    ) -> None:
        """Look through a block of embeddings.

        Args:
            scores: ``(queries, b)``.
            part: the block ``(b, width)``.
            start: the row at which it begins.
        """
        kept = self._scores.shape[1]
        some = min(kept, len(part))
        best = np.argpartition(-scores, some - 1, axis=1)[:, :some]
        for query, nearest_here in enumerate(best):
            new = nearest_here[scores[query, nearest_here] > self._scores[query].min()]
            if not len(new):
                continue
            together = np.concatenate([self._scores[query], scores[query, new]])
            order = np.argsort(-together, kind="stable")[:kept]
            self._scores[query] = together[order]
            self._rows[query] = np.concatenate([self._rows[query], new + start])[order]
            self._embeddings[query] = np.concatenate([self._embeddings[query], part[new]])[order]

    def settle(
        self, queries: npt.NDArray[np.float32], n: int, metric: str
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Rows and distances of the ``n`` nearest, by distances in doubles."""
        asked, others = queries.astype(np.float64)[:, None], self._embeddings.astype(np.float64)
        if metric == "cosine":
            distances = (1 - (scaled(asked) * scaled(others)).sum(axis=2)).clip(0)
        else:
            distances = np.linalg.norm(others - asked, axis=2)
        distances[~np.isfinite(self._scores)] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, :n]
        distances = np.take_along_axis(distances, order, axis=1).astype(np.float32)
        rows = np.take_along_axis(self._rows, order, axis=1)
        missing = ~np.isfinite(distances)
        distances[missing], rows[missing] = np.nan, -1
        most = int((~missing).sum(axis=1).max(initial=0))
        return rows[:, :most], distances[:, :most]


def scaled(embeddings: npt.NDArray[T]) -> npt.NDArray[T]:
    """Scale to length 1; zeros stay."""
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return np.asarray(embeddings / np.maximum(length, 1e-15), embeddings.dtype)
