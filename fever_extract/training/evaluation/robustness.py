"""Robustness: the head's accuracy on corrupted images, against the clean ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fever_extract.models.network import FeverNet
from fever_extract.training.data.faces import Faces, majority
from fever_extract.training.evaluation import accuracy, bootstrap, corruptions
from fever_extract.training.evaluation.corruptions import HALVES, RESOLUTIONS

if TYPE_CHECKING:
    import numpy.typing as npt


def robustness(network: FeverNet, faces: Faces) -> dict[str, object]:
    """Occlusion, resolution and crop jitter, by the head averaged with the mirror image.

    Args:
        network: to be measured.
        faces: whose vote has a majority.

    Returns:
        ``occlusion`` (``lower_half``, ``upper_half``, ``block``), ``resolution`` (by pixels a
        side) and ``crop_jitter``; each with its accuracy and what is ``lost`` of the
        undisturbed pictures' accuracy, 0 to 1, with an interval over pairs.
    """
    truth = majority(faces.expression)
    clean = _right(network, faces, truth, "undisturbed")

    def measure(what: str, worse: Faces) -> dict[str, object]:
        right = _right(network, worse, truth, what)
        return {
            **accuracy.summary(right, truth),
            "lost": float(clean.mean() - right.mean()),
            "lost_interval": bootstrap.mean_interval(clean.astype(np.float32) - right),
        }

    occlusion = {half: measure(half, corruptions.cover_half(faces, half)) for half in HALVES}
    occlusion["block"] = measure("block", corruptions.cover_block(faces))
    moved = corruptions.jitter(faces, network.config.preprocessing)
    return {
        "occlusion": occlusion,
        "resolution": {
            str(side): measure(f"{side} px", corruptions.reduce(faces, side))
            for side in RESOLUTIONS
        },
        "crop_jitter": measure("jitter", moved),
    }


def _right(
    network: FeverNet, faces: Faces, truth: npt.NDArray[np.int64], what: str
) -> npt.NDArray[np.bool_]:
    named = accuracy.run(network, faces, mirror=True, what=what).mirrored.argmax(axis=1)
    right: npt.NDArray[np.bool_] = named == truth
    return right
