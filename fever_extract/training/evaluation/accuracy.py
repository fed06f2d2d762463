"""Accuracy on the majority's expression: of the network's head, and of probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract.models.config import EXPRESSIONS
from fever_extract.models.network import FeverNet
from fever_extract.training.data.faces import Faces, majority
from fever_extract.training.evaluation import bootstrap, crops

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


@dataclass(frozen=True)
class Predictions:
    """What a network says of n faces.

    Attributes:
        embeddings: ``(n, d)`` float32, of the pictures as they are.
        head: ``(n, 8)`` float32, the head's probabilities.
        mirrored: ``(n, 8)`` float32, averaged with those of the mirror image; equal to ``head``
            where the mirror image was not asked for.
    """

    embeddings: npt.NDArray[np.float32]
    head: npt.NDArray[np.float32]
    mirrored: npt.NDArray[np.float32]


@torch.inference_mode()
def run(
    network: FeverNet,
    faces: Faces,
    mirror: bool = False,
    batch_size: int = 64,
    what: str = "faces",
) -> Predictions:
    """Show faces to a network; its probabilities presume the training set's prior, as FER+ has it.

    Args:
        network: in any mode; it is put into evaluation mode.
        faces: pictures with landmarks, aligned as `Extractor` would align them.
        mirror: show the mirror images, too.
        batch_size: crops at a time.
        what: named by the progress bar.
    """
    network.eval()
    rows = []
    for batch in crops.batches(faces, network.config.preprocessing, batch_size, what):
        shown = batch.to(network.mean.device)
        output = network(shown)
        head = mirrored = network.probabilities(output.heads["expression"], "training")
        if mirror:
            turned = network(shown.flip(3)).heads["expression"]
            mirrored = (head + network.probabilities(turned, "training")) / 2
        rows.append([part.float().cpu().numpy() for part in (output.embedding, head, mirrored)])
    return Predictions(*(np.concatenate(parts) for parts in zip(*rows)))


def predict(
    network: FeverNet, faces: Faces, mirror: bool = False, batch_size: int = 64
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Embeddings ``(n, d)`` and expression probabilities ``(n, 8)``, float32.

    Args:
        network: in any mode; it is put into evaluation mode.
        faces: pictures with landmarks, aligned as `Extractor` would align them.
        mirror: average the probabilities with those of the mirror image.
        batch_size: crops at a time.
    """
    predictions = run(network, faces, mirror, batch_size)
    return predictions.embeddings, predictions.mirrored


def evaluate_head(network: FeverNet, faces: Faces, mirror: bool = False) -> Accuracy:
    """The network's own head under the "majority" protocol."""
    truth = majority(faces.expression)
    _, probabilities = predict(network, faces, mirror)
    return Accuracy.of(probabilities.argmax(axis=1)[truth >= 0], truth[truth >= 0])


def linear_probe(
    embeddings: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    test_embeddings: npt.NDArray[np.float32],
) -> npt.NDArray[np.int64]:
    """Predictions of a logistic regression on frozen embeddings, at scikit-learn's defaults.

    Args:
        embeddings, labels: ``(n, d)`` and ``(n,)`` to fit on.
        test_embeddings: ``(m, d)``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    predicted: npt.NDArray[np.int64] = probe.fit(embeddings, labels).predict(test_embeddings)
    return predicted


def summary(right: npt.NDArray[np.bool_], truth: npt.NDArray[np.int64]) -> dict[str, object]:
    """Accuracy over the images and over the classes, with 95 % intervals, ready for JSON.

    Args:
        right, truth: ``(n,)``, whether an image was told right, and its class.
    """
    by_class = [right[truth == index].mean() for index in np.unique(truth)]
    return {
        "accuracy": float(right.mean()),
        "accuracy_interval": bootstrap.mean_interval(right),
        "mean_class_accuracy": float(np.mean(by_class)),
        "mean_class_accuracy_interval": bootstrap.class_means_interval(
            right, truth, len(EXPRESSIONS)
        ),
    }


def figures(predicted: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> dict[str, object]:
    """The same, by class as well (None for a class without a face).

    Args:
        predicted, truth: class indices ``(n,)``.
    """
    by_class = Accuracy.of(predicted, truth).by_class
    return {
        **summary(predicted == truth, truth),
        "by_class": {n: None if np.isnan(share) else share for n, share in by_class.items()},
    }
