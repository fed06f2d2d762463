"""The network in somebody else's pipeline: crops in, vectors out, gradients where asked."""

import numpy as np
import pytest
import torch

from fever_extract import alignment


@pytest.fixture(scope="module")
def crops(extractor, astronaut):
    """Two aligned crops ``(2, 3, s, s)`` float32."""
    pixels = np.array(astronaut)
    points = np.stack([face.landmarks for face in extractor.extract_faces(pixels)] * 2)
    points[1] += 3
    return alignment.align(pixels, points, extractor.config.preprocessing)


def test_the_same_as_of_the_photograph(extractor, astronaut, crops):
    expected = extractor.extract(astronaut)
    array = crops.numpy()
    for given in (array, array.transpose(0, 2, 3, 1), array.astype(np.float64)):
        vectors = extractor.embed(given)
        assert vectors.dtype == np.float32
        assert vectors.shape == (2, extractor.embedding_dim)
        np.testing.assert_allclose(vectors[0], expected, atol=1e-4)
    tensor = extractor.embed(crops)
    assert not tensor.requires_grad
    np.testing.assert_allclose(tensor[0].numpy(), expected, atol=1e-4)
    rounded = extractor.embed(array.round().astype(np.uint8))
    np.testing.assert_allclose(rounded[0], expected, atol=0.1)
    unit = extractor.embed(crops, normalize=True)
    np.testing.assert_allclose(unit.norm(dim=1), 1, atol=1e-5)


def test_other_sizes_and_none(extractor, crops):
    larger = torch.nn.functional.interpolate(crops, scale_factor=2, mode="bilinear")
    cosine = torch.nn.functional.cosine_similarity(extractor.embed(larger), extractor.embed(crops))
    assert (cosine > 0.99).all()
    assert extractor.embed(np.zeros((0, 3, 96, 96), np.uint8)).shape == (0, extractor.embedding_dim)
    assert extractor.embed(crops[:0]).shape == (0, extractor.embedding_dim)


def test_grey_crops(extractor, crops):
    grey = crops.mean(dim=1, keepdim=True)
    expected = extractor.embed(grey.expand(-1, 3, -1, -1)).numpy()
    np.testing.assert_allclose(extractor.embed(grey).numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(extractor.embed(grey.numpy()), expected, atol=1e-4)


def test_gradients_reach_the_crops(extractor, crops):
    leaf = crops.clone().requires_grad_()
    extractor.embed(leaf).sum().backward()
    assert leaf.grad.abs().sum() > 0
    # And the extractor still has none of its own.
    assert not extractor.embed(crops).requires_grad


def test_a_network_of_ones_own(extractor, crops):
    before = extractor.embed(crops)
    network = extractor.network()
    output = network(crops)
    torch.testing.assert_close(output.embedding.detach(), before)
    assert set(output.heads) == set(extractor.config.heads)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    output.embedding.square().sum().backward()
    optimizer.step()
    assert not torch.allclose(network(crops).embedding, before)
    torch.testing.assert_close(extractor.embed(crops), before)
    torch.testing.assert_close(extractor.network()(crops).embedding.detach(), before)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((2, 96, 96), np.uint8), ValueError, r"got shape \(2, 96, 96\)"),
        (np.zeros((2, 5, 96, 96), np.uint8), ValueError, "got shape"),
        (np.zeros((2, 3, 0, 0), np.uint8), ValueError, "got shape"),
        (np.zeros((2, 3, 9, 9), np.int64), TypeError, "got dtype int64"),
        (torch.zeros(2, 3, 9, 9, dtype=torch.int32), TypeError, "got dtype torch.int32"),
        ("crops", TypeError, "got str"),
    ],
)
def test_no_crops(extractor, given, error, message):
    with pytest.raises(error, match=message):
        extractor.embed(given)


def test_a_scale_that_is_likely_wrong(extractor, crops):
    with pytest.warns(UserWarning, match="0 to 255 is expected"):
        extractor.embed(crops / 255)
