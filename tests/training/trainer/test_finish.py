"""The last stage: what is no expression counts for less, and confidence is earned."""

import numpy as np
import pytest
import torch

from fever_extract.models.config import EXPRESSIONS, Backbone, Config, Preprocessing
from fever_extract.models.network import FeverNet
from fever_extract.training.trainer.finish import best_temperature, fold, projection
from fever_extract.training.trainer.start import TEMPLATE


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


def test_what_labels_do_not_explain_shrinks():
    """Axes that follow the labels stay, those that are noise become short."""
    random = np.random.default_rng(0)
    expression = np.eye(8, dtype=np.float32)[random.integers(8, size=4000)]
    signal = expression @ random.normal(0, 3, (8, 7))
    constant = np.full(4000, 5.0)
    noise = random.normal(0, 3, (4000, 20))
    vectors = np.column_stack([signal, constant, noise]).astype(np.float32)
    moved = vectors @ projection(vectors, expression, rest=0.1)
    np.testing.assert_allclose(moved[:, :7].std(axis=0), signal.std(axis=0), rtol=0.1)
    assert moved[:, 8:].std(axis=0).max() < 0.3 * 3
    np.testing.assert_allclose(projection(vectors, expression, rest=1), np.eye(28), atol=1e-9)


def test_heads_answer_as_before_and_vectors_are_multiplied(network):
    crops = torch.rand(4, 1, 32, 32) * 255
    random = np.random.default_rng(1)
    matrix = np.eye(6) + 0.2 * random.normal(size=(6, 6))
    with torch.no_grad():
        before = network(crops)
        fold(network, matrix)
        after = network(crops)
    expected = before.embedding @ torch.from_numpy(matrix).float().T
    torch.testing.assert_close(after.embedding, expected, atol=1e-4, rtol=1e-4)
    for name, said in before.heads.items():
        torch.testing.assert_close(after.heads[name], said, atol=1e-4, rtol=1e-4)


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
