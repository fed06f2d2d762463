"""Multi-task training objective: the sum of all tasks' losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fever_extract.models.backbones import TwoStream
from fever_extract.models.config import EXPRESSIONS
from fever_extract.models.network import FeverNet
from fever_extract.training.recipes.recipe import Recipe
from fever_extract.training.trainer.batches import Batch
from fever_extract.training.trainer.losses import (
    concordance,
    geometry,
    masked_mean_square,
    soft_cross_entropy,
    triplet,
)
from fever_extract.training.trainer.teachers import likeness

if TYPE_CHECKING:
    import numpy.typing as npt


class Objective(nn.Module):
    """The losses, with the heads that exist in training only.

    Args:
        recipe: has their weights.
        network: what is trained.
        blendshapes: ``(n, 52)``, NaN where missing: their deviations are the unit of their errors.
    """

    blendshape_scale: torch.Tensor

    def __init__(
        self, recipe: Recipe, network: FeverNet, blendshapes: npt.NDArray[np.float32]
    ) -> None:
        super().__init__()
        self.recipe = recipe
        deviations = np.nanstd(blendshapes, axis=0)
        scale = torch.from_numpy(1 / np.maximum(deviations, 0.05))
        self.register_buffer("blendshape_scale", scale, persistent=False)
        self.lengths: list[int] = []
        if recipe.auxiliary_weight and isinstance(network.backbone, TwoStream):
            self.lengths = list(network.backbone.lengths)
        self.auxiliary = nn.ModuleList(nn.Linear(one, len(EXPRESSIONS)) for one in self.lengths)

    def forward(self, network: FeverNet, batch: Batch) -> dict[str, tuple[float, torch.Tensor]]:
        """Each task's weight and loss; under bfloat16 autocast.

        Args:
            network: see above.
            batch: distorted already, on the network's device.
        """
        recipe = self.recipe
        with torch.autocast(batch.crops.device.type, torch.bfloat16):
            features = network.features(batch.crops.to(memory_format=torch.channels_last))
            embedding = network.embedding(network.dropout(features))
            heads = network.classify(embedding)
            streams = torch.split(features, self.lengths, 1) if self.lengths else ()
            alone = [head(part).float() for head, part in zip(self.auxiliary, streams)]
        heads, embedding = {name: head.float() for name, head in heads.items()}, embedding.float()
        losses = {
            "expression": (1.0, soft_cross_entropy(heads["expression"], batch.expression)),
        }
        if "blendshapes" in heads:
            loss = masked_mean_square(
                heads["blendshapes"], batch.blendshapes, self.blendshape_scale
            )
            losses["blendshape"] = (recipe.blendshape_weight, loss)
        if recipe.geometry_weight:
            alike = likeness(batch.expression, batch.embeddings, recipe.geometry_teachers)
            losses["geometry"] = (recipe.geometry_weight, geometry(embedding, alike))
        for index, logits in enumerate(alone):
            loss = soft_cross_entropy(logits, batch.expression)
            losses[f"stream_{index}"] = (recipe.auxiliary_weight, loss)
        if "valence_arousal" in heads:
            loss = concordance(heads["valence_arousal"], batch.valence_arousal)
            losses["valence_arousal"] = (recipe.valence_arousal_weight, loss)
        if len(batch.triplets):
            first, second, odd = (embedding[rows] for rows in batch.triplets.T)
            loss = triplet(first, second, odd, recipe.triplet_margin)
            losses["triplet"] = (recipe.triplet_weight, loss)
        return losses
