"""Fine-tune a whole network to new classes, for `fever_extract.training.adapt`."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from fever_extract.alignment import warp
from fever_extract.models.network import FeverNet
from fever_extract.training.data import augment
from fever_extract.training.data.class_folders import DETAIL, LabelledFaces
from fever_extract.training.trainer.losses import masked_mean_square

BATCH = 32
OTHER_HEADS = 2.0
"""Weight of their loss beside that of the classes."""

_PEAK_LR = 1e-4
_WEIGHT_DECAY = 0.01


class FineTuning:
    """The state of a fine-tuning.

    The network stays in evaluation mode: a few faces are not enough for a batch norm's statistics.

    Args:
        network: changed in place.
        before: what the other heads are held to: the network as it was.
        faces: to learn from.
        epochs: planned; the learning rate rises and sinks over them.
        seed: of the order and the augmentation.
    """

    def __init__(
        self, network: FeverNet, before: FeverNet, faces: LabelledFaces, epochs: int, seed: int
    ) -> None:
        self.network, self.before, self.faces = network, before, faces
        self.generator = torch.Generator().manual_seed(seed)
        self.steps = math.ceil(len(faces) / BATCH)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=_PEAK_LR, weight_decay=_WEIGHT_DECAY
        )
        # It begins slowly: Adam's first steps are of full length, whatever the gradient.
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, _PEAK_LR, total_steps=epochs * self.steps + 1, cycle_momentum=False
        )
        with torch.no_grad():
            heads = before.classify(faces.embeddings.to(before.mean.device))
        self.scales = {
            name: 1 / values.std(dim=0).clamp(min=0.05) for name, values in heads.items()
        }

    def train_epoch(self) -> float:
        """One pass over the faces, in another order each; returns the mean loss."""
        order = torch.randperm(len(self.faces), generator=self.generator)
        batches = order.tensor_split(self.steps)
        return sum(self._step(self.faces[indices]) for indices in batches) / self.steps

    def _step(self, faces: LabelledFaces) -> float:
        device = self.network.mean.device
        crops = self._augmented(faces).to(device)
        heads = self.network(crops).heads
        with torch.no_grad():
            expected = self.before(crops).heads
        loss = F.cross_entropy(heads["expression"], faces.labels.to(device))
        for name in heads:
            if name != "expression":
                loss = loss + OTHER_HEADS * masked_mean_square(
                    heads[name], expected[name], self.scales[name]
                )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def _augmented(self, faces: LabelledFaces) -> torch.Tensor:
        """Crops ``(n, 3, size, size)``, as the recipes' training distorts them."""
        size = self.network.config.preprocessing.size
        matrix = torch.tensor([[DETAIL, 0.0, 0.0], [0.0, DETAIL, 0.0]])
        matrices = augment.jitter(matrix.repeat(len(faces), 1, 1), size, self.generator)
        crops = warp(faces.crops.float(), matrices, size)
        flipped = torch.rand(len(faces), generator=self.generator) < 0.5
        return augment.distort(augment.mirror(crops, flipped), self.generator)
