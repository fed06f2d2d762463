"""Our pipeline around MTCNN's networks, against facenet-pytorch's own."""

import math

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN, ONet, PNet, RNet
from facenet_pytorch.models.utils.detect_face import nms_numpy
from helpers import cosine, iou
from PIL import Image
from torch.nn import functional as F
from torchvision.ops import batched_nms

from fever_extract import images
from fever_extract.detection import detector as detector_module
from fever_extract.detection import mtcnn, sheets
from fever_extract.detection.batched import BatchDetector
from fever_extract.detection.compiled import CompiledMtcnn
from fever_extract.detection.detector import Detector, _suppress
from fever_extract.detection.mtcnn import Mtcnn
from fever_extract.detection.parameters import smallest_face
from fever_extract.detection.pyramid import Pyramids
from fever_extract.detection.sheets import pack
from fever_extract.detection.suppression import suppress
from fever_extract.kernels.library import INSTRUCTIONS, instructions


@pytest.fixture(scope="module")
def detector(device):
    return Detector("cpu") if device == "cpu" else BatchDetector(device)


def reference(pixels: np.ndarray):
    """facenet-pytorch's faces at its defaults, with the same confidence."""
    boxes, scores, landmarks = MTCNN(keep_all=True).detect(Image.fromarray(pixels), landmarks=True)
    if boxes is None:
        return np.zeros((0, 4)), np.zeros((0, 5, 2))
    sure = scores > 0.9
    return boxes[sure].astype(float), landmarks[sure].astype(float)


def assert_same_faces(detector, pixels, smallest=None):
    boxes, landmarks = reference(pixels)
    (ours,) = detector.detect([pixels], [smallest or smallest_face(*pixels.shape[:2])])
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
    (faces,) = detector.detect([pixels], [40])
    (box,) = faces.boxes
    left = round(box[0] + (1 - seen) * (box[2] - box[0]))
    cut = np.ascontiguousarray(pixels[:, left:])
    (faces,) = detector.detect([cut], [40])
    for found in faces.boxes:
        side = np.sqrt(np.prod(found[2:] - found[:2]))
        assert 0.6 < side / np.sqrt(np.prod(box[2:] - box[:2])) < 1.6


@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_a_face_that_the_border_cuts_is_as_in_the_whole_picture(extractor, astronaut, side):
    """A fifth of it is beyond the border; its landmarks are where they are, not stretched."""
    whole = extractor.extract_faces(astronaut)[0]
    part = (whole.box[2:] - whole.box[:2]) / 5
    (x1, y1), (x2, y2) = whole.box[:2] + part, whole.box[2:] - part
    width, height = astronaut.size
    box = {
        "left": (round(x1), 0, width, height),
        "top": (0, round(y1), width, height),
        "right": (0, 0, round(x2), height),
        "bottom": (0, 0, width, round(y2)),
    }[side]
    (face,) = extractor.extract_faces(astronaut.crop(box))
    assert iou(face.box + np.tile(box[:2], 2), whole.box) > 0.8
    apart = np.linalg.norm(face.landmarks + box[:2] - whole.landmarks, axis=1)
    assert apart.max() < 0.1 * np.linalg.norm(whole.landmarks[1] - whole.landmarks[0])
    assert cosine(face.embedding, whole.embedding) > 0.99


@pytest.mark.parametrize("size", [(512, 512), (333, 471), (61, 200), (40, 41)])
def test_small_levels_share_a_sheet_without_touching(astronaut, monkeypatch, size):
    detector = Detector("cpu", compiled=False)
    pixels = np.array(astronaut.resize(size))
    levels = [level.pixels for level in Pyramids([pixels], detector.device).levels([0.6])]
    (together,) = detector.detect([pixels], [20], min_confidence=0.5)
    assert len(list(pack(levels))) < len(levels)
    monkeypatch.setattr(sheets, "_SMALL", 0)
    (alone,) = detector.detect([pixels], [20], min_confidence=0.5)
    assert len(list(pack(levels))) == len(levels)
    np.testing.assert_allclose(together.boxes, alone.boxes, atol=0.01)
    np.testing.assert_allclose(together.landmarks, alone.landmarks, atol=0.01)


def test_images_that_are_searched_together_have_the_faces_that_they_have_alone(detector, astronaut):
    pictures = [np.array(astronaut.resize(size)) for size in ((512, 512), (150, 170), (333, 471))]
    pictures.insert(1, np.zeros((300, 200, 3), np.uint8))
    smallest = [40.0, 30.0, 20.0, 25.0]
    together = detector.detect(pictures, smallest)
    assert [len(found) > 0 for found in together] == [True, False, True, True]
    for picture, side, found in zip(pictures, smallest, together):
        (alone,) = detector.detect([picture], [side])
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=0.01)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)
        np.testing.assert_allclose(found.landmarks, alone.landmarks, atol=0.01)


def test_a_face_of_several_candidates_is_looked_at_once(detector, photos, monkeypatch):
    """The same faces as by looking at all, and so where the first look is never sure."""
    pixels = images.read(photos / "group_1.jpg")
    locate, looks = detector._networks.locate, []

    def counted(crops):
        looks.append(len(crops))
        return locate(crops)

    def detect():
        looks.clear()
        (faces,) = detector.detect([pixels], [40])
        return faces, sum(looks)

    monkeypatch.setattr(detector._networks, "locate", counted)
    once, few = detect()
    monkeypatch.setattr(detector_module, "SURE", 2)
    unsure, many = detect()
    monkeypatch.setattr(detector_module, "SAME", 1)
    every, most = detect()
    assert few < many == most
    np.testing.assert_allclose(unsure.boxes, every.boxes, atol=0.01)
    np.testing.assert_allclose(unsure.landmarks, every.landmarks, atol=0.01)
    assert len(once) == len(every) > 1
    for box, points in zip(once.boxes, once.landmarks):
        overlaps = [iou(box, other) for other in every.boxes]
        assert max(overlaps) > 0.9
        apart = np.linalg.norm(every.landmarks[np.argmax(overlaps)] - points, axis=1).mean()
        assert apart < 0.03 * (box[2] - box[0])


LEVELS = [
    pytest.param(
        level,
        id=words,
        marks=pytest.mark.skipif(level > instructions(), reason=f"not here: {words}"),
    )
    for level, words in enumerate(INSTRUCTIONS)
]


def networks_of(level: int) -> Mtcnn | CompiledMtcnn:
    return CompiledMtcnn(level) if level else Mtcnn(torch.device("cpu"))


@pytest.mark.parametrize("level", LEVELS)
def test_crops_are_the_pixels_of_their_boxes(level):
    """Of a picture whose colours tell where they are, at any size and at the borders."""
    y, x = np.mgrid[:101, :151]
    pixels = np.stack([x, y, np.full_like(x, 7)], axis=2).astype(np.uint8)
    inside, over_the_border, beyond = [11, 21, 34, 44], [120, 60, 170, 110], [160, 0, 170, 9]
    boxes = np.array([inside, [1, 1, 101, 101], over_the_border, beyond], np.float32)
    black = np.zeros((40, 50, 3), np.uint8)
    owners = np.ones(4, np.intp)
    sampler = CompiledMtcnn(level) if level else None
    pyramids = Pyramids([black, pixels], torch.device("cpu"), sampler)
    kept, crops = pyramids.crop(owners, boxes, 24)
    assert kept.tolist() == [0, 1, 2], "the last has no pixel inside"
    edges = np.minimum(boxes[kept], [151, 101] * 2).tolist()
    for (left, top, right, bottom), crop in zip(edges, crops):
        steps = (np.arange(24) + 0.5) / 24
        across = left - 1 + steps * (right - left + 1) - 0.5
        down = top - 1 + steps * (bottom - top + 1) - 0.5
        inner = slice(2, -2)  # at the picture's border the last pixel counts twice
        np.testing.assert_allclose(crop[5, inner, 0], across[inner], atol=0.8)
        np.testing.assert_allclose(crop[inner, 5, 1], down[inner], atol=0.8)
        np.testing.assert_allclose(crop[:, :, 2], 7)


@pytest.mark.skipif(not instructions(), reason="nothing was compiled")
@pytest.mark.parametrize("size", [(12, 12), (13, 500), (1201, 17), (43, 87), (1, 2), (480, 640)])
def test_compiled_code_resizes_as_torch_to_the_bit(size):
    random = np.random.default_rng(0)
    halved, reduced, enlarged = (
        [math.ceil(side * scale) for side in size] for scale in (0.5, 0.7, 1.1)
    )
    sizes = [halved, reduced, enlarged, size, (size[0], halved[1]), (reduced[0], size[1])]
    for pixels in (
        random.integers(0, 256, (*size, 3), np.uint8),
        random.choice([0, 255], (*size, 3)),
    ):
        image = torch.from_numpy(pixels.astype(np.uint8))
        for height, width in sizes:
            resized = CompiledMtcnn().resize(image, height, width)
            expected = F.interpolate(
                image[None].permute(0, 3, 1, 2), (height, width), mode="bilinear", antialias=True
            )
            assert torch.equal(resized, expected[0].permute(1, 2, 0))


@pytest.mark.skipif(not instructions(), reason="nothing was compiled")
@pytest.mark.parametrize("size", [(81, 83), (87, 300), (25, 40), (480, 641)])
def test_compiled_code_has_the_pyramid_of_torch(size):
    """Also where sides grow, or are less than halved: at the last scale, of the first size."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for scale in (1, 0.6, 0.5, 0.255):
        ours, theirs = (
            Pyramids([pixels], torch.device("cpu"), choice).levels([scale])
            for choice in (CompiledMtcnn(), None)
        )
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs):
            assert torch.equal(one.pixels, other.pixels)


@pytest.mark.parametrize("level", LEVELS)
def test_the_networks_are_those_of_facenet_pytorch(monkeypatch, level):
    monkeypatch.setattr(mtcnn, "_STRIP", 40_000)
    random = np.random.default_rng(0)

    def pictures(*shape):
        pixels = torch.from_numpy(random.integers(0, 256, shape, np.uint8))
        return pixels, (pixels.permute(0, 3, 1, 2) - 127.5) / 128

    networks = networks_of(level)
    with torch.inference_mode():
        # Wider than a strip, so that P-Net goes over it in several; some as narrow as a cell; and
        # of many rows, from one to the next of which no error may grow, whatever their width.
        sizes = [(52, 2000), (12, 12), (14, 70), (62, 14), *((800, 2 * n) for n in range(9, 17))]
        pairs = [pictures(1, *sides, 3) for sides in sizes]
        levels, rows, columns, scores, offsets = networks.propose([p[0] for p, _ in pairs], 1e-6)
        for number, (_, normalised) in enumerate(pairs):
            of = levels == number
            their_offsets, their_scores = PNet()(normalised)
            assert 0 < of.sum() == (their_scores[0, 1] > 1e-6).sum()
            assert_close(scores[of], their_scores[0, 1, rows[of], columns[of]])
            assert_close(offsets[of], their_offsets[0, :, rows[of], columns[of]].T)

        for count in (1, 2, 70):
            pixels, normalised = pictures(count, 24, 24, 3)
            scores, offsets = networks.refine(pixels.float())
            their_offsets, their_scores = RNet()(normalised)
            assert_close(scores, their_scores[:, 1])
            assert_close(offsets, their_offsets)

        for count in (1, 20):
            pixels, normalised = pictures(count, 48, 48, 3)
            scores, offsets, landmarks = networks.locate(pixels.float())
            their_offsets, points, their_scores = ONet()(normalised)
            assert_close(scores, their_scores[:, 1])
            assert_close(offsets, their_offsets)
            assert_close(landmarks, torch.stack([points[:, :5], points[:, 5:]], dim=2))


def assert_close(ours: np.ndarray, theirs: torch.Tensor) -> None:
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.skipif(not instructions(), reason="nothing was compiled")
@pytest.mark.parametrize("size", [(512, 512), (333, 471), (40, 41), (12, 300)])
def test_compiled_code_finds_what_torch_does(astronaut, size):
    pixels = np.array(astronaut.resize(size))
    (one,), (other,) = (
        Detector("cpu", compiled=choice).detect([pixels], [20], min_confidence=0.5)
        for choice in (True, False)
    )
    assert len(one) == len(other) >= (min(size) > 100)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.01)


def test_upside_down_and_lying_faces(extractor, astronaut):
    """Asked for, they have the vector that they have upright, in the picture's own pixels."""
    (still,) = extractor.extract_records(astronaut)
    pixels = np.asarray(astronaut)
    assert abs(still.face.roll) < 10
    for turns, roll in ((0, 0), (1, -90), (2, 180), (3, 90)):
        turned = np.ascontiguousarray(np.rot90(pixels, turns))
        (record,) = extractor.extract_records(turned, any_orientation=True)
        face = record.face
        assert cosine(face.vector, still.face.vector) > 0.99
        assert abs((face.roll - still.face.roll - roll + 180) % 360 - 180) < 1
        back = turned
        points = face.landmarks
        for _ in range(turns):  # clockwise
            points = np.stack([back.shape[0] - points[:, 1], points[:, 0]], axis=1)
            back = np.rot90(back, -1)
        np.testing.assert_allclose(points, still.face.landmarks, atol=1)
        assert (face.box[2:] > face.box[:2]).all()
        inside = (face.landmarks > face.box[:2]) & (face.landmarks < face.box[2:])
        assert inside.all()


def test_faces_of_different_orientations_in_one_picture(extractor, astronaut):
    face = astronaut.crop((120, 0, 340, 220))
    sheet = Image.new("RGB", (700, 260), "grey")
    for index, angle in enumerate((0, 90, 180)):
        sheet.paste(face.rotate(angle), (10 + 230 * index, 20))
    (record,) = extractor.extract_records(sheet, all_faces=True, any_orientation=True)
    by_place = sorted(record.faces, key=lambda found: found.box[0])
    rolls = [found.roll for found in by_place]
    assert len(rolls) == 3
    expected = np.array([0, -90, 180])
    assert (np.abs((np.array(rolls) - expected + 180) % 360 - 180) < 15).all()
    assert cosine(by_place[0].vector, by_place[2].vector) > 0.95


def test_suppression_is_torchvisions_and_facenets():
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(400, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 5 + torch.rand(400, 2, generator=generator) * 30], 1)
    scores = torch.rand(400, generator=generator)
    groups = torch.arange(400) % 3
    arrays = boxes.numpy(), scores.numpy()
    kept = _suppress(*arrays, groups.numpy(), 0.4)
    assert kept.tolist() == batched_nms(boxes.double(), scores.double(), groups, 0.4).tolist()
    assert len(kept) < 300
    assert suppress(*arrays, 0.4, groups=groups.numpy()).tolist() == kept.tolist()
    smaller = suppress(*arrays, 0.6, over_smaller=True)
    assert smaller.tolist() == nms_numpy(*arrays, 0.6, "Min").tolist()
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).shape == (0,)
