"""The way of a GPU, which a CPU can go too: the same results in few calls that wait."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from waits import counted

from fever_extract import alignment
from fever_extract._utils.precision import full_precision
from fever_extract._utils.sampling import resize
from fever_extract.detection import atlas
from fever_extract.detection.batched import BatchDetector
from fever_extract.detection.detector import Detector
from fever_extract.pipeline import Pipeline

WAITS = 7  # a batch, in detection; one more in all
REPORTED = 12  # the most that a GPU may report for these, which no one has seen yet


@pytest.fixture(scope="module")
def batched(device):
    return BatchDetector(device)


@pytest.fixture(scope="module")
def pipeline(extractor, device):
    return Pipeline(extractor._checkpoint, device, batched=True)


@pytest.fixture(scope="module")
def pictures(astronaut):
    sizes = (256, 256), (150, 170), (256, 256), (333, 241)
    several = [np.array(astronaut.resize(size)) for size in sizes]
    several[2] = np.ascontiguousarray(several[2][:, ::-1])
    several[3] = np.ascontiguousarray(several[3][35:])  # the border cuts the face
    return [*several, np.zeros((100, 140, 3), np.uint8), np.zeros((13, 15, 3), np.uint8)]


def assert_same(ours, theirs):
    assert [len(faces) for faces in ours] == [len(faces) for faces in theirs]
    for mine, other in zip(ours, theirs):
        np.testing.assert_allclose(mine.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(mine.landmarks, other.landmarks, atol=0.01)
        np.testing.assert_allclose(mine.scores, other.scores, atol=1e-4)


def test_the_faces_are_those_of_a_cpu(batched, pictures, monkeypatch):
    smallest = [20.0, 24.0, 20.0, 24.0, 20.0, 12.0]
    expected = Detector("cpu").detect(pictures, smallest)
    assert sum(map(len, expected)) >= 4
    assert_same(batched.detect(pictures, smallest), expected)
    monkeypatch.setattr(atlas, "_CANVAS", 10_000)  # several canvases, of parts of a group too
    assert_same(batched.detect(pictures[:3], smallest[:3]), expected[:3])
    assert [len(faces) for faces in batched.detect(pictures[4:], [20.0, 12.0])] == [0, 0]


def test_landmarks_in_known_boxes_are_those_of_a_cpu(batched, pictures):
    (faces,) = Detector("cpu").detect(pictures[:1], [20.0])
    boxes = [faces.boxes + 3, faces.boxes[:, [0, 1, 2, 3]] - 2]
    both = [pictures[0], pictures[0]]
    assert_same(batched.locate(both, boxes), Detector("cpu").locate(both, boxes))


def test_bytes_are_resized_to_the_same_bytes(device):
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 61, 97), dtype=torch.uint8, generator=random)
    for size in ((31, 49), (60, 97), (14, 22), (61, 30), (13, 96), (70, 99)):
        expected = F.interpolate(pixels, size, mode="bilinear", antialias=True).int()
        apart = (resize(pixels.to(device), *size).cpu().int() - expected).abs()
        assert apart.max() <= 1
        assert apart.float().mean() < 1e-3


def test_crops_are_those_of_a_cpu(extractor, astronaut, device):
    """Large faces, which are reduced first; small ones; beyond the border; none."""
    preprocessing = extractor.config.preprocessing
    pixels = np.array(astronaut)
    points = np.array(preprocessing.template, np.float32)
    landmarks = np.stack([points * 500, points * 60 + 100, points * 130 - 70, points * 260 + 380])
    matrices = alignment.sampling_matrices(landmarks, preprocessing)
    images = [pixels] * len(matrices)
    crops = alignment.align_on(torch.device(device), images, list(matrices), preprocessing)
    assert crops.device.type == torch.device(device).type
    expected = alignment.align(pixels, landmarks, preprocessing)
    torch.testing.assert_close(crops.cpu(), expected, atol=0.6, rtol=0)
    assert (crops.cpu() - expected).abs().mean() < 1e-3
    assert alignment.align_on(torch.device(device), [], [], preprocessing).shape[0] == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"aligned": True}, {"any_orientation": True, "normalize": True}, {"fallback": "whole"}],
    ids=str,
)
def test_records_are_those_of_a_cpu(extractor, pipeline, astronaut, options, tmp_path):
    astronaut.resize((300, 300)).save(tmp_path / "face.png")
    black = Image.new("RGB", (90, 120))
    inputs = [tmp_path / "face.png", tmp_path / "missing.png", black, astronaut.resize((200, 260))]
    expected = extractor.extract_records(inputs, all_faces=True, **options)
    chosen = extractor.options.replace(options)
    records = list(pipeline.stream(inputs, chosen, all_faces=True))
    assert [record.status for record in records] == [record.status for record in expected]
    assert [record.error for record in records] == [record.error for record in expected]
    pairs = [pair for one, two in zip(records, expected) for pair in zip(one.faces, two.faces)]
    assert len(pairs) == sum(len(record.faces) for record in expected) >= 2
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-4)
        np.testing.assert_allclose(ours.box, theirs.box, atol=0.01)
        assert ours.expressions == pytest.approx(theirs.expressions, abs=1e-4)
        assert ours.sharpness == pytest.approx(theirs.sharpness, rel=1e-2)
        assert ours.outside == pytest.approx(theirs.outside, abs=1e-6)


def test_the_cpu_waits_a_fixed_number_of_times(batched, pipeline, extractor, pictures, device):
    """However many pictures and faces there are."""
    at_most = REPORTED if device.startswith("cuda") else WAITS
    pipeline.process(pictures, extractor.options)  # what is made at first use
    for some in (pictures[:1], pictures[:4] * 2):
        with counted(device) as waits:
            batched.detect(some, [20.0] * len(some))
        assert 0 < sum(waits.values()) <= at_most, waits
        with counted(device) as waits:
            records = pipeline.process(some, extractor.options, all_faces=True)
        assert all(record.faces for record in records)
        assert sum(waits.values()) <= at_most + 1, waits


def test_threads_leave_the_setting_of_tf32_as_it_was(monkeypatch):
    def settings():
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = settings()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with full_precision():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with full_precision():
        thread.start()
        inside.wait()
        during = torch.get_float32_matmul_precision()
    assert during == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32, "the other thread still counts on it"
    leave.set()
    thread.join()
    assert settings() == before
