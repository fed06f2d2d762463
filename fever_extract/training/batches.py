"""From a data set to the augmented batches of a run, the same again for the same seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract.training import augment
from fever_extract.training.data import Faces, majority

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.config import Preprocessing
    from fever_extract.training.recipe import Recipe

_RARE = 0.05  # of the labels: a class with fewer is rare


@dataclass(frozen=True)
class Batch:
    """Crops ``(n, 1, s, s)`` before distortion, and what they should give.

    ``expression`` is ``(n, 8)``, zero where there is no label; ``blendshapes`` is
    ``(n, 52)``, NaN where there is none; ``vectors`` is ``(n, k)``, the teachers' vectors.
    """

    crops: torch.Tensor
    expression: torch.Tensor
    blendshapes: torch.Tensor
    vectors: torch.Tensor

    @classmethod
    def join(cls, batches: list[Batch]) -> Batch:
        """One batch of several."""
        return cls(*(torch.cat(parts) for parts in zip(*(vars(one).values() for one in batches))))


class Stream:
    """One data set's part of every batch.

    Args:
        faces: the data set.
        vectors: ``(len(faces), k)``, the teachers' vectors; k may be 0.
        count: faces a batch.
        recipe: the run's choices.
        preprocessing: how a face becomes a crop.
    """

    def __init__(
        self,
        faces: Faces,
        vectors: npt.NDArray[np.float32],
        count: int,
        recipe: Recipe,
        preprocessing: Preprocessing,
    ) -> None:
        self.faces, self.vectors, self.count = faces, vectors, count
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
        indices = self.order[positions]
        matrices = self._matrices[indices]
        unaligned = torch.rand(len(indices), generator=generator) < self.recipe.unaligned
        matrices = torch.where(unaligned[:, None, None], self._whole, matrices)
        matrices = augment.jitter(matrices, self.preprocessing.size, generator)
        crops = augment.sample(self.faces, indices, matrices, self.preprocessing)
        flipped = torch.rand(len(indices), generator=generator) < 0.5
        blendshapes = torch.from_numpy(self.faces.blendshapes[indices.numpy()])
        return Batch(
            augment.mirror(crops, flipped),
            torch.from_numpy(self.faces.expression[indices.numpy()]),
            torch.where(flipped[:, None], blendshapes[:, self._mirrored], blendshapes),
            torch.from_numpy(self.vectors[indices.numpy()]),
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
