"""The data sets of a run: FER+, unlabelled faces, and whatever further tables a recipe names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.data import (
    Faces,
    Triplets,
    read,
    read_ferplus,
    read_triplets,
    read_unlabelled,
)
from fever_extract.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class TrainingSet:
    """Faces, and how many of them (or of their triplets, if there are any) a step takes."""

    faces: Faces
    count: int
    triplets: Triplets | None = None


def read_sets(recipe: Recipe, data: Path, *, taught: bool) -> list[TrainingSet]:
    """All that a recipe trains on; the first set's length is an epoch's.

    Args:
        recipe: the run's choices.
        data: folder of the tables.
        taught: whether there are teachers. Without them, an unlabelled face teaches only by
            its blendshapes.

    Raises:
        FileNotFoundError, ValueError: if a table is missing, or is none.
    """
    faces = read_ferplus(data, "train")
    # Where most of the vote said "unknown" or "no face", there is nothing to learn.
    labelled = select(faces, faces.expression.sum(axis=1) >= 0.5)
    sets = [TrainingSet(labelled, recipe.batch_size)]
    if recipe.unlabelled:
        unlabelled = read_unlabelled(data)
        known = np.isfinite(unlabelled.blendshapes).all(axis=1)
        useful = select(unlabelled, np.asarray(known | taught))
        sets.append(TrainingSet(useful, recipe.unlabelled))
    for part in recipe.tables:
        faces = read(data / part.table, part.split, part.size)
        if not faces.blendshape_names:
            missing = np.full((len(faces), len(labelled.blendshape_names)), np.nan, np.float32)
            faces = dataclasses.replace(
                faces, blendshapes=missing, blendshape_names=labelled.blendshape_names
            )
        triplets = read_triplets(data / part.triplets, faces) if part.triplets else None
        sets.append(TrainingSet(faces, part.count, triplets))
    return sets


def select(faces: Faces, mask: npt.NDArray[np.bool_]) -> Faces:
    """The faces where ``mask`` ``(n,)`` is true."""
    values = {
        item.name: getattr(faces, item.name)
        for item in dataclasses.fields(faces)
        if item.name != "blendshape_names"
    }
    return dataclasses.replace(faces, **{name: value[mask] for name, value in values.items()})
