"""The nearest rows, against plain arithmetic."""

import numpy as np
import pytest

from fever_extract.tables.embeddings import Embeddings
from fever_extract.tables.reading import Table


def make(vectors: np.ndarray, blocks: int = 0, **metadata) -> Table:
    """A table of vectors, in memory or read in blocks."""
    source = vectors
    if blocks:

        def source():
            yield from np.array_split(vectors, blocks)

    columns = {
        "path": [f"{row}.jpg" for row in range(len(vectors))],
        "status": ["ok"] * len(vectors),
    }
    return Table(columns, metadata, Embeddings(source, *vectors.shape), len(vectors))


@pytest.fixture(scope="module")
def vectors():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((4000, 24)).astype(np.float32)
    vectors[random.choice(4000, 100, replace=False)] = np.nan
    vectors[7] = 0
    return vectors


def distances(vectors, query, metric):
    vectors, query = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return np.linalg.norm(vectors - query, axis=1)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-15)
    return 1 - vectors @ query / lengths / np.linalg.norm(query)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("blocks", [0, 1, 7, 900])
def test_exact(vectors, metric, blocks):
    queries = np.random.default_rng(1).standard_normal((5, 24)).astype(np.float32)
    found = make(vectors, blocks).nearest(queries, 20, metric=metric)
    assert found.rows.shape == found.distances.shape == (5, 20)
    for query, rows, near in zip(queries, found.rows, found.distances):
        expected = distances(vectors, query, metric)
        order = np.argsort(expected)[:20]  # NaN comes last
        np.testing.assert_array_equal(rows, order)
        np.testing.assert_allclose(near, expected[order], rtol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_query_itself(vectors, metric):
    table = make(vectors, 3)
    row = int(np.flatnonzero(np.isfinite(vectors).all(axis=1))[5])
    near = table.nearest(vectors[row], 3, metric=metric)
    assert near.rows[0] == row
    assert near.distances[0] == pytest.approx(0, abs=1e-6)
    others = table.nearest(vectors[row], 2, metric=metric, leave_out_same=True)
    np.testing.assert_array_equal(others.rows, near.rows[1:])


def test_chosen_rows_only(vectors):
    table = make(vectors, 5)
    rows = np.arange(1, 4000, 3)
    query = vectors[1]
    found = table.take(rows).nearest(query, 10)
    expected = distances(vectors[rows], query, "cosine")
    np.testing.assert_array_equal(found.rows, np.argsort(expected)[:10])


def test_fewer_than_were_asked_for():
    table = make(np.array([[1, 0], [np.nan, np.nan], [0, 1]], np.float32))
    assert table.nearest([1, 0.1], 10).rows.tolist() == [0, 2]
    found = table.nearest([[1, 0], [0.5, 0.5]], 10, leave_out_same=True)
    assert found.rows.tolist() == [[2, -1], [0, 2]]
    assert np.isnan(found.distances[0, 1])
    nothing = make(np.full((3, 2), np.nan, np.float32)).nearest([1, 0])
    assert len(nothing.rows) == 0


def test_what_can_not_be_compared(vectors):
    table = make(vectors, weights="ours", weights_sha256="a" * 64)
    other = make(vectors[:3], weights="theirs", weights_sha256="b" * 64)
    with pytest.raises(ValueError, match=r"ours \(SHA-256 aaaa.* theirs \(SHA-256 bbbb.*same"):
        table.nearest(other)
    same = make(vectors[:3], weights="ours", weights_sha256="a" * 64)
    assert table.nearest(same, 2).rows[:, 0].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"24 numbers; got shape \(3,\)"):
        table.nearest([1, 2, 3])
    with pytest.raises(ValueError, match="had no face"):
        table.nearest(np.full(24, np.nan))
    with pytest.raises(ValueError, match="n must be at least 1"):
        table.nearest(vectors[0], 0)
    with pytest.raises(ValueError, match="metric must be one of cosine, euclidean"):
        table.nearest(vectors[0], metric="manhattan")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("count", [500, 12_000])
def test_an_index(metric, count, tmp_path):
    pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    centres = random.standard_normal((50, 16)) * 3
    vectors = (centres[np.arange(count) % 50] + random.standard_normal((count, 16))).astype("f4")
    vectors[3] = np.nan
    table = make(vectors, 4, weights_sha256="a" * 64)
    index = table.build_index(metric)
    assert len(index) == count - 1
    index.save(tmp_path / "index.npz")
    again = type(index).load(tmp_path / "index.npz")
    assert again.weights["weights_sha256"] == "a" * 64
    queries = vectors[10:60]
    exact, near = table.nearest(queries, 10, metric=metric), again.nearest(queries, 10)
    found = [len(set(a) & set(b)) for a, b in zip(exact.rows.tolist(), near.rows.tolist())]
    assert np.mean(found) > 8
    np.testing.assert_allclose(near.distances[:, 1], exact.distances[:, 1], rtol=0.3, atol=0.02)
    assert again.nearest(queries[0], 3).rows.shape == (3,)
