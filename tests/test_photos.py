"""Real photographs, where ``../shared/photos`` is there."""

import numpy as np
import pytest
from helpers import cosine
from PIL import Image

from fever_extract import images

FACES = {
    "portrait_1.jpg": 1,
    "portrait_2.jpg": 1,
    "portrait_3.jpg": 1,
    "portrait_4.jpg": 1,
    "single.jpg": 1,
    "group_1.jpg": 6,
    "group_2.jpg": 5,
    "happiness.jpg": 1,
    "surprise.jpg": 1,
    "anger.jpg": 1,
    "disgust.jpg": 1,
    "alpha.png": 1,
    "grayscale.jpg": 0,
    "no_face.jpg": 0,
}


def test_as_many_faces_as_there_are(extractor, photos):
    found = {name: len(extractor.extract_faces(photos / name)) for name in FACES}
    assert found == FACES


@pytest.mark.parametrize("name", ["happiness", "surprise"])
def test_posed_expressions(extractor, photos, name):
    (face,) = extractor.extract_faces(photos / f"{name}.jpg")
    assert face.expression == name


@pytest.mark.parametrize("name", ["group_1.jpg", "group_2.jpg"])
def test_a_face_of_a_group_cut_out_by_hand_is_the_same(extractor, photos, name):
    """Cut with a margin of half a face and extracted alone: cosine 0.98 or more."""
    picture = images.read(photos / name)
    for face in extractor.extract_faces(picture):
        x1, y1, x2, y2 = face.box
        margin = face.size / 2
        left, top = (int(max(value - margin, 0)) for value in (x1, y1))
        cut = picture[top : int(y2 + margin), left : int(x2 + margin)]
        alone = extractor.extract(np.ascontiguousarray(cut), select="center", on_error="raise")
        assert cosine(face.vector, alone) > 0.98


def test_alone_in_a_mixed_batch_and_reversed(extractor, photos):
    paths = [photos / name for name, count in FACES.items() if count]
    together = extractor.extract(paths)
    alone = np.stack([extractor.extract(path) for path in paths])
    reversed_ = extractor.extract(paths[::-1], batch_size=5)[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(together, reversed_, atol=1e-4)


def test_the_upright_vector_of_a_turned_photograph(extractor, photos, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    with Image.open(photos / "single.jpg") as picture:
        picture.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.png", exif=exif)
    upright, turned = extractor.extract([photos / "single.jpg", tmp_path / "turned.png"])
    np.testing.assert_allclose(upright, turned, atol=1e-4)
