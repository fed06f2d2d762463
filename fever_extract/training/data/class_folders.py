"""Read a folder of class folders: detect, align and embed, as extraction does."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fever_extract import alignment, images
from fever_extract._utils import progress
from fever_extract._utils.names import printable, to_text
from fever_extract.folders import EXTENSIONS, list_images
from fever_extract.models.config import Preprocessing
from fever_extract.options import Options
from fever_extract.pipeline import Pipeline
from fever_extract.records import ExtractionError, Face

FEWEST = 5
"""Faces that each class needs: four to learn from and one to validate with."""
DETAIL = 2
"""A stored crop has so many pixels, a side, to one that the network sees."""

_VALIDATION = 0.2


@dataclass(frozen=True)
class LabelledFaces:
    """n faces of k classes.

    Attributes:
        crops: ``(n, 3, s, s)`` uint8, where s is `DETAIL` times the side of the network's.
        embeddings: ``(n, d)`` float32, by the weights that the faces were found with.
        labels: ``(n,)`` int64, 0 to k - 1.
    """

    crops: torch.Tensor
    embeddings: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: torch.Tensor) -> LabelledFaces:
        return LabelledFaces(self.crops[indices], self.embeddings[indices], self.labels[indices])

    def divide(self, seed: int) -> tuple[LabelledFaces, LabelledFaces]:
        """Faces to learn from and, of each class, a fifth to validate with."""
        from sklearn.model_selection import train_test_split

        parts = train_test_split(
            np.arange(len(self)),
            test_size=_VALIDATION,
            stratify=self.labels.numpy(),
            random_state=seed,
        )
        learnt, valid = (self[torch.from_numpy(part).sort().values] for part in parts)
        return learnt, valid


def find_classes(folder: Path) -> dict[str, list[Path]]:
    """The photographs of each class, in sorted order; a class is a folder's name.

    Photographs that lie in no class folder are told of.

    Raises:
        OSError: if the folder can't be read.
        ValueError: if it has fewer than two class folders, or one has no photographs.
    """
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if len(names) < 2:
        raise ValueError(
            f"{folder} has {len(names)} folders and needs two at least: one for each class, named "
            "after it, with photographs in it"
        )
    found = {name: [folder / name / path for path in list_images(folder / name)] for name in names}
    for name, paths in found.items():
        if not paths:
            raise ValueError(
                f"class {to_text(name)!r}: no photographs in {folder / name}; add some or remove it"
            )
    for entry in sorted(folder.iterdir()):
        if entry.is_file() and entry.suffix.lower() in EXTENSIONS:
            tqdm.write(f"left out: {printable(str(entry))}: in no class folder")
    return found


def find_faces(
    classes: dict[str, list[Path]], pipeline: Pipeline, options: Options
) -> LabelledFaces:
    """A face of each photograph that has one; the others are told of.

    Raises:
        ValueError: if a class has fewer than `FEWEST` faces.
    """
    # The head is learned on the embeddings as they come out of the network.
    options = dataclasses.replace(options, normalize=False, dtype="float32")
    listed = [(label, path) for label, paths in enumerate(classes.values()) for path in paths]
    records = pipeline.stream([str(path) for _, path in listed], options)
    crops, embeddings, labels = [], [], []
    bar = progress.bar(records, total=len(listed), unit="image", leave=False)
    for (label, path), record in zip(listed, bar):
        try:
            if record.face is None:
                raise ExtractionError(record.status, str(record.error))
            crops.append(_crop(path, record.face, pipeline.config.preprocessing))
        except ExtractionError as error:
            tqdm.write(f"left out: {printable(str(path))}: {error.status}, {error}")
            continue
        embeddings.append(record.face.embedding)
        labels.append(label)
    counts = Counter(labels)
    for label, (name, paths) in enumerate(classes.items()):
        if counts[label] < FEWEST:
            raise ValueError(
                f"class {to_text(name)!r}: faces were found in {counts[label]} of {len(paths)} "
                f"photographs, and {FEWEST} are needed at least; add photographs, or remove it"
            )
    return LabelledFaces(
        torch.stack(crops), torch.from_numpy(np.stack(embeddings)), torch.tensor(labels)
    )


def _crop(path: Path, face: Face, preprocessing: Preprocessing) -> torch.Tensor:
    """The face ``(3, s, s)`` uint8, from the photograph, which is read a second time."""
    pixels = images.read(str(path))
    framing = dataclasses.replace(preprocessing, size=DETAIL * preprocessing.size)
    return alignment.crop(pixels, face.landmarks, framing).round().clamp(0, 255).byte()
