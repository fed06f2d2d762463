"""The last stage: what is no expression counts for less, and confidence is earned."""

import numpy as np
import pytest
import torch

from fever_extract.config import EXPRESSIONS, Backbone, Config, Preprocessing
from fever_extract.network import FeverNet
from fever_extract.training.finish import best_temperature, fold, own_axes
from fever_extract.training.start import TEMPLATE


@pytest.fixture
def network() -> FeverNet:
    torch.manual_seed(0)
    config = Config(
        name="test",
        preprocessing=Preprocessing(32, "grey", (128.0,), (60.0,), TEMPLATE),
        backbone=Backbone(widths=(8, 16), depths=(1, 1)),
        embedding_dim=6,
        blendshapes=("jawOpen",),
    )
    network = FeverNet(config)
    network.train()
    for _ in range(5):  # statistics that are not the initial ones
        network(torch.rand(16, 1, 32, 32) * 255)
    return network.eval()


def test_axes_that_follow_the_labels_come_first():
    """Of vectors of seven such directions, a constant and noise, in no order at all."""
    random = np.random.default_rng(0)
    expression = np.eye(8, dtype=np.float32)[random.integers(8, size=4000)]
    signal = expression @ random.normal(0, 3, (8, 7))
    parts = np.column_stack([signal, np.full(4000, 5.0), random.normal(0, 3, (4000, 20))])
    mixed, _ = np.linalg.qr(random.normal(size=(28, 28)))
    vectors = (parts @ mixed).astype(np.float32)
    axes, kept = own_axes(vectors, expression)
    assert kept == 8
    np.testing.assert_allclose(axes @ axes.T, np.eye(28), atol=1e-9)
    ours, theirs = vectors @ axes[:8].T, parts[:, :8]
    np.testing.assert_allclose(np.square(ours).sum(), np.square(theirs).sum(), rtol=0.1)
    correlations = np.corrcoef(vectors @ axes[8:].T, rowvar=False)
    np.testing.assert_allclose(correlations, np.eye(20), atol=1e-3)


def test_heads_answer_as_before_and_vectors_are_turned_and_scaled(network):
    crops = torch.rand(64, 1, 32, 32) * 255
    random = np.random.default_rng(1)
    axes, _ = np.linalg.qr(random.normal(size=(6, 6)))
    lengths = np.array([1, 1, 1, 0.05, 0.05, 0.05])
    with torch.no_grad():
        before = network(crops)
        fold(network, axes, lengths, before.embedding.numpy())
        after = network(crops)
        spread = network.embedding[0](network.features(crops))
    expected = before.embedding @ torch.from_numpy(axes.T * lengths).float()
    torch.testing.assert_close(after.embedding, expected, atol=1e-4, rtol=1e-4)
    for name, said in before.heads.items():
        torch.testing.assert_close(after.heads[name], said, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(spread.var(dim=0, correction=0), torch.ones(6), atol=0.01, rtol=0)


@pytest.mark.parametrize("overconfident", [0.5, 1.0, 1.6])
def test_the_temperature_of_labels_drawn_at_it_is_found(overconfident):
    random = np.random.default_rng(2)
    logits = random.normal(0, 2, (20_000, len(EXPRESSIONS)))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) > random.random((len(true), 1))).argmax(axis=1)
    said = np.exp(logits * overconfident)
    said /= said.sum(axis=1, keepdims=True)
    found = best_temperature(said.astype(np.float32), labels)
    assert found == pytest.approx(overconfident, abs=0.05)
