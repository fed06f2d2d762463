"""Sharpness falls with blur, exposure with light, and what is cut off is counted."""

import numpy as np
import pytest
from PIL import ImageEnhance, ImageFilter


def measures(extractor, picture, landmarks, name):
    (record,) = extractor.extract_records(picture, landmarks=landmarks)
    return getattr(record.face, name)


@pytest.fixture(scope="module")
def face(extractor, astronaut):
    return extractor.extract_faces(astronaut)[0]


def test_sharpness_falls_with_blur(extractor, astronaut, face):
    pictures = [astronaut.filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 1, 2, 4)]
    sharp = [measures(extractor, one, face.landmarks, "sharpness") for one in pictures]
    assert sharp[0] == pytest.approx(face.sharpness)
    assert sharp == sorted(sharp, reverse=True)
    assert sharp[0] > 10 * sharp[-1]


def test_exposure_falls_with_light(extractor, astronaut, face):
    pictures = [ImageEnhance.Brightness(astronaut).enhance(light) for light in (1, 0.5, 0)]
    light = [measures(extractor, one, face.landmarks, "exposure") for one in pictures]
    assert light[1] == pytest.approx(light[0] / 2, rel=0.02)
    assert light[2] == 0


def test_what_lies_outside(extractor, astronaut, face):
    assert face.outside == 0
    middle = face.landmarks[:, 0].mean()
    cut = np.asarray(astronaut)[:, int(middle) :]
    moved = face.landmarks - (int(middle), 0)
    assert measures(extractor, cut, moved, "outside") == pytest.approx(0.5, abs=0.06)
    (record,) = extractor.extract_records(astronaut, aligned=True)
    assert record.face.outside == 0
