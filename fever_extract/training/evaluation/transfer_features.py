"""Features to compare on a transfer set: the network's layers and its peers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract import images
from fever_extract._utils import progress
from fever_extract.alignment import crop
from fever_extract.models.config import EXPRESSIONS, Preprocessing
from fever_extract.models.network import FeverNet
from fever_extract.records import ExtractionError
from fever_extract.training.data.faces import Faces
from fever_extract.training.evaluation import peers
from fever_extract.training.evaluation.crops import resized
from fever_extract.training.evaluation.face_recognition import SIZE
from fever_extract.training.evaluation.transfer_sets import TransferSet

if TYPE_CHECKING:
    import numpy.typing as npt

    Features = dict[str, npt.NDArray[np.float32]]

OWN = ("vector", "probabilities", "pooled", "valence_arousal")
BATCH = 64

_LUMINANCE = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)  # as the network's
_SMALL = 96  # pixels of the crop that HOG and pixels reduce to 48


def crops(table: TransferSet, preprocessing: Preprocessing) -> Iterator[torch.Tensor]:
    """Cut faces out as `fever_extract.Extractor` does, in colour and from the full picture.

    Args:
        table: the faces; one without landmarks is taken as a whole.
        preprocessing: gives the template and the crop's size.

    Yields:
        ``(b, 3, size, size)`` float32, 0 to 255, at most `BATCH` at a time.

    Raises:
        ValueError: if a picture can't be decoded.
    """
    starts = range(0, len(table), BATCH)
    for start in progress.bar(starts, desc=table.name, unit="batch", leave=False):
        rows = range(start, min(start + BATCH, len(table)))
        crops = [crop(_decode(table, row), table.landmarks[row], preprocessing) for row in rows]
        yield torch.stack(crops)


@torch.inference_mode()
def own_features(network: FeverNet, table: TransferSet) -> Features:
    """Show a set's faces to a network.

    Args:
        network: ready for inference.
        table: the faces.

    Returns:
        ``vector`` ``(n, d)``; ``probabilities`` ``(n, classes)`` of its expression head, if it
        has one; ``pooled``, its backbone's features; ``valence_arousal`` ``(n, 2)`` of its head
        for these, if it has one.
    """
    rows: dict[str, list[torch.Tensor]] = {}
    for batch in crops(table, network.config.preprocessing):
        shown = batch.to(network.mean.device).contiguous(memory_format=torch.channels_last)
        pooled = network.features(shown)
        embedding = network.embedding(pooled)
        heads = network.classify(embedding)
        said = {"vector": embedding, "pooled": pooled}
        if "expression" in heads:
            said["probabilities"] = network.probabilities(heads["expression"], "training")
        if "valence_arousal" in heads:
            said["valence_arousal"] = heads["valence_arousal"]
        for name, values in said.items():
            rows.setdefault(name, []).append(values.float().cpu())
    return {name: torch.cat(rows[name]).numpy() for name in OWN if name in rows}


def peer_features(
    table: TransferSet, preprocessing: Preprocessing, data: Path
) -> tuple[Features, dict[str, str]]:
    """Describe a set's faces by what could be used instead of embeddings.

    Args:
        table: the faces.
        preprocessing: how the weights align a face.
        data: folder that may hold a peer's weights.

    Returns:
        Features ``(n, d)`` by name, and what each peer lacks that can't be measured here.
    """
    described: Features = {}
    missing: dict[str, str] = {}
    scores = table.blendshapes
    if table.exact or not np.isfinite(scores).any():
        missing["blendshapes"] = f"{table.name} has none of MediaPipe's"
    else:
        described["blendshapes"] = np.where(
            np.isnan(scores), np.nanmean(scores, axis=0), scores
        ).astype(np.float32)
    faces: dict[int, Faces] = {}
    for name, size in (("hog", _SMALL), ("pixels", _SMALL), ("face_recognition", SIZE)):
        at_size = resized(preprocessing, size)
        try:
            describe = peers.make(name, at_size, _NOBODY, data)
        except peers.PeerMissingError as error:
            missing[name] = str(error)
            continue
        if size not in faces:
            faces[size] = _as_faces(table, at_size)
        described[name] = describe(faces[size])
    if "pixels" in described:
        # 24x24: probes of 2,304 numbers take minutes, and say no more.
        side = peers.SIDE // 2
        blocks = described["pixels"].reshape(-1, side, 2, side, 2)
        described["pixels"] = blocks.mean(axis=(2, 4)).reshape(len(table), -1)
    return described, missing


def _decode(table: TransferSet, row: int) -> npt.NDArray[np.uint8]:
    try:
        return images.read(table.images[row])
    except ExtractionError as error:
        raise ValueError(f"{table.name}: picture {row} of those measured {error}") from None


def _as_faces(table: TransferSet, preprocessing: Preprocessing) -> Faces:
    """Aligned crops in grey as whole pictures, which peers know how to read."""
    grey = [(batch * _LUMINANCE).sum(dim=1) for batch in crops(table, preprocessing)]
    pictures = torch.cat(grey).round().clamp(0, 255).byte().numpy()
    count = len(pictures)
    landmarks = np.full((count, 5, 2), np.nan, np.float32)
    return dataclasses.replace(
        _NOBODY,
        images=pictures,
        landmarks=landmarks,
        expression=np.zeros((count, len(EXPRESSIONS)), np.float32),
        blendshapes=np.zeros((count, 0), np.float32),
        names=np.zeros(count, str),
        valence_arousal=np.full((count, 2), np.nan, np.float32),
    )


_NOBODY = Faces(
    images=np.zeros((0, 1, 1), np.uint8),
    landmarks=np.zeros((0, 5, 2), np.float32),
    expression=np.zeros((0, len(EXPRESSIONS)), np.float32),
    blendshapes=np.zeros((0, 0), np.float32),
    blendshape_names=(),
    names=np.zeros(0, str),
    valence_arousal=np.zeros((0, 2), np.float32),
)
