"""Measuring weights by the FER+ test protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract.config import EXPRESSIONS
from fever_extract.network import FeverNet
from fever_extract.training import augment
from fever_extract.training.data import Faces, majority

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy on faces whose vote has a majority.

    Attributes:
        accuracy: over all faces, 0 to 1.
        by_class: per expression, 0 to 1; NaN for a class without a face.
        count: number of faces.
    """

    accuracy: float
    by_class: dict[str, float]
    count: int

    @property
    def mean_class_accuracy(self) -> float:
        """Mean over the classes that have a face."""
        return float(np.nanmean(list(self.by_class.values())))

    @classmethod
    def of(cls, predicted: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> Accuracy:
        """From class indices ``(n,)`` and ``(n,)``."""
        right = predicted == truth
        classes = {
            name: float(right[truth == index].mean()) if (truth == index).any() else float("nan")
            for index, name in enumerate(EXPRESSIONS)
        }
        return cls(float(right.mean()), classes, len(truth))


@torch.inference_mode()
def predict(
    network: FeverNet, faces: Faces, mirror: bool = False, batch_size: int = 256
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Embeddings ``(n, d)`` and expression probabilities ``(n, 8)``, float32.

    Args:
        network: in any mode; it is put into evaluation mode.
        faces: pictures with landmarks, aligned as `Extractor` would align them.
        mirror: average the probabilities with those of the mirror image.
        batch_size: crops at a time.
    """
    network.eval()
    preprocessing, device = network.config.preprocessing, network.mean.device
    matrices = augment.crop_matrices(faces, preprocessing)
    embeddings, probabilities = [], []
    for indices in torch.split(torch.arange(len(faces)), batch_size):
        crops = augment.sample(faces, indices, matrices[indices], preprocessing).to(device)
        output = network(crops)
        chances = output.heads["expression"].softmax(dim=1)
        if mirror:
            chances = (chances + network(crops.flip(3)).heads["expression"].softmax(dim=1)) / 2
        embeddings.append(output.embedding.cpu().numpy())
        probabilities.append(chances.cpu().numpy())
    return np.concatenate(embeddings), np.concatenate(probabilities)


def evaluate_head(network: FeverNet, faces: Faces, mirror: bool = False) -> Accuracy:
    """The network's own head under the "majority" protocol."""
    truth = majority(faces.expression)
    _, probabilities = predict(network, faces, mirror)
    return Accuracy.of(probabilities.argmax(axis=1)[truth >= 0], truth[truth >= 0])
