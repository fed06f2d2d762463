"""The embedded default, measured on FER+ where ``../shared/data`` is there."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from fever_extract.alignment import crop
from fever_extract.hub.card import model_card
from fever_extract.training.data.faces import Faces, majority, read_ferplus
from fever_extract.training.evaluation.evaluate import linear_probe

WEIGHTS = Path(__file__).parents[1] / "weights"


def test_the_folder_is_a_whole_hub_repository(extractor):
    model = WEIGHTS / "model.safetensors"
    assert model.stat().st_size <= 20_000_000
    assert hashlib.sha256(model.read_bytes()).hexdigest() == extractor.sha256
    assert extractor.config.heads == {"expression": 8, "blendshapes": 52}


def test_the_model_card_is_about_these_weights(extractor):
    card = (WEIGHTS / "README.md").read_text()
    assert card == model_card(extractor.config)
    evaluation = extractor.config.metadata["evaluation"]
    assert evaluation["sha256"] == extractor.sha256
    assert f"| {100 * evaluation['head']['accuracy']:.1f} " in card
    assert extractor.sha256 in card
    assert "not the weights" in card


def aligned_crops(faces: Faces, kept: np.ndarray, preprocessing) -> list[np.ndarray]:
    """Crops such as a user who aligned a data set once would keep."""
    crops = (
        crop(np.repeat(image[:, :, None], 3, axis=2), landmarks, preprocessing)
        for image, landmarks in zip(faces.images[kept], faces.landmarks[kept])
    )
    return [one.permute(1, 2, 0).round().byte().numpy() for one in crops]


@pytest.fixture(scope="module")
def ferplus(extractor, data):
    """Vectors, the head's class and the majority label of both splits, through `Extractor`."""
    measured = {}
    for split in ("train", "test"):
        faces = read_ferplus(data, split)
        labels = majority(faces.expression)
        kept = np.flatnonzero(labels >= 0)
        if split == "train":
            # An eighth: the whole of it is measured by `fever_extract.training evaluate`.
            kept = kept[::8]
        crops = aligned_crops(faces, kept, extractor.config.preprocessing)
        records = extractor.extract_records(crops, aligned=True, prior="training")
        vectors = np.stack([record.face.vector for record in records])
        heads = [extractor.config.expressions.index(record.face.expression) for record in records]
        measured[split] = vectors, np.array(heads), labels[kept]
    return measured


def test_the_head_reaches_86_percent(ferplus):
    _, predicted, labels = ferplus["test"]
    assert len(labels) == 3152
    assert (predicted == labels).mean() >= 0.86


def test_a_logistic_regression_on_vectors_is_as_good_as_the_head(ferplus):
    vectors, _, labels = ferplus["train"]
    test_vectors, heads, truth = ferplus["test"]
    probe = (linear_probe(vectors, labels, test_vectors) == truth).mean()
    assert probe >= (heads == truth).mean() - 0.02


def test_detection_finds_most_small_crops(extractor, data):
    """FER+ pictures are 48 pixels: MTCNN misses some; `fallback` is for those."""
    faces = read_ferplus(data, "valid")
    pictures = [np.repeat(image[:, :, None], 3, axis=2) for image in faces.images[:200]]
    records = extractor.extract_records(pictures, fallback="whole")
    assert all(record.face is not None for record in records)
    detected = np.mean([record.face.detected for record in records])
    print(f"{detected:.1%} detected, {os.cpu_count()} cores")
    assert detected > 0.8
