"""A Pillow image's pixels as an array, in a fraction of the time."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.kernels.library import instructions, library

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

# A prototype of its own: other packages may have given that of `ctypes` other types.
_address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def to_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Convert an RGB image to an array, as `numpy.array`, without the interpreter lock.

    Pillow holds four bytes a pixel, and shows them as an Arrow array if they lie in one piece.

    Returns:
        ``(h, w, 3)`` uint8.
    """
    assert image.mode == "RGB"
    if instructions() and hasattr(image, "__arrow_c_array__"):  # from Pillow 11.2.1 on
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        try:
            _, capsule = image.__arrow_c_array__()
        except ValueError:  # several pieces
            return np.array(image)
        array = _address(capsule, b"arrow_array")
        if library().fever_pack(array, image.width * image.height, pixels.ctypes.data) == 0:
            return pixels
    return np.array(image)
