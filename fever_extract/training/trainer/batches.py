"""Augmented batches of a run, reproducible by seed."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract.training.data import augment
from fever_extract.training.data.faces import Faces, Triplets, majority
from fever_extract.training.trainer.teachers import SoftTargets, mix

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.models.config import Preprocessing
    from fever_extract.training.data.sets import TrainingSet
    from fever_extract.training.recipes.recipe import Recipe

_RARE = 0.05  # of the labels: a class with fewer is rare


@dataclass(frozen=True)
class Batch:
    """Crops of n faces before distortion, and what they should give.

    Attributes:
        crops: ``(n, 1, s, s)`` float32, 0 to 255.
        expression: ``(n, 8)``, zero where there is no label.
        blendshapes: ``(n, 52)``, NaN where there is none.
        valence_arousal: ``(n, 2)``, NaN where there is none.
        embeddings: ``(n, k)``, the teachers' embeddings.
        triplets: ``(t, 3)`` int64, rows of the batch: two faces that are alike, and the odd one.
    """

    crops: torch.Tensor
    expression: torch.Tensor
    blendshapes: torch.Tensor
    valence_arousal: torch.Tensor
    embeddings: torch.Tensor
    triplets: torch.Tensor

    @classmethod
    def join(cls, batches: list[Batch]) -> Batch:
        """One batch of several."""
        starts = np.cumsum([0, *(len(one.crops) for one in batches)])
        moved = [
            dataclasses.replace(one, triplets=one.triplets + int(start))
            for one, start in zip(batches, starts)
        ]
        return cls(*(torch.cat(parts) for parts in zip(*(vars(one).values() for one in moved))))

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(tensor.to(device) for tensor in vars(self).values()))


class Stream:
    """One data set's part of every batch.

    Args:
        faces: the data set.
        embeddings: ``(len(faces), k)``, the teachers' embeddings; k may be 0.
        count: faces a batch.
        recipe: the run's choices.
        preprocessing: how a face becomes a crop.
    """

    def __init__(
        self,
        faces: Faces,
        embeddings: npt.NDArray[np.float32],
        *,
        count: int,
        recipe: Recipe,
        preprocessing: Preprocessing,
    ) -> None:
        self.faces, self.embeddings, self.count = faces, embeddings, count
        self.recipe, self.preprocessing = recipe, preprocessing
        self.indices = torch.from_numpy(with_rare_repeated(faces, recipe.rare_repeats))
        self.order = self.indices
        self._matrices = augment.crop_matrices(faces, preprocessing)
        self._whole = torch.from_numpy(augment.whole_picture(faces, preprocessing)).float()
        self._mirrored = augment.mirrored_names(faces.blendshape_names)

    def shuffle(self, generator: torch.Generator) -> None:
        """Another order, for an epoch."""
        self.order = self.indices[torch.randperm(len(self.indices), generator=generator)]

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """The step's faces in this epoch's order; past its end it begins again."""
        positions = torch.arange(step * self.count, (step + 1) * self.count) % len(self.order)
        return self._batch(self.order[positions], generator)

    def _batch(self, indices: torch.Tensor, generator: torch.Generator) -> Batch:
        matrices = self._matrices[indices]
        unaligned = torch.rand(len(indices), generator=generator) < self.recipe.unaligned
        matrices = torch.where(unaligned[:, None, None], self._whole, matrices)
        matrices = augment.jitter(matrices, self.preprocessing.size, generator, self.recipe.jitter)
        crops = augment.sample(self.faces, indices, matrices, self.preprocessing)
        flipped = torch.rand(len(indices), generator=generator) < 0.5
        blendshapes = torch.from_numpy(self.faces.blendshapes[indices.numpy()])
        return Batch(
            augment.mirror(crops, flipped),
            torch.from_numpy(self.faces.expression[indices.numpy()]),
            torch.where(flipped[:, None], blendshapes[:, self._mirrored], blendshapes),
            torch.from_numpy(self.faces.valence_arousal[indices.numpy()]),
            torch.from_numpy(self.embeddings[indices.numpy()]),
            torch.zeros(0, 3, dtype=torch.int64),
        )


class TripletStream(Stream):
    """Triplets of faces of which one is the odd one out, as a part of every batch.

    Args:
        triplets: of the faces; ``count`` and the order are of these.
        faces, embeddings, count, recipe, preprocessing: as of a `Stream`.
    """

    def __init__(
        self,
        triplets: Triplets,
        faces: Faces,
        embeddings: npt.NDArray[np.float32],
        *,
        count: int,
        recipe: Recipe,
        preprocessing: Preprocessing,
    ) -> None:
        super().__init__(faces, embeddings, count=count, recipe=recipe, preprocessing=preprocessing)
        others = np.array([[1, 2], [0, 2], [0, 1]])[triplets.odd]
        odd_last = np.concatenate([others, triplets.odd[:, None]], axis=1)
        self._triplets = torch.from_numpy(np.take_along_axis(triplets.indices, odd_last, axis=1))
        self.indices = torch.arange(len(triplets))
        self.order = self.indices

    def _batch(self, indices: torch.Tensor, generator: torch.Generator) -> Batch:
        batch = super()._batch(self._triplets[indices].reshape(-1), generator)
        return dataclasses.replace(batch, triplets=torch.arange(len(batch.crops)).reshape(-1, 3))


def open_stream(
    one: TrainingSet, targets: SoftTargets, recipe: Recipe, preprocessing: Preprocessing
) -> Stream:
    """A data set's part of every batch, its soft labels mixed with what teachers say."""
    faces = mix(one.faces, targets, recipe.distill_weight)
    if one.triplets is None:
        return Stream(
            faces, targets.embeddings, count=one.count, recipe=recipe, preprocessing=preprocessing
        )
    return TripletStream(
        one.triplets,
        faces,
        targets.embeddings,
        count=one.count,
        recipe=recipe,
        preprocessing=preprocessing,
    )


def with_rare_repeated(faces: Faces, most: int) -> npt.NDArray[np.int64]:
    """Indices of all faces, those of rare majority classes several times over.

    Args:
        faces: the data set; without labels nothing is repeated.
        most: times that a face may be there.
    """
    indices = np.arange(len(faces))
    classes = majority(faces.expression)
    if most <= 1:
        return indices
    times = np.ones(len(faces), np.int64)
    for label in np.unique(classes[classes >= 0]):
        mine = classes == label
        times[mine] = min(most, math.ceil(_RARE * (classes >= 0).sum() / mine.sum()))
    return np.repeat(indices, times)
