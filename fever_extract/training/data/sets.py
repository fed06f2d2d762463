"""Data sets of a run: labelled faces, unlabelled faces, and the tables that a recipe names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.data.faces import (
    Faces,
    Triplets,
    read,
    read_triplets,
    read_unlabelled,
)
from fever_extract.training.recipes.recipe import Recipe

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
        FileNotFoundError, ValueError: if a table is missing, or is none, or has blendshapes of
            its own kind; or if unlabelled faces would teach nothing.
    """
    faces = read(data / recipe.labelled, "train", recipe.labelled_size)
    # Where most of the vote said "unknown" or "no face", there is nothing to learn.
    named = faces.expression.sum(axis=1) >= 0.5
    labelled = select(faces, named | np.isfinite(faces.valence_arousal).all(axis=1))
    sets = [TrainingSet(labelled, recipe.batch_size)]
    if recipe.unlabelled:
        unlabelled = read_unlabelled(data)
        known = np.isfinite(unlabelled.blendshapes).any(axis=1)
        if not taught and not known.any():
            raise ValueError(
                "the unlabelled faces have no blendshapes, and there are no teachers to learn "
                'from: give --teacher, or a recipe with "unlabelled": 0'
            )
        useful = select(unlabelled, np.asarray(known | taught))
        sets.append(TrainingSet(useful, recipe.unlabelled))
    for part in recipe.tables:
        faces = read(data / part.table, part.split, part.size)
        triplets = read_triplets(data / part.triplets, faces) if part.triplets else None
        sets.append(TrainingSet(faces, part.count, triplets))
    return _with_the_same_blendshapes(sets)


def _with_the_same_blendshapes(sets: list[TrainingSet]) -> list[TrainingSet]:
    """NaN for the blendshapes of tables that have none, where another has some."""
    kinds = {one.faces.blendshape_names for one in sets if one.faces.blendshape_names}
    if len(kinds) > 1:
        raise ValueError("the tables differ in the names or order of their blendshapes")
    names = kinds.pop() if kinds else ()

    def fill(faces: Faces) -> Faces:
        if faces.blendshape_names:
            return faces
        missing = np.full((len(faces), len(names)), np.nan, np.float32)
        return dataclasses.replace(faces, blendshapes=missing, blendshape_names=names)

    return [dataclasses.replace(one, faces=fill(one.faces)) for one in sets]


def select(faces: Faces, mask: npt.NDArray[np.bool_]) -> Faces:
    """The faces where ``mask`` ``(n,)`` is true."""
    values = {
        item.name: getattr(faces, item.name)
        for item in dataclasses.fields(faces)
        if item.name != "blendshape_names"
    }
    return dataclasses.replace(faces, **{name: value[mask] for name, value in values.items()})
