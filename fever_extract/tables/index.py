"""An index of a table's vectors by FAISS, for more rows than are quickly compared with one by one.

Vectors are kept in eight bits a number, in cells around centres of their own (``IVF,SQ8``), and of
the cells the nearest are searched: answers come near to those of `fever_extract.tables.search`,
which are exact.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils.extras import require
from fever_extract._utils.files import replace_atomically
from fever_extract.tables.search import Neighbors, check_queries
from fever_extract.tables.vectors import Vectors

if TYPE_CHECKING:
    import numpy.typing as npt

_FEWEST = 10_000  # of fewer vectors all are looked at
_TRAINING = 40  # vectors a cell to find its centre by
_SEARCHED = 16  # of so many cells one is searched


@dataclass(frozen=True, eq=False)
class Index:
    """An index in memory; `Table.build_index` makes one.

    Attributes:
        metric: ``cosine`` or ``euclidean``.
        weights: ``weights`` and ``weights_sha256`` of the table.
    """

    metric: str
    weights: Mapping[str, Any]
    _faiss: Any

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    def nearest(self, x: npt.ArrayLike, n: int = 10) -> Neighbors:
        """The table's rows whose vectors are nearest, or nearly so, as of `Table.nearest`."""
        asked = check_queries(x, self._faiss.d, n, self.metric)
        several = np.ascontiguousarray(asked if asked.ndim == 2 else asked[None])
        if self.metric == "cosine":
            several = _scaled(several)
        scores, rows = self._faiss.search(several, n)
        distances = 1 - scores if self.metric == "cosine" else np.sqrt(np.maximum(scores, 0))
        distances = np.where(rows < 0, np.nan, np.maximum(distances, 0)).astype(np.float32)
        if asked.ndim == 2:
            return Neighbors(rows, distances)
        return Neighbors(rows[0][rows[0] >= 0], distances[0][rows[0] >= 0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to an ``.npz`` file."""
        about = json.dumps({"metric": self.metric, "weights": dict(self.weights)})
        with (
            replace_atomically(Path(path)) as temporary,
            open(temporary, "wb") as file,
        ):
            np.savez(file, index=_faiss_module().serialize_index(self._faiss), about=about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Index:
        """Read what `save` wrote; only a file of your own, since FAISS trusts what it reads."""
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            index = _faiss_module().deserialize_index(file["index"])
        return cls(about["metric"], about["weights"], index)


def build(vectors: Vectors, metric: str, weights: Mapping[str, Any]) -> Index:
    """See `fever_extract.tables.reading.Table.build_index`; reads the vectors twice."""
    faiss = _faiss_module()
    check_queries(np.zeros(vectors.width), vectors.width, 1, metric)
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    cells = int(2 * np.sqrt(vectors.count)) if vectors.count >= _FEWEST else 0
    index = faiss.index_factory(vectors.width, f"IVF{cells},SQ8" if cells else "IDMap,SQ8", kind)
    every = max(1, vectors.count // max(_TRAINING * cells, _FEWEST))
    sample = [_usable(block[::every], metric)[1] for block in vectors.blocks()]
    training = np.concatenate(sample) if sample else np.zeros((0, vectors.width), np.float32)
    if not len(training):
        raise ValueError("the table has no vectors to search")
    index.train(training)
    start = 0
    for block in vectors.blocks():
        rows, usable = _usable(block, metric)
        index.add_with_ids(usable, rows + start)
        start += len(block)
    if cells:
        index.nprobe = max(1, cells // _SEARCHED)
    return Index(metric, weights, index)


def _usable(
    block: npt.NDArray[np.float32], metric: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The rows of a block that have a vector, and these as they are compared."""
    rows = np.flatnonzero(np.isfinite(block).all(axis=1))
    vectors = np.ascontiguousarray(block[rows], np.float32)
    return rows, _scaled(vectors) if metric == "cosine" else vectors


def _scaled(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-15), np.float32)


def _faiss_module() -> Any:
    require("faiss", extra="search", needed_by="an index")
    import faiss

    return faiss
