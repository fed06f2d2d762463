"""2-D projection and nearest neighbours of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

TSNE_ROWS = 5_000
"""Up to here a map is t-SNE; beyond, where that takes minutes, the principal components."""

_FEWEST = 10  # t-SNE of fewer rows shows nothing that two components don't
_COMPONENTS = 50  # that t-SNE is given, as its authors advise
_PERPLEXITY = 30.0


def project(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], str]:
    """Project embeddings to two dimensions, deterministically.

    Args:
        vectors: ``(n, d)``, all finite.

    Returns:
        ``(n, 2)`` float32, and the method's name: ``t-SNE`` (van der Maaten and Hinton 2008)
        or ``PCA``.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count, dim = vectors.shape
    points = np.zeros((count, 2), np.float32)
    if count < 2:
        return points, "PCA"
    components = min(_COMPONENTS, count, dim)
    reduced = PCA(components, random_state=0).fit_transform(vectors)
    # The sign of a component is any; fix it, so that a map does not flip between machines.
    reduced *= np.where(reduced[np.abs(reduced).argmax(axis=0), range(components)] < 0, -1, 1)
    if not _FEWEST <= count <= TSNE_ROWS or not reduced.any():
        points[:, : min(2, components)] = reduced[:, :2]
        return points, "PCA"
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced)
    return np.asarray(points, np.float32), "t-SNE"


def nearest(
    vectors: npt.NDArray[np.float32], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Find each embedding's nearest neighbours by cosine.

    Args:
        vectors: ``(n, d)``, all finite.
        count: how many neighbours; fewer if there are not as many others.

    Returns:
        Their rows, nearest first, ``(n, count)``, and cosine distances, 0 to 2, of that shape.
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(count, len(vectors) - 1)
    if count < 1:
        empty = np.zeros((len(vectors), 0))
        return empty.astype(np.int64), empty
    search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(vectors)
    distances, rows = search.kneighbors()  # without arguments, a row is not its own neighbour
    return rows, distances
