"""The five-point warp, against scikit-image's and by eye-checkable facts."""

import numpy as np
import pytest
import torch
from skimage.transform import SimilarityTransform

from fever_extract import alignment
from fever_extract.alignment import align, sampling_matrices, warp, whole
from fever_extract.kernels.library import instructions
from fever_extract.models.config import Preprocessing

PREPROCESSING = Preprocessing(
    size=64,
    color="grey",
    mean=(128.0,),
    std=(64.0,),
    template=((0.32, 0.38), (0.68, 0.38), (0.5, 0.59), (0.35, 0.77), (0.65, 0.77)),
)
TEMPLATE = np.array(PREPROCESSING.template) * PREPROCESSING.size


def test_it_is_the_least_squares_similarity():
    random = np.random.default_rng(0)
    landmarks = TEMPLATE * 3 + 40 + random.normal(0, 5, (8, 5, 2))
    matrices = sampling_matrices(landmarks, PREPROCESSING)
    for points, matrix in zip(landmarks, matrices):
        expected = estimate(points)
        np.testing.assert_allclose(matrix, expected.inverse.params[:2], atol=1e-6)


def estimate(points: np.ndarray) -> SimilarityTransform:
    """By scikit-image, whose name for it changed with 0.26, the first without Python 3.10."""
    if hasattr(SimilarityTransform, "from_estimate"):
        return SimilarityTransform.from_estimate(points, TEMPLATE)
    transform = SimilarityTransform()
    assert transform.estimate(points, TEMPLATE)
    return transform


def gradient(height: int, width: int) -> np.ndarray:
    """A picture whose red is x and whose green is y, at most 255."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("degrees", [0, 30, -60])
def test_landmarks_come_to_the_template(scale, degrees):
    """In a picture of coordinates, the crop's values say where each pixel came from."""
    turn = SimilarityTransform(scale=scale, rotation=np.deg2rad(degrees))
    landmarks = turn(TEMPLATE - 32) + 128
    crop = align(gradient(256, 256), landmarks[None], PREPROCESSING)[0].numpy()
    for (x, y), (column, row) in zip(landmarks, TEMPLATE.astype(int)):
        # The pixel with index i has its centre at i + 0.5, hence half a pixel of slack.
        slack = 0.75 * scale + 0.5
        assert crop[0, row, column] == pytest.approx(x - 0.5, abs=slack)
        assert crop[1, row, column] == pytest.approx(y - 0.5, abs=slack)


def test_a_large_face_is_reduced_without_aliasing():
    """Stripes of one pixel are grey from afar."""
    stripes = np.zeros((1000, 1000, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = align(stripes, (TEMPLATE * 15)[None], PREPROCESSING)
    assert crop.std() < 6
    assert crop.mean() == pytest.approx(127.5, abs=2)


def test_beyond_the_border_the_edge_repeats():
    picture = np.full((40, 40, 3), 200, np.uint8)
    crop = align(picture, (TEMPLATE - 40)[None], PREPROCESSING)
    assert (crop == 200).all()


def test_landmarks_far_outside_or_all_alike_are_no_error():
    picture = gradient(40, 40)
    far = np.stack([TEMPLATE + 500, TEMPLATE - 500, np.full((5, 2), 7.0)])
    crops = align(picture, far, PREPROCESSING)
    assert crops.shape == (3, 3, 64, 64)
    assert torch.isfinite(crops).all()


def test_no_faces_no_crops():
    assert align(gradient(9, 9), np.zeros((0, 5, 2)), PREPROCESSING).shape == (0, 3, 64, 64)


def test_a_crop_of_the_right_size_stays_as_it_is():
    picture = gradient(64, 64)
    np.testing.assert_array_equal(whole(picture, PREPROCESSING)[0].permute(1, 2, 0), picture)


def test_training_and_inference_crop_alike():
    """A whole batch through `warp`, as training does, and one by one through `align`."""
    random = np.random.default_rng(1)
    pictures = random.integers(0, 256, (6, 48, 48, 3), dtype=np.uint8)
    landmarks = TEMPLATE * 0.75 + random.normal(0, 2, (6, 5, 2))
    matrices = torch.from_numpy(sampling_matrices(landmarks, PREPROCESSING)).float()
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    together = warp(batch, matrices, PREPROCESSING.size)
    for picture, points, crop in zip(pictures, landmarks, together):
        alone = align(picture, points[None], PREPROCESSING)[0]
        torch.testing.assert_close(alone, crop, atol=0.05, rtol=0)


@pytest.mark.skipif(not instructions(), reason="nothing was compiled")
@pytest.mark.parametrize("cut", [(400, 512), (1, 2), (2, 1), (1, 1), (3, 300)])
def test_compiled_code_warps_as_torch(astronaut, cut, monkeypatch):
    """Whatever the map: turned, enlarged, reduced, in part or whole beyond the border."""
    pixels = np.array(astronaut)[: cut[0], : cut[1]]  # whose rows lie apart
    random = np.random.default_rng(0)
    maps = []
    for _ in range(40):
        scale, turn = random.uniform(0.2, 6), random.uniform(-np.pi, np.pi)
        a, b = scale * np.cos(turn), scale * np.sin(turn)
        across, down = random.uniform(-0.3, 1, 2) * cut[::-1]
        maps.append(np.array([[a, -b, across], [b, a, down]]))
    sizes = random.integers(16, 97, len(maps)).tolist()
    for turned in (pixels, pixels[::-1], pixels[:, ::-1]):
        monkeypatch.undo()
        ours = [alignment._sample(turned, *some) for some in zip(maps, sizes)]
        monkeypatch.setattr(alignment, "instructions", lambda: 0)
        for crop, *some in zip(ours, maps, sizes):
            expected = alignment._sample(turned.copy(), *some)
            np.testing.assert_allclose(crop, expected, atol=0.01)
