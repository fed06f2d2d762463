"""Non-maximum suppression, against torchvision's and facenet-pytorch's."""

import numpy as np
import pytest
import torch
from facenet_pytorch.models.utils.detect_face import nms_numpy
from torchvision.ops import batched_nms

from fever_extract.detection.detector import _suppress
from fever_extract.detection.suppression import suppress


def drawn(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(count)
    corners = random.uniform(-20, 300, (count, 2))
    boxes = np.hstack([corners, corners + random.uniform(0, 120, (count, 2))]).astype(np.float32)
    scores = random.uniform(size=count).astype(np.float32)
    return boxes, scores, random.integers(0, 3, count)


@pytest.mark.parametrize("count", [0, 1, 17, 400])
def test_the_same_as_others(count):
    boxes, scores, groups = drawn(count)
    doubles = boxes.astype(float), scores.astype(float)
    theirs = batched_nms(*map(torch.from_numpy, (*doubles, groups)), 0.5)
    np.testing.assert_array_equal(suppress(boxes, scores, groups, 0.5), theirs)
    one = np.zeros_like(groups)
    theirs = nms_numpy(boxes, scores, 0.5, "Min").ravel()
    ours = suppress(boxes, scores, one, 0.5, over_smaller=True)
    np.testing.assert_array_equal(ours, theirs)


def test_boxes_without_an_area_and_equal_scores():
    boxes = np.array([[5, 5, 5, 5]] * 2 + [[0, 0, 9, 9]] * 2, np.float32)
    kept = suppress(boxes, np.ones(4, np.float32), np.zeros(4, int), 0.5)
    assert kept.tolist() == [0, 1, 2]


def test_many_boxes_are_torchvisions(monkeypatch):
    """Few and many give the same."""
    drawing = tuple(map(torch.from_numpy, drawn(1500)))
    many = _suppress(*drawing, 0.7)
    monkeypatch.setattr("fever_extract.detection.detector._MANY", 1500)
    assert _suppress(*drawing, 0.7).tolist() == many.tolist()
