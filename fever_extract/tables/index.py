"""Approximate nearest-neighbour search with FAISS, for tables too large for an exact one.

Embeddings are kept in eight bits a number, in cells around centres (``IVF,SQ8``), and the nearest
cells are searched. `fever_extract.tables.search` is exact.
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
from fever_extract.tables.embeddings import Embeddings
from fever_extract.tables.search import Neighbors, check_queries, scaled

if TYPE_CHECKING:
    import numpy.typing as npt

_FEWEST = 10_000  # embeddings; fewer are all searched
_TRAINING = 40  # embeddings a cell to find its centre by
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
        """Find the rows whose embeddings are nearest, or nearly so; as `Table.nearest`."""
        asked = check_queries(x, self._faiss.d, n, self.metric)
        several = np.ascontiguousarray(asked if asked.ndim == 2 else asked[None])
        if self.metric == "cosine":
            several = scaled(several)
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


def build(embeddings: Embeddings, metric: str, weights: Mapping[str, Any]) -> Index:
    """See `fever_extract.tables.reading.Table.build_index`; reads the embeddings twice."""
    faiss = _faiss_module()
    check_queries(np.zeros(embeddings.width), embeddings.width, 1, metric)
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    cells = int(2 * np.sqrt(embeddings.count)) if embeddings.count >= _FEWEST else 0
    index = faiss.index_factory(embeddings.width, f"IVF{cells},SQ8" if cells else "IDMap,SQ8", kind)
    every = max(1, embeddings.count // max(_TRAINING * cells, _FEWEST))
    sample = [_usable(block[::every], metric)[1] for block in embeddings.blocks()]
    training = np.concatenate(sample) if sample else np.zeros((0, embeddings.width), np.float32)
    if not len(training):
        raise ValueError("the table has no embeddings to search")
    index.train(training)
    start = 0
    for block in embeddings.blocks():
        rows, usable = _usable(block, metric)
        index.add_with_ids(usable, rows + start)
        start += len(block)
    if cells:
        index.nprobe = max(1, cells // _SEARCHED)
    return Index(metric, weights, index)


def _usable(
    block: npt.NDArray[np.float32], metric: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return a block's rows that have an embedding, and these embeddings scaled for the metric."""
    rows = np.flatnonzero(np.isfinite(block).all(axis=1))
    embeddings = np.ascontiguousarray(block[rows], np.float32)
    return rows, scaled(embeddings) if metric == "cosine" else embeddings


def _faiss_module() -> Any:
    require("faiss", extra="search", needed_by="an index")
    import faiss

    return faiss
