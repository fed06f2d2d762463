"""What a generator gives is taken as it is used, a bounded number ahead, and not kept."""

import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from fever_extract import Status

SIZE = 2


@pytest.fixture
def path(astronaut, tmp_path):
    astronaut.resize((64, 64)).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


@pytest.fixture
def most():
    """Images that may be out at a time: two rounds of a batch for each thread."""
    return 2 * SIZE * torch.get_num_threads() + SIZE + 1


def test_images_are_never_together(extractor, path, most):
    alive = set()
    seen = []

    def pictures():
        for number in range(200):
            picture = Image.open(path)  # keeps its file open
            alive.add(number)
            weakref.finalize(picture, alive.discard, number)
            seen.append(len(alive))
            yield picture
            del picture

    vectors = extractor.extract(pictures(), aligned=True, batch_size=SIZE)
    assert vectors.shape == (200, extractor.embedding_dim)
    assert len(seen) == 200
    assert max(seen) <= most
    np.testing.assert_allclose(vectors[0], vectors[-1], atol=1e-4)


@pytest.mark.parametrize("size", [1, SIZE])
def test_a_bounded_number_ahead(extractor, path, most, size):
    given = iter(range(200))
    options = extractor._options.replace({"batch_size": size, "aligned": True})
    records = extractor._stream((path for _ in given), options)
    for done in range(1, 20):
        assert next(records).status is Status.OK
        assert 200 - given.__length_hint__() - done <= (most if size > 1 else 0)
    records.close()


def test_what_is_no_image_is_told_when_its_turn_comes(extractor, path):
    with pytest.raises(TypeError, match=r"image 1: expected a path.* got int"):
        extractor.extract((image for image in [path, 3]), aligned=True)
    assert extractor.extract(iter(()), aligned=True).shape == (0, extractor.embedding_dim)
