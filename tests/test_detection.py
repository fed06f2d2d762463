"""Our pipeline around MTCNN's networks, against facenet-pytorch's own."""

import numpy as np
import pytest
from facenet_pytorch import MTCNN
from helpers import iou
from PIL import Image

from fever_extract import images
from fever_extract.detection import Detector, smallest_face


@pytest.fixture(scope="module")
def detector():
    return Detector("cpu")


def reference(pixels: np.ndarray):
    """facenet-pytorch's faces at its defaults, with the same confidence."""
    boxes, scores, landmarks = MTCNN(keep_all=True).detect(Image.fromarray(pixels), landmarks=True)
    if boxes is None:
        return np.zeros((0, 4)), np.zeros((0, 5, 2))
    sure = scores > 0.9
    return boxes[sure].astype(float), landmarks[sure].astype(float)


def assert_same_faces(detector, pixels, smallest=None):
    boxes, landmarks = reference(pixels)
    ours = detector.detect(pixels, smallest or smallest_face(*pixels.shape[:2]))
    assert len(ours) == len(boxes)
    distances = []
    for box, points in zip(boxes, landmarks):
        overlaps = [iou(box, other) for other in ours.boxes]
        best = int(np.argmax(overlaps))
        assert overlaps[best] > 0.8
        side = np.sqrt(np.prod(box[2:] - box[:2]))
        distances.append(np.linalg.norm(ours.landmarks[best] - points, axis=1).mean() / side)
    assert max(distances, default=0) < 0.06
    assert np.mean(distances or [0]) < 0.03


def test_the_faces_of_facenet_pytorch(detector, astronaut):
    assert_same_faces(detector, np.array(astronaut))


def test_a_large_picture_is_reduced_without_harm(detector, astronaut):
    large = np.array(astronaut.resize((2600, 2600), Image.Resampling.BICUBIC))
    assert_same_faces(detector, large, smallest=120)


@pytest.mark.parametrize(
    "name", ["single.jpg", "group_1.jpg", "group_2.jpg", "disgust.jpg", "alpha.png", "no_face.jpg"]
)
def test_the_faces_of_facenet_pytorch_in_photographs(detector, photos, name):
    assert_same_faces(detector, images.read(photos / name))


def test_the_smallest_face_by_default():
    assert smallest_face(480, 640) == 20
    assert smallest_face(3200, 6400) == 100
    assert smallest_face(3200, 6400, 33) == 33
