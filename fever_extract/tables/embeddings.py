"""The embedding column: in memory, mapped from a file, or read from Parquet block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

BLOCK = 16_384
"""Rows that are read at a time."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Rows of embeddings, ``(count, width)`` float32.

    Attributes:
        source: all rows as an array, or a function that reads them in blocks ``(b, width)``.
        count, width: the shape.
        rows: which of the source's rows these are, in rising order; None for all.
    """

    source: npt.NDArray[np.float32] | Callable[[], Iterator[npt.NDArray[np.float32]]]
    count: int
    width: int
    rows: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(cls, array: npt.NDArray[np.float32]) -> Embeddings:
        """Those of an array ``(n, d)``."""
        return cls(array, len(array), array.shape[1])

    def take(self, rows: npt.NDArray[np.int64]) -> Embeddings:
        """Some of these rows, in rising order; nothing is read."""
        chosen = rows if self.rows is None else self.rows[rows]
        return Embeddings(self.source, len(rows), self.width, chosen)

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """All rows in order, some at a time."""
        start = 0
        for block in self._read():
            if self.rows is None:
                yield block
            else:
                first, last = np.searchsorted(self.rows, (start, start + len(block)))
                if last > first:
                    yield block[self.rows[first:last] - start]
            start += len(block)

    def load(self) -> npt.NDArray[np.float32]:
        """All rows; those of an array that is all there without a copy."""
        if isinstance(self.source, np.ndarray):
            return self.source if self.rows is None else self.source[self.rows]
        embeddings = np.empty((self.count, self.width), np.float32)
        self.fill(embeddings)
        return embeddings

    def fill(self, embeddings: npt.NDArray[np.float32]) -> None:
        """Write all rows to an array."""
        row = 0
        for block in self.blocks():
            embeddings[row : row + len(block)] = block
            row += len(block)

    def _read(self) -> Iterator[npt.NDArray[np.float32]]:
        if not isinstance(self.source, np.ndarray):
            yield from self.source()
            return
        for start in range(0, len(self.source), BLOCK):
            yield self.source[start : start + BLOCK]
