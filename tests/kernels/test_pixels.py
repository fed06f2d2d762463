"""Pixels of Pillow's images are those that NumPy gets, wherever Pillow keeps them."""

import numpy as np
import pytest
from PIL import Image

from fever_extract.kernels.pixels import to_array


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 1), (3, 7), (640, 481), (4000, 1500)])
def test_an_array_has_the_pixels_of_the_image(size):
    """The last is kept in several pieces, which are not shown as one array."""
    random = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    image = Image.fromarray(random)
    pixels = to_array(image)
    np.testing.assert_array_equal(pixels, random)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    pixels[:] = 0  # it is a copy
    np.testing.assert_array_equal(np.array(image), random)


def test_a_turned_and_a_mapped_image_too(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    image = Image.fromarray(random)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(to_array(turned), np.rot90(random))
    image.save(tmp_path / "a.ppm")
    with Image.open(tmp_path / "a.ppm") as file:
        file.load()
        np.testing.assert_array_equal(to_array(file), random)
