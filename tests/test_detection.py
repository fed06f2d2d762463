"""Our pipeline around MTCNN's networks, against facenet-pytorch's own."""

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN, ONet, PNet, RNet
from helpers import iou
from PIL import Image

from fever_extract import images
from fever_extract.detection import Detector, smallest_face
from fever_extract.mtcnn import Mtcnn


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
    assert smallest_face(180, 320) == 20
    assert smallest_face(270, 480) == 30
    assert smallest_face(1080, 1920) == 40
    assert smallest_face(3000, 4000) == 60
    assert smallest_face(3000, 4000, 800) == 200


@pytest.mark.parametrize("seen", [0.4, 0.6, 0.8])
def test_a_face_that_the_border_cuts_stays_in_its_place(detector, astronaut, seen):
    """What lies outside can't be seen, and looking again must not make it grow."""
    pixels = np.array(astronaut)
    (box,) = detector.detect(pixels, 40).boxes
    left = round(box[0] + (1 - seen) * (box[2] - box[0]))
    cut = np.ascontiguousarray(pixels[:, left:])
    for found in detector.detect(cut, 40).boxes:
        side = np.sqrt(np.prod(found[2:] - found[:2]))
        assert 0.6 < side / np.sqrt(np.prod(box[2:] - box[:2])) < 1.6


def test_the_networks_are_those_of_facenet_pytorch():
    random = np.random.default_rng(0)

    def pictures(*shape):
        pixels = torch.from_numpy(random.uniform(0, 255, shape).astype(np.float32))
        return pixels, (pixels.permute(0, 3, 1, 2) - 127.5) / 128

    networks = Mtcnn(torch.device("cpu"))
    with torch.inference_mode():
        # Wider than a strip, so that P-Net goes over it in several.
        pixels, normalised = pictures(1, 52, 2000, 3)
        rows, columns, scores, offsets = networks.propose(pixels[0], 0.01)
        their_offsets, their_scores = PNet()(normalised)
        assert 0 < len(rows) == (their_scores[0, 1] > 0.01).sum() < their_scores[0, 1].numel()
        assert_close(scores, their_scores[0, 1, rows, columns])
        assert_close(offsets, their_offsets[0, :, rows, columns].T)

        pixels, normalised = pictures(70, 24, 24, 3)
        scores, offsets = networks.refine(pixels)
        their_offsets, their_scores = RNet()(normalised)
        assert_close(scores, their_scores[:, 1])
        assert_close(offsets, their_offsets)

        pixels, normalised = pictures(20, 48, 48, 3)
        scores, offsets, landmarks = networks.locate(pixels)
        their_offsets, points, their_scores = ONet()(normalised)
        assert_close(scores, their_scores[:, 1])
        assert_close(offsets, their_offsets)
        assert_close(landmarks, torch.stack([points[:, :5], points[:, 5:]], dim=2))


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
