"""Draw faces on their image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from PIL import Image

from fever_extract.records import Face
from fever_extract.video.drawing import draw_face

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def annotate(pixels: npt.NDArray[np.uint8], faces: Iterable[Face]) -> Image.Image:
    """Draw each face's box, landmarks and expression on a copy of the image.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB, the picture that the faces were found in.
        faces: what was found.
    """
    picture = Image.fromarray(pixels).copy()
    for face in faces:
        text = "" if face.expression is None else f"{face.expression} {face.probability:.0%}"
        draw_face(picture, face, text)
    return picture
