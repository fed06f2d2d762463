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
_DUPLICATE = 0.02  # cosine distance: of 25 frames a second, half are within 0.001


def project(embeddings: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], str]:
    """Project embeddings to two dimensions, deterministically.

    Args:
        embeddings: ``(n, d)``, all finite.

    Returns:
        ``(n, 2)`` float32, and the method's name: ``t-SNE`` (van der Maaten and Hinton 2008)
        or ``PCA``.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count, dim = embeddings.shape
    points = np.zeros((count, 2), np.float32)
    if count < 2:
        return points, "PCA"
    components = min(_COMPONENTS, count, dim)
    reduced = PCA(components, random_state=0).fit_transform(embeddings)
    # The sign of a component is any; fix it, so that a map does not flip between machines.
    reduced *= np.where(reduced[np.abs(reduced).argmax(axis=0), range(components)] < 0, -1, 1)
    if not _FEWEST <= count <= TSNE_ROWS or not reduced.any():
        points[:, : min(2, components)] = reduced[:, :2]
        return points, "PCA"
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced)
    return np.asarray(points, np.float32), "t-SNE"


def nearest(
    embeddings: npt.NDArray[np.float32], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Find each embedding's nearest neighbours by cosine.

    Args:
        embeddings: ``(n, d)``, all finite.
        count: how many neighbours; fewer if there are not as many others.

    Returns:
        Their rows, nearest first, ``(n, count)``, and cosine distances, 0 to 2, of that shape.
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    count = min(count, len(embeddings) - 1)
    if count < 1:
        empty = np.zeros((len(embeddings), 0))
        return empty.astype(np.int64), empty
    # Of embeddings of length 1 in the order of their cosines, by the search that keeps no matrix.
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(normalize(embeddings))
    distances, rows = search.kneighbors()  # without arguments, a row is not its own neighbour
    return rows, distances**2 / 2


def near_duplicates(
    neighbours: npt.NDArray[np.int64], distances: npt.NDArray[Any]
) -> npt.NDArray[np.int32]:
    """Number the groups of near-duplicates: copies of a picture, a clip's successive frames.

    Args:
        neighbours, distances: of `nearest`.

    Returns:
        ``(n,)``: each face's group; a face with no near-duplicate is a group of its own.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows, places = np.nonzero(distances < _DUPLICATE)
    shape = (len(neighbours), len(neighbours))
    graph = coo_matrix((np.ones(len(rows)), (rows, neighbours[rows, places])), shape)
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)
