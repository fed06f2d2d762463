"""Measuring weights by the FER+ test protocol."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract import hub
from fever_extract.card import write_card
from fever_extract.checkpoint import save
from fever_extract.config import EXPRESSIONS, WeightsError
from fever_extract.network import FeverNet, build, pick_device
from fever_extract.training import augment
from fever_extract.training.data import Faces, majority, read_ferplus

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


def linear_probe(
    vectors: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    test_vectors: npt.NDArray[np.float32],
) -> npt.NDArray[np.int64]:
    """Predictions of a logistic regression on frozen vectors, at scikit-learn's defaults.

    Args:
        vectors, labels: ``(n, d)`` and ``(n,)`` to fit on.
        test_vectors: ``(m, d)``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    predicted: npt.NDArray[np.int64] = probe.fit(vectors, labels).predict(test_vectors)
    return predicted


def evaluate(
    weights: str | os.PathLike[str] | None, data: Path, device: str | None = None
) -> dict[str, object]:
    """Measure weights on FER+ test: the network's head, and a linear probe on the vectors.

    Args:
        weights: as in `fever_extract.Extractor`.
        data: folder of the Parquet tables.
        device: torch device; the best there is by default.

    Returns:
        What was measured and what with, ready for JSON. Accuracies are 0 to 1.
    """
    checkpoint = hub.load(weights)
    if checkpoint.config.expressions != EXPRESSIONS:
        raise WeightsError(f"{checkpoint.source} has not FER+'s expressions in their order")
    network = build(checkpoint.config, checkpoint.state_dict).to(pick_device(device))
    test, train = read_ferplus(data, "test"), read_ferplus(data, "train")
    truth = majority(test.expression)
    vectors, plain = predict(network, test)
    _, mirrored = predict(network, test, mirror=True)
    unaligned = dataclasses.replace(test, landmarks=np.full_like(test.landmarks, np.nan))
    _, as_cropped = predict(network, unaligned)
    labels = majority(train.expression)
    train_vectors, _ = predict(network, train)
    probe = linear_probe(train_vectors[labels >= 0], labels[labels >= 0], vectors)

    def accuracy(predicted: npt.NDArray[np.int64]) -> dict[str, object]:
        measured = Accuracy.of(predicted[truth >= 0], truth[truth >= 0])
        return {
            "accuracy": measured.accuracy,
            "mean_class_accuracy": measured.mean_class_accuracy,
            "by_class": measured.by_class,
        }

    return {
        "weights": checkpoint.config.name,
        "sha256": checkpoint.sha256,
        "command": "python -m fever_extract.training evaluate",
        "data": "FER+ test, majority protocol, 8 classes",
        "faces": int((truth >= 0).sum()),
        "faces_by_class": dict(
            zip(EXPRESSIONS, np.bincount(truth[truth >= 0], minlength=len(EXPRESSIONS)).tolist())
        ),
        "head": accuracy(plain.argmax(axis=1)),
        "head_with_mirror_image": accuracy(mirrored.argmax(axis=1)),
        "head_without_alignment": accuracy(as_cropped.argmax(axis=1)),
        "linear_probe": accuracy(probe),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {network.mean.device}",
        "torch": str(torch.__version__),
    }


def write_evaluation(
    folder: str | os.PathLike[str],
    evaluation: Mapping[str, object],
    description: str | None = None,
) -> None:
    """Put figures into a folder's ``config.json``, and make its model card anew.

    Args:
        folder: of the weights that were measured.
        evaluation: what `evaluate` returned.
        description: Markdown on how the weights were made; kept as it was if left out.
    """
    weights = hub.load(folder)
    added: dict[str, object] = {"evaluation": dict(evaluation)}
    if description is not None:
        added["description"] = description
    metadata = {**weights.config.metadata, **added}
    config = dataclasses.replace(weights.config, metadata=metadata)
    save(folder, config, weights.data)
    write_card(folder, config)
