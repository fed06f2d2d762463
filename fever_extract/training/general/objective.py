"""The losses of all tasks, each over the faces of its set, with the heads of training only.

Labels of each set come with the set's own share of each class, and with that of the drawing.
Cross-entropies are of logits plus the logarithms of these shares (logit adjustment, Menon et al.
2020, arXiv 2007.07314), so that the bare logits presume that all classes are equally likely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fever_extract.models.backbones import MobileNetV1
from fever_extract.models.network import FeverNet
from fever_extract.training.general import web_teacher
from fever_extract.training.general.batches import Batch, Spans
from fever_extract.training.recipes.general import GeneralRecipe
from fever_extract.training.trainer.losses import masked_mean_square, soft_cross_entropy

if TYPE_CHECKING:
    import numpy.typing as npt

STATISTICS = 0.02
"""Momentum of the running statistics of embeddings and pooled features."""

_LEAST_DEVIATION = 0.05  # of a blendshape that hardly ever moves
_PROJECTION = (256, 128)


class Objective(nn.Module):
    """The losses, with the heads that exist in training only.

    Args:
        recipe: has their weights.
        network: what is trained.
        real, exact: blendshapes ``(n, 52)`` of FER+ and of synthetic faces, NaN where missing:
            their deviations are the unit of their errors.
        priors: each class's share in what is drawn of FER+, and of the faces: ``(8,)`` each.
    """

    real_scale: torch.Tensor
    exact_scale: torch.Tensor
    ferplus_prior: torch.Tensor
    faces_prior: torch.Tensor

    def __init__(
        self,
        recipe: GeneralRecipe,
        network: FeverNet,
        real: npt.NDArray[np.float32],
        exact: npt.NDArray[np.float32],
        priors: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        super().__init__()
        assert isinstance(network.backbone, MobileNetV1)
        self.recipe, self.spans, self.taps = recipe, Spans.of(recipe), network.backbone.lengths
        length, features = recipe.embedding_dim, network.backbone.features
        self.web = nn.Linear(length, len(web_teacher.CLASSES))
        self.exact = nn.Linear(length, real.shape[1])
        self.projection = nn.Sequential(
            nn.Linear(length, _PROJECTION[0]), nn.ReLU(), nn.Linear(*_PROJECTION)
        )
        self.decoder = nn.Linear(length, features)
        self.norm = nn.BatchNorm1d(features, affine=False, momentum=STATISTICS)
        constants = {
            "real_scale": _scale(real),
            "exact_scale": _scale(exact),
            "ferplus_prior": priors[0],
            "faces_prior": priors[1],
        }
        for name, values in constants.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, network: FeverNet, batch: Batch) -> dict[str, tuple[float, torch.Tensor]]:
        """Each task's weight and loss; the large layers under bfloat16 autocast.

        Args:
            network: see above.
            batch: on the network's device.
        """
        recipe, spans, device = self.recipe, self.spans, batch.crops.device.type
        with torch.autocast(device, torch.bfloat16):
            features = network.features(batch.crops.to(memory_format=torch.channels_last)).float()
            joined = network.embedding[0](network.dropout(features))
        embedding = network.embedding[1](joined.float())
        real, rendered = embedding[spans.real], embedding[spans.synthetic]
        with torch.autocast(device, torch.bfloat16):
            logits = network.heads["expression"](embedding).float()
            blendshapes = network.heads["blendshapes"](real).float().sigmoid()
            decoded = self.decoder(embedding).float()
            web = self.web(real).float() if recipe.web_teacher else None
        truth = batch.expression
        votes = adjusted_cross_entropy(
            logits[spans.ferplus], truth[spans.ferplus], self.ferplus_prior
        )
        moved = masked_mean_square(blendshapes, batch.blendshapes[spans.real], self.real_scale)
        losses = {
            "expression": (1.0, votes),
            "blendshape": (recipe.blendshape_weight, moved),
            "reconstruction": (recipe.reconstruction_weight, self._forgotten(decoded, features)),
        }
        if recipe.faces:
            smoothing = recipe.label_smoothing
            loss = adjusted_cross_entropy(
                logits[spans.faces], truth[spans.faces], self.faces_prior, smoothing
            )
            losses["label"] = (recipe.label_weight, loss)
        if web is not None:
            loss = soft_cross_entropy(web, batch.web[spans.real])
            losses["web"] = (recipe.web_teacher_weight, loss)
        if recipe.soft_weight:
            loss = soft_cross_entropy(logits[spans.real], batch.soft[spans.real])
            losses["soft"] = (recipe.soft_weight, loss)
        if recipe.synthetic:
            exact = batch.blendshapes[spans.synthetic]
            losses |= self._of_rendered(
                rendered, logits[spans.synthetic], truth[spans.synthetic], exact
            )
        return losses

    def _of_rendered(
        self,
        embedding: torch.Tensor,
        logits: torch.Tensor,
        truth: torch.Tensor,
        blendshapes: torch.Tensor,
    ) -> dict[str, tuple[float, torch.Tensor]]:
        recipe = self.recipe
        with torch.autocast(embedding.device.type, torch.bfloat16):
            told = self.exact(embedding).float().sigmoid()
            projected = self.projection(embedding).float()
        moved = masked_mean_square(told, blendshapes, self.exact_scale)
        losses = {
            "exact_blendshape": (recipe.synthetic_blendshape_weight, moved),
            "pair": (recipe.pair_weight, pairs_apart(projected, recipe.pair_temperature)),
        }
        named = truth.sum(dim=1) > 0
        if named.any():  # recipes are drawn alike: no prior to take out
            loss = F.cross_entropy(
                logits[named], truth[named], label_smoothing=recipe.synthetic_label_smoothing
            )
            losses["exact_label"] = (recipe.synthetic_label_weight, loss)
        return losses

    def _forgotten(self, decoded: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Mean square error of the standardised features; each tap counts alike."""
        with torch.no_grad():
            target = self.norm(features)
        by_feature = (decoded - target).square().mean(dim=0)
        return torch.stack([part.mean() for part in by_feature.split(self.taps)]).mean()


def adjusted_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, prior: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy after logit adjustment: bare logits presume no prior.

    Args:
        logits: ``(n, classes)``.
        target: ``(n, classes)`` soft labels, each of which sums to 1 or less.
        prior: ``(classes,)``, each class's share in what is drawn, smoothed as the targets.
        smoothing: share of each target that is spread over all classes.
    """
    if smoothing:
        total = target.sum(dim=1, keepdim=True)
        target = (1 - smoothing) * target + smoothing * total / target.shape[1]
    return soft_cross_entropy(logits + prior.log(), target)


def pairs_apart(projected: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) of neighbours in a batch.

    Args:
        projected: ``(2 k, d)``; rows 2 i and 2 i + 1 belong together.
        temperature: of the cosines.
    """
    directions = F.normalize(projected)
    similarities = directions @ directions.T / temperature
    similarities = similarities.fill_diagonal_(-1e4)
    partners = torch.arange(len(projected), device=projected.device) ^ 1
    return F.cross_entropy(similarities, partners)


def _scale(blendshapes: npt.NDArray[np.float32]) -> torch.Tensor:
    """One over each deviation; 0 where there is nothing to learn."""
    if not np.isfinite(blendshapes).any():
        return torch.zeros(blendshapes.shape[1])
    deviations = np.nanstd(blendshapes, axis=0)
    scale = 1 / np.maximum(deviations, _LEAST_DEVIATION)
    return torch.from_numpy(np.where(deviations > 0, scale, 0)).float()
