"""Each loss on values whose answer is known, and what distillation asks for."""

import numpy as np
import pytest
import torch
from helpers import cosine

from fever_extract.training.data.faces import Faces
from fever_extract.training.trainer.losses import concordance, geometry, triplet
from fever_extract.training.trainer.teachers import SoftTargets, likeness, mix


@pytest.fixture
def made_faces() -> Faces:
    """Three faces; of the last nothing is known."""
    expression = np.zeros((3, 8), np.float32)
    expression[0, :2], expression[1, 3] = 0.5, 1
    missing = np.full((3, 2), np.nan, np.float32)
    return Faces(
        images=np.zeros((3, 48, 48), np.uint8),
        landmarks=np.full((3, 5, 2), np.nan, np.float32),
        expression=expression,
        blendshapes=missing,
        blendshape_names=("browLeft", "browRight"),
        names=np.array(["a", "b", "c"]),
        valence_arousal=missing,
    )


def test_concordance_is_perfect_only_for_the_very_values():
    target = torch.tensor([[-0.5, 0.1], [0.0, 0.2], [0.5, float("nan")]])
    assert concordance(target.nan_to_num(0.3), target).item() == pytest.approx(0, abs=1e-6)
    assert concordance(target.nan_to_num() * 2, target).item() > 0.1, "correlated is not enough"
    assert concordance(-target.nan_to_num(), target).item() > 1


def test_concordance_without_labels_teaches_nothing():
    values = torch.rand(4, 2, requires_grad=True)
    loss = concordance(values, torch.full((4, 2), float("nan")))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(values.grad, torch.zeros(4, 2))


def test_both_sides_of_a_triplet_count():
    """Squared distances on the unit circle: right angles are 2, opposites 4."""
    east, north, west = (
        torch.tensor([[1.0, 0]]),
        torch.tensor([[0, 1.0]]),
        torch.tensor([[-1.0, 0]]),
    )
    assert triplet(east, 5 * east, west, margin=0.2).item() == 0, "lengths don't matter"
    # east-north is 2; the odd one, west, is 4 from east and 2 from north.
    assert triplet(east, north, west, margin=0.2).item() == pytest.approx(0.2)
    assert triplet(east, west, north, margin=0.2).item() == pytest.approx(4.4)


def test_geometry_asks_for_cosines_of_known_pairs():
    vectors = torch.tensor([[1.0, 0], [0, 2.0], [3.0, 3.0]])
    cosines = torch.tensor([[0.5, 0.0, 0.5**0.5], [0.0, 0.5, 0.5**0.5], [0.5**0.5, 0.5**0.5, 0.5]])
    assert geometry(vectors, cosines).item() == pytest.approx(0, abs=1e-6), "the diagonal is free"
    cosines[0, 1] = cosines[1, 0] = 1.0
    assert geometry(vectors, cosines).item() == pytest.approx(2 / 6, rel=1e-5)
    cosines[0, 1] = cosines[1, 0] = float("nan")
    assert geometry(vectors, cosines).item() == pytest.approx(0, abs=1e-6)


def test_likeness_is_the_overlap_of_labels_and_the_teachers_cosine():
    labels = torch.tensor([[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0, 0]])
    vectors = torch.tensor([[1.0, 0], [0.6, 0.8], [0, 1.0]])
    by_labels = likeness(labels, vectors, 0.0)
    assert by_labels[0, 1].item() == pytest.approx(0.5)
    assert torch.isnan(by_labels[2]).all(), "without a label, nothing is known"
    assert likeness(labels, vectors, 0.2)[0, 1].item() == pytest.approx(0.8 * 0.5 + 0.2 * 0.6)
    # Labels that lack votes for "unknown" are compared by what there is.
    assert likeness(labels * 0.7, vectors, 0.0)[0, 1].item() == pytest.approx(0.5)


def test_labels_are_mixed_and_unlabelled_faces_get_the_teachers_word(made_faces):
    said = np.full((len(made_faces), 8), 1 / 8, np.float32)
    felt = np.full((3, 2), 0.5, np.float32)
    targets = SoftTargets(said, np.zeros((len(said), 0), np.float32), felt)
    made_faces.valence_arousal[0] = [-0.5, np.nan]
    mixed = mix(made_faces, targets, 0.6)
    expected = [[0.1, 0.5], [0.5, 0.5], [0.5, 0.5]]
    np.testing.assert_allclose(mixed.valence_arousal, expected, atol=1e-6)
    silent = SoftTargets(said, targets.embeddings, felt * np.nan)
    kept = mix(made_faces, silent, 0.6).valence_arousal
    np.testing.assert_array_equal(kept, made_faces.valence_arousal)
    expected = 0.4 * made_faces.expression[0] + 0.6 / 8
    np.testing.assert_allclose(mixed.expression[0], expected, rtol=1e-5)
    np.testing.assert_allclose(mixed.expression[-1], 1 / 8, rtol=1e-5)


def test_a_cosine_is_what_the_geometry_loss_takes_it_for():
    vectors = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    asked = torch.full((2, 2), cosine(*vectors.numpy()))
    assert geometry(vectors, asked).item() == pytest.approx(0, abs=1e-9)
