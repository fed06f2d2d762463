"""Image corruptions, each by one fixed, seeded rule.

All but `jitter` leave the landmarks as they were: what is measured is the network, not a detector.
All of it is done to the picture before it is aligned, as it would happen to a user.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fever_extract.alignment import sampling_matrices
from fever_extract.models.config import Preprocessing
from fever_extract.training.data.faces import Faces
from fever_extract.training.evaluation import SEED

if TYPE_CHECKING:
    import numpy.typing as npt

HALVES = ("lower_half", "upper_half")
BLOCK = 0.4
RESOLUTIONS = (32, 24, 16, 12)
JITTER = 0.05


def cover_half(faces: Faces, half: str) -> Faces:
    """Black out the picture's ``lower_half`` (as a mask) or ``upper_half`` (as a headset)."""
    images, middle = faces.images.copy(), faces.images.shape[1] // 2
    images[:, slice(middle, None) if half == "lower_half" else slice(middle)] = 0
    return dataclasses.replace(faces, images=images)


def cover_block(faces: Faces, share: float = BLOCK) -> Faces:
    """Black out one rectangle of that share of each picture, wholly inside it.

    Its height to width is between 1:2 and 2:1, uniform in the logarithm; its place is uniform.
    """
    random, images = np.random.default_rng(SEED), faces.images.copy()
    count, side, _ = images.shape
    height = np.sqrt(share * np.exp2(random.uniform(-1, 1, count)))
    rows = np.rint(side * height).astype(int)
    columns = np.rint(side * side * share / rows).astype(int)
    tops, lefts = random.integers(side - rows + 1), random.integers(side - columns + 1)
    for image, top, left, tall, wide in zip(images, tops, lefts, rows, columns):
        image[top : top + tall, left : left + wide] = 0
    return dataclasses.replace(faces, images=images)


def reduce(faces: Faces, side: int) -> Faces:
    """Reduce the pictures to ``side`` pixels by area and enlarge them again, bicubically."""
    images = faces.images.copy()
    for image in images:
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
        image[:] = np.asarray(small.resize(image.shape[::-1], Image.Resampling.BICUBIC))
    return dataclasses.replace(faces, images=images)


def jitter(faces: Faces, preprocessing: Preprocessing, share: float = JITTER) -> Faces:
    """Move each landmark by Gaussian noise; faces without landmarks stay as they are.

    The noise's standard deviation, in x and in y, is that share of the side of the face's own
    crop, in pixels of the picture: the five points err independently of one another.
    """
    known = np.isfinite(faces.landmarks).all(axis=(1, 2))
    landmarks = faces.landmarks.copy()
    sides = crop_sides(landmarks[known], preprocessing)
    noise = np.random.default_rng(SEED).standard_normal(faces.landmarks.shape)[known]
    landmarks[known] += (noise * share * sides[:, None, None]).astype(np.float32)
    return dataclasses.replace(faces, landmarks=landmarks)


def unalign(faces: Faces) -> Faces:
    """Forget the landmarks: the pictures are then taken as their data set crops them."""
    return dataclasses.replace(faces, landmarks=np.full_like(faces.landmarks, np.nan))


def crop_sides(
    landmarks: npt.NDArray[np.floating], preprocessing: Preprocessing
) -> npt.NDArray[np.float64]:
    """Side of each face's crop ``(n,)``, in pixels of the picture."""
    matrices = sampling_matrices(landmarks, preprocessing)
    sides: npt.NDArray[np.float64] = preprocessing.size * np.hypot(*matrices[:, :, 0].T)
    return sides
