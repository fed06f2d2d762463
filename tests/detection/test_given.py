"""Faces that the user knows: no search, a row for each, and a reason where there can be none."""

import numpy as np
import pytest
from helpers import cosine
from PIL import Image

from fever_extract import ExtractionError, Status, read_table


@pytest.fixture(scope="module")
def face(extractor, astronaut):
    return extractor.extract_faces(astronaut)[0]


def test_a_box_gives_the_face_that_detection_would(extractor, astronaut, face):
    (record,) = extractor.extract_records(astronaut, boxes=face.box)
    np.testing.assert_array_equal(record.face.box, face.box)
    assert record.face.score > 0.9
    assert np.abs(record.face.landmarks - face.landmarks).max() < 0.03 * face.size
    assert cosine(record.face.vector, face.vector) > 0.99
    # Other detectors draw other boxes.
    side = face.size
    for change in ((-0.1, -0.1, 0.1, 0.1), (0.1, 0, 0.1, 0), (0, -0.15, 0, 0.05)):
        other = extractor.extract(astronaut, boxes=face.box + np.array(change) * side)
        assert cosine(other, face.vector) > 0.97, change


def test_landmarks_give_the_same_vector(extractor, astronaut, face):
    (record,) = extractor.extract_records([astronaut], landmarks=[face.landmarks.ravel()])
    np.testing.assert_allclose(record.face.vector, face.vector, atol=1e-4)
    overlap = np.abs(record.face.box - face.box).max() / face.size
    assert overlap < 0.15, "the box is estimated"
    assert np.isnan(record.face.score)
    (both,) = extractor.extract_records(astronaut, landmarks=face.landmarks, boxes=face.box)
    np.testing.assert_array_equal(both.face.box, face.box)


def test_several_of_one_picture_keep_their_order(extractor, astronaut, face):
    two = Image.new("RGB", (1024, 512))
    two.paste(astronaut, (0, 0))
    two.paste(astronaut, (512, 0))
    right = face.box + np.array([512, 0, 512, 0], np.float32)
    outside = face.box + 2000
    (record,) = extractor.extract_records(two, all_faces=True, boxes=[right, outside, face.box])
    assert record.status is Status.OK
    assert [one.box[0] for one in record.faces] == [right[0], face.box[0]]
    assert "face 1: the box" in record.error
    assert "outside the picture of 1024x512" in record.error


def test_a_row_for_each_and_reasons(extractor, astronaut, face, tmp_path):
    astronaut.save(tmp_path / "a.png")
    paths = [tmp_path / "a.png"] * 6 + [tmp_path / "missing.png"]
    boxes = [
        face.box,
        None,
        np.full(4, np.nan),
        face.box - 1000,
        (5, 5, 9, 9),
        face.box / 512,
        face.box,
    ]
    records = extractor.extract_records(paths, boxes=boxes)
    assert [record.status.value for record in records] == [
        "ok",
        "no_face",
        "no_face",
        "no_face",
        "too_small",
        "too_small",
        "not_found",
    ]
    reasons = [record.error for record in records]
    assert reasons[0] is None
    assert reasons[1] == "no face was given for it"
    assert "lies outside the picture of 512x512" in reasons[3]
    assert reasons[4] == "the box (5, 5, 9, 9) is smaller than 12 pixels"
    assert "fractions of the picture?" in reasons[5]
    with pytest.warns(UserWarning, match="6 of 7"):
        x = extractor.extract(paths, boxes=boxes)
    assert np.isfinite(x).all(axis=1).tolist() == [True] + [False] * 6
    with pytest.raises(ExtractionError, match="image 1: the box"):
        extractor.extract(paths[:2], boxes=[boxes[0], boxes[3]], on_error="raise")


def test_from_an_earlier_table(extractor, astronaut, landscape, tmp_path):
    (tmp_path / "photos").mkdir()
    astronaut.save(tmp_path / "photos" / "a.png")
    Image.fromarray(landscape).save(tmp_path / "photos" / "b.png")
    extractor.extract_folder(tmp_path / "photos", tmp_path / "f.npz")
    table = read_table(tmp_path / "f.npz")
    paths = [tmp_path / "photos" / path for path in table.texts("path")]
    records = extractor.extract_records(paths, landmarks=table.columns["landmarks"])
    assert [record.status.value for record in records] == ["ok", "no_face"]
    np.testing.assert_allclose(records[0].face.vector, table.X[0], atol=1e-4)


def test_boxes_are_of_the_upright_picture(extractor, astronaut, face, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    astronaut.rotate(90, expand=True).save(tmp_path / "a.png", exif=exif)
    vector = extractor.extract(tmp_path / "a.png", landmarks=face.landmarks)
    np.testing.assert_allclose(vector, face.vector, atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"boxes": [[1, 2, 3, 4]]}, "boxes: 1 for 2 images"),
        ({"boxes": [[1, 2, 3], [1, 2, 3]]}, r"boxes of image 0: .*got shape \(3,\)"),
        ({"boxes": [[50, 60, 30, 30], None]}, r"\(50, 60, 30, 30\): are these x, y, width, height"),
        ({"landmarks": [None, "eyes"]}, "landmarks of image 1: .*got str"),
        ({"boxes": [7, 7]}, r"got shape \(1,\)"),
        (
            {"boxes": [[1, 2, 30, 40], None], "landmarks": [None, None]},
            "image 0: 1 boxes and 0 sets of landmarks",
        ),
        ({"boxes": [None, None], "aligned": True}, "don't go with aligned or fallback"),
        ({"boxes": [None, None], "fallback": "whole"}, "don't go with aligned or fallback"),
    ],
)
def test_what_can_not_be_meant(extractor, astronaut, given, message):
    with pytest.raises(ValueError, match=message):
        extractor.extract([astronaut, astronaut], **given)
