"""Subsets of `Faces` and their crops in batches, for the network and its peers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract._utils import progress
from fever_extract.models.config import Preprocessing
from fever_extract.training.data import augment
from fever_extract.training.data.faces import Faces

if TYPE_CHECKING:
    import numpy.typing as npt


def batches(
    faces: Faces, preprocessing: Preprocessing, batch_size: int, what: str = "faces"
) -> Iterator[torch.Tensor]:
    """Crops as `fever_extract.Extractor` aligns them; the whole picture where it has no landmarks.

    Args:
        faces: pictures with landmarks.
        preprocessing: gives the template and the crop's size.
        batch_size: crops at a time.
        what: named by the progress bar.

    Yields:
        ``(b, 1, size, size)`` float32, 0 to 255.
    """
    matrices = augment.crop_matrices(faces, preprocessing)
    parts = torch.split(torch.arange(len(faces)), batch_size)
    for indices in progress.bar(parts, desc=what, unit="batch", leave=False):
        yield augment.sample(faces, indices, matrices[indices], preprocessing)


def take(faces: Faces, chosen: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Faces:
    """The faces with these indices, or where a mask ``(n,)`` is true."""
    columns = {
        item.name: getattr(faces, item.name)[chosen]
        for item in dataclasses.fields(faces)
        if isinstance(getattr(faces, item.name), np.ndarray)
    }
    return dataclasses.replace(faces, **columns)


def resized(preprocessing: Preprocessing, size: int) -> Preprocessing:
    """The same alignment at another size."""
    return dataclasses.replace(preprocessing, size=size)
