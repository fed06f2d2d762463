"""What each step sees: faces of all sets, rare classes more often, the same for the same seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from fever_extract.training.data import augment
from fever_extract.training.data.degrade import degrade
from fever_extract.training.general.crops import views
from fever_extract.training.general.sources import Sources
from fever_extract.training.recipes.general import GeneralRecipe

if TYPE_CHECKING:
    import numpy.typing as npt

RAREST = 1e-3
"""Least share of a class, where its logarithm is taken."""


class Spans(NamedTuple):
    """Which rows of a batch are of which set."""

    ferplus: slice
    faces: slice
    real: slice
    synthetic: slice

    @classmethod
    def of(cls, recipe: GeneralRecipe) -> Spans:
        """By the recipe's counts; real are FER+, faces and portraits."""
        labelled = recipe.ferplus + recipe.faces
        real = labelled + recipe.portraits
        return cls(
            slice(0, recipe.ferplus),
            slice(recipe.ferplus, labelled),
            slice(0, real),
            slice(real, real + recipe.synthetic),
        )


@dataclass(frozen=True)
class Batch:
    """n distorted crops, in the order of `Spans`, and what they should give.

    Attributes:
        crops: ``(n, 1, s, s)`` float32, 0 to 255.
        expression: ``(n, 8)`` soft labels, zero where there are none.
        blendshapes: ``(n, 52)``, NaN where missing.
        web: ``(n, 7)``, the probabilities of the teacher that learned elsewhere.
        soft: ``(n, 8)``, what the weights say that the run began from; zero for rendered faces.
    """

    crops: torch.Tensor
    expression: torch.Tensor
    blendshapes: torch.Tensor
    web: torch.Tensor
    soft: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(tensor.to(device) for tensor in vars(self).values()))


class Batches:
    """Batches by the number of the step.

    Args:
        recipe: the run's choices.
        sources: the sets.
        words: what the weights say that the run began from: ``(len(source), 8)`` of FER+, and
            of the other real sets where the recipe learns from it.
        mirrored: for each blendshape, its mirror image's index.

    Raises:
        ValueError: if there are fewer pairs of synthetic faces than a step takes.
    """

    def __init__(
        self,
        recipe: GeneralRecipe,
        sources: Sources,
        words: Mapping[str, npt.NDArray[np.float32]],
        mirrored: torch.Tensor,
    ) -> None:
        self.recipe, self.sources, self.mirrored, self.words = recipe, sources, mirrored, words
        self.pairs = len(sources.synthetic) // 2
        if self.pairs < recipe.synthetic // 2:
            raise ValueError(
                f"{self.pairs} pairs of synthetic faces don't fill a step of {recipe.synthetic}"
            )
        votes = sources.ferplus.expression
        told = words["ferplus"] * votes.sum(axis=1, keepdims=True)
        self.targets = (1 - recipe.distill) * votes + recipe.distill * told
        self.odds = [
            odds(source.expression, recipe.most_repeats)
            for source in (sources.ferplus, sources.faces)
        ]

    def __call__(self, step: int) -> Batch:
        """Draw, move about and distort the faces of a step."""
        recipe, sources, spans = self.recipe, self.sources, Spans.of(self.recipe)
        seed = step_seed(recipe, step)
        random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        ferplus = random.choice(len(sources.ferplus), recipe.ferplus, p=self.odds[0])
        rows = {"ferplus": ferplus}
        if recipe.faces:
            rows["faces"] = random.choice(len(sources.faces), recipe.faces, p=self.odds[1])
        if recipe.portraits:
            rows["portraits"] = random.integers(len(sources.portraits), size=recipe.portraits)
        if recipe.synthetic:
            pairs = random.choice(self.pairs, recipe.synthetic // 2, replace=False)
            rows["synthetic"] = (2 * pairs[:, None] + np.arange(2)).reshape(-1)

        def drawn(what: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(getattr(sources, n), what)[i] for n, i in rows.items()])

        crops = views(
            drawn("crops"),
            recipe.size,
            generator,
            recipe.jitter,
        )
        flipped = torch.rand(len(crops), generator=generator) < 0.5
        first, last = spans.synthetic.start, spans.synthetic.stop
        # Both of a pair or neither: mirrored, a lopsided expression is another one.
        flipped[first + 1 : last : 2] = flipped[first:last:2]
        crops = degrade(augment.mirror(crops, flipped), recipe.covered, recipe.poor, generator)
        expression, blendshapes, web = (
            torch.from_numpy(drawn(what)) for what in ("expression", "blendshapes", "web")
        )
        soft = torch.zeros_like(expression)
        if recipe.soft_weight:
            said = [self.words[name][i] for name, i in rows.items() if name != "synthetic"]
            soft[spans.real] = torch.from_numpy(np.concatenate(said))
        expression[: recipe.ferplus] = torch.from_numpy(self.targets[ferplus])
        return Batch(
            augment.distort(crops, generator),
            expression,
            torch.where(flipped[:, None], blendshapes[:, self.mirrored], blendshapes),
            web,
            soft,
        )

    def priors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the share of each class in what is drawn: ``(8,)`` of FER+, and of faces.

        Faces' labels are smoothed, as the loss on them does it.
        """
        sources = (self.sources.ferplus, self.sources.faces)
        ferplus, faces = (
            shares(source.expression, p) if len(source) else np.full(8, 1 / 8)
            for source, p in zip(sources, self.odds)
        )
        smoothing = self.recipe.label_smoothing
        faces = (1 - smoothing) * faces + smoothing / len(faces)
        return as_prior(ferplus), as_prior(faces)


def step_seed(recipe: GeneralRecipe, step: int) -> int:
    """Return the seed of a step: a resumed run draws what it would have drawn."""
    return recipe.seed * 1_000_003 + step


def odds(expression: npt.NDArray[np.float32], most: float) -> npt.NDArray[np.float64]:
    """Draw faces by the root of the inverse frequency of their likeliest class.

    Args:
        expression: ``(n, 8)``; a row of zeros gets the middle of the others' odds.
        most: times that the likeliest face is drawn for each time of the least likely.

    Returns:
        ``(n,)``, summing to one.
    """
    if not len(expression):
        return np.zeros(0)
    labelled, classes = expression.sum(axis=1) > 0, expression.argmax(axis=1)
    counts = np.bincount(classes[labelled], minlength=expression.shape[1])
    by_class = 1 / np.sqrt(np.maximum(counts, 1))
    weights = np.where(labelled, by_class[classes], np.median(by_class[classes]))
    weights = np.minimum(weights, weights.min() * most)
    return np.asarray(weights / weights.sum())


def shares(
    expression: npt.NDArray[np.float32], weights: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """Return the share of each class in soft labels that are drawn by weights.

    Args:
        expression: ``(n, 8)``; rows count by their sum unless there are weights.
        weights: ``(n,)``, by which each labelled row counts whole.

    Returns:
        ``(8,)``, summing to one.
    """
    rows = expression.astype(np.float64)
    if weights is not None:
        rows = rows * weights[:, None] / np.maximum(rows.sum(axis=1, keepdims=True), 1e-9)
    total = rows.sum(axis=0)
    return np.asarray(total / total.sum())


def as_prior(share: npt.NDArray[np.float64]) -> torch.Tensor:
    """Return shares as a tensor ``(8,)`` float32 whose logarithm can be taken."""
    return torch.from_numpy(share).float().clamp(min=RAREST)
