"""One training run, from a recipe to a folder of weights."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from fever_extract import checkpoint, hub
from fever_extract.config import EXPRESSIONS, Config, Preprocessing
from fever_extract.files import replace_atomically
from fever_extract.network import FeverNet, build, pick_device
from fever_extract.training import augment
from fever_extract.training.data import Faces, read_ferplus, read_unlabelled
from fever_extract.training.evaluate import evaluate_head
from fever_extract.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy.typing as npt

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"

# Eyes, nose and mouth corners as fractions of the crop: the mean face of FER+ train with
# its eyes brought level, so that a crop is as tight as FER+'s own.
TEMPLATE = ((0.32, 0.38), (0.68, 0.38), (0.5, 0.593), (0.35, 0.77), (0.65, 0.77))


def train(
    recipe: Recipe,
    data: Path,
    output: Path,
    device: str | None = None,
    init: str | Path | None = None,
) -> Path:
    """Train, going on from ``output``'s checkpoint if a run was stopped there.

    Args:
        recipe: the run's choices.
        data: folder of the Parquet tables.
        output: folder for checkpoint, log and, at the end, the weights.
        device: torch device; the best there is by default.
        init: weights to begin from, as `Extractor` takes them; random by default.

    Returns:
        ``output``, a folder that `Extractor` loads.

    Raises:
        ValueError: if the checkpoint there belongs to another recipe.
    """
    run = Run(recipe, data, output, device, init)
    while run.epoch < recipe.epochs:
        run.train_epoch()
    halved = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in run.network.state_dict().items()
    }
    checkpoint.save(output, run.config, halved)
    return output


class Run:
    """The state of a run: network, optimiser, schedule and the epochs that are done."""

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        output: Path,
        device: str | None,
        init: str | Path | None = None,
    ) -> None:
        self.recipe, self.output, self.device = recipe, output, pick_device(device)
        labelled, self.valid = read_ferplus(data, "train"), read_ferplus(data, "valid")
        # Where most of the vote said "unknown" or "no face", there is nothing to learn.
        self.sets = [
            _select(labelled, labelled.expression.sum(axis=1) >= 0.5),
            _prepare_unlabelled(read_unlabelled(data)),
        ]
        blendshapes = self.sets[0].blendshapes
        first = hub.load(init) if init else None
        self.init_sha256 = first.sha256 if first else ""
        self.config = _config(recipe, self.sets[0], first)
        self.blendshape_scale = torch.from_numpy(
            1 / np.maximum(np.nanstd(blendshapes, axis=0), 0.05)
        ).to(self.device)
        self.mirrored = augment.mirrored_names(self.sets[0].blendshape_names)
        self.matrices = [augment.crop_matrices(faces, self.preprocessing) for faces in self.sets]

        torch.manual_seed(recipe.seed)
        self.network = FeverNet(self.config, recipe.dropout).to(self.device)
        # Most blendshapes are near zero on most faces: begin at their means, not at a half.
        means = torch.from_numpy(np.nanmean(blendshapes, axis=0)).clamp(0.01, 0.99)
        self.network.heads["blendshapes"].bias.data.copy_(means.logit())  # type: ignore[operator]
        if first:
            self.network.load_state_dict(build(self.config, first.state_dict).state_dict())
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=recipe.peak_lr,
        )
        self.steps = len(self.sets[0]) // recipe.batch_size
        if not self.steps:
            raise ValueError(
                f"{len(self.sets[0])} labelled faces don't fill one batch of {recipe.batch_size}"
            )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            recipe.peak_lr,
            total_steps=recipe.epochs * self.steps + 1,
            pct_start=0.2,
            cycle_momentum=False,
        )
        self.epoch = 0
        self.seconds = 0.0
        output.mkdir(parents=True, exist_ok=True)
        self._resume()

    @property
    def preprocessing(self) -> Preprocessing:
        return self.config.preprocessing

    def train_epoch(self) -> None:
        """One pass over the labelled faces, then the log line and the checkpoint."""
        start = time.monotonic()
        # One seed an epoch: a resumed run draws the very order and augmentation it would have.
        seed = self.recipe.seed * 100_003 + self.epoch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        orders = [torch.randperm(len(faces), generator=generator) for faces in self.sets]
        totals: dict[str, float] = {}
        self.network.train()
        bar = tqdm(range(self.steps), desc=f"epoch {self.epoch + 1}", disable=None, leave=False)
        for step in bar:
            losses = self._step(orders, step, generator)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value / self.steps
        valid = evaluate_head(self.network, self.valid)
        self.epoch += 1
        self.seconds += time.monotonic() - start
        line = {
            "init": self.init_sha256,
            "epoch": self.epoch,
            "seconds": round(self.seconds),
            **{name: round(value, 4) for name, value in totals.items()},
            "valid_accuracy": round(valid.accuracy, 4),
            "valid_mean_class_accuracy": round(valid.mean_class_accuracy, 4),
        }
        with open(self.output / LOG, "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        tqdm.write(json.dumps(line))
        self._checkpoint()

    def _step(
        self, orders: list[torch.Tensor], step: int, generator: torch.Generator
    ) -> dict[str, float]:
        recipe = self.recipe
        crops, targets = [], []
        for which, count in enumerate((recipe.batch_size, recipe.unlabelled)):
            positions = torch.arange(step * count, (step + 1) * count) % len(orders[which])
            crop, target = self._batch(which, orders[which][positions], generator)
            crops.append(crop)
            targets.append(target)
        x = augment.distort(torch.cat(crops), generator).to(self.device)
        expression, blendshapes = (torch.cat(parts).to(self.device) for parts in zip(*targets))
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = self.network(x).heads
        loss_expression = soft_cross_entropy(outputs["expression"].float(), expression)
        loss_blendshapes = masked_mean_square(
            outputs["blendshapes"].float(), blendshapes, self.blendshape_scale
        )
        loss = loss_expression + recipe.blendshape_weight * loss_blendshapes
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        return {
            "expression_loss": loss_expression.item(),
            "blendshape_loss": loss_blendshapes.item(),
        }

    def _batch(
        self, which: int, indices: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Crops of one data set, before distortion, and what they should give."""
        faces = self.sets[which]
        matrices = self.matrices[which][indices]
        unaligned = torch.rand(len(indices), generator=generator) < self.recipe.unaligned
        untouched = torch.from_numpy(augment.whole_picture(faces, self.preprocessing)).float()
        matrices = torch.where(unaligned[:, None, None], untouched, matrices)
        matrices = augment.jitter(matrices, self.preprocessing.size, generator)
        crops = augment.sample(faces, indices, matrices, self.preprocessing)
        flipped = torch.rand(len(indices), generator=generator) < 0.5
        blendshapes = torch.from_numpy(faces.blendshapes[indices.numpy()])
        blendshapes = torch.where(flipped[:, None], blendshapes[:, self.mirrored], blendshapes)
        expression = torch.from_numpy(faces.expression[indices.numpy()])
        return augment.mirror(crops, flipped), (expression, blendshapes)

    def _checkpoint(self) -> None:
        state = {
            "recipe": json.dumps(dataclasses.asdict(self.recipe)),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "init": self.init_sha256,
            "epoch": self.epoch,
            "seconds": self.seconds,
        }
        with replace_atomically(self.output / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        path = self.output / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        recipe = json.dumps(dataclasses.asdict(self.recipe))
        if (state["recipe"], state.get("init", "")) != (recipe, self.init_sha256):
            raise ValueError(
                f"{path} belongs to another recipe or began from other weights (--init); give "
                "another --output or remove it"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.epoch, self.seconds = state["epoch"], state["seconds"]


def soft_cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with soft labels, meaned over the rows that have a label.

    Args:
        logits: ``(n, classes)``.
        target: ``(n, classes)``; a row of zeros has no label, and a row whose sum is below
            one (votes for "unknown") counts for less.
    """
    losses = -(target * logits.log_softmax(dim=1)).sum(dim=1)
    return losses.sum() / (target.sum(dim=1) > 0).sum().clamp(min=1)


def masked_mean_square(
    values: torch.Tensor, target: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Mean square error in units of ``1 / scale`` a column; NaN targets don't count."""
    known = torch.isfinite(target)
    error = torch.where(known, (values - target.nan_to_num()) * scale, 0)
    return error.square().sum() / known.sum().clamp(min=1)


def _config(recipe: Recipe, faces: Faces, first: checkpoint.Checkpoint | None) -> Config:
    mean, std = float(faces.images.mean()), float(faces.images.std())
    return Config(
        name=recipe.name,
        preprocessing=Preprocessing(
            size=recipe.size,
            color="grey",
            mean=(round(mean, 2),),
            std=(round(std, 2),),
            template=TEMPLATE,
        ),
        backbone=recipe.backbone,
        embedding_dim=recipe.embedding_dim,
        expressions=EXPRESSIONS,
        blendshapes=faces.blendshape_names,
        metadata={
            "recipe": dataclasses.asdict(recipe),
            "init": {"recipe": first.config.metadata.get("recipe"), "sha256": first.sha256}
            if first
            else None,
        },
    )


def _select(faces: Faces, mask: npt.NDArray[np.bool_]) -> Faces:
    values = {
        item.name: getattr(faces, item.name)
        for item in dataclasses.fields(faces)
        if item.name != "blendshape_names"
    }
    return dataclasses.replace(faces, **{name: value[mask] for name, value in values.items()})


def _prepare_unlabelled(faces: Faces) -> Faces:
    """Only faces with blendshapes teach anything here."""
    return _select(faces, np.asarray(np.isfinite(faces.blendshapes).all(axis=1)))
