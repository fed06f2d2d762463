"""One training run, from a recipe to a folder of weights."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from fever_extract import checkpoint, hub
from fever_extract.backbones import CompactResNet, MobileNetV1, TwoStream
from fever_extract.config import EXPRESSIONS, Config, Preprocessing
from fever_extract.files import replace_atomically
from fever_extract.network import FeverNet, build, pick_device
from fever_extract.training import augment
from fever_extract.training.batches import Batch, Stream
from fever_extract.training.data import Faces, read_ferplus, read_unlabelled
from fever_extract.training.degrade import degrade
from fever_extract.training.evaluate import evaluate_head
from fever_extract.training.losses import geometry, masked_mean_square, soft_cross_entropy
from fever_extract.training.pretrained import load_face_mobilenet
from fever_extract.training.recipe import Recipe
from fever_extract.training.teachers import learn_from, likeness, mix

if TYPE_CHECKING:
    import numpy.typing as npt

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"

# Eyes, nose and mouth corners as fractions of the crop: the mean face of FER+ train with
# its eyes brought level, so that a crop is as tight as FER+'s own.
TEMPLATE = ((0.32, 0.38), (0.68, 0.38), (0.5, 0.593), (0.35, 0.77), (0.65, 0.77))

_FIRST_LOOK = 512  # crops from which a pretrained network's batch norms take their statistics


def train(
    recipe: Recipe,
    data: Path,
    output: Path,
    *,
    device: str | None = None,
    init: str | Path | None = None,
    teachers: Sequence[str | Path] = (),
) -> Path:
    """Train, going on from ``output``'s checkpoint if a run was stopped there.

    Args:
        recipe: the run's choices.
        data: folder of the Parquet tables.
        output: folder for checkpoint, log and, at the end, the weights.
        device: torch device; the best there is by default.
        init: weights to begin from, as `Extractor` takes them; random by default.
        teachers: weights to learn from, as `Extractor` takes them.

    Returns:
        ``output``, a folder that `Extractor` loads.

    Raises:
        ValueError: if the checkpoint there belongs to another recipe.
    """
    run = Run(recipe, data, output, device=device, init=init, teachers=teachers)
    while run.epoch < recipe.epochs:
        run.train_epoch()
    halved = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in run.kept.state_dict().items()
    }
    checkpoint.save(output, run.config, halved)
    return output


class Run:
    """The state of a run: network, optimiser, schedule and the epochs that are done.

    Args:
        recipe, data, output, device, init, teachers: as in `train`.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        output: Path,
        *,
        device: str | None = None,
        init: str | Path | None = None,
        teachers: Sequence[str | Path] = (),
    ) -> None:
        self.recipe, self.output, self.device = recipe, output, pick_device(device)
        output.mkdir(parents=True, exist_ok=True)
        first = hub.load(init) if init else None
        masters = [hub.load(name) for name in teachers]
        self.made_from: dict[str, object] = {
            "init": first.sha256 if first else "",
            "teachers": [teacher.sha256 for teacher in masters],
        }
        sets = _read(data, everything=bool(teachers))
        self.valid = read_ferplus(data, "valid")
        self.config = _config(recipe, sets[0], self.made_from)
        self.streams = []
        for faces, count in zip(sets, (recipe.batch_size, recipe.unlabelled)):
            lesson = learn_from(masters, faces, output, self.device)
            mixed = mix(faces, lesson, recipe.distill_weight)
            self.streams.append(
                Stream(mixed, lesson.vectors, count, recipe, self.config.preprocessing)
            )
        self.steps = len(self.streams[0].indices) // recipe.batch_size
        if not self.steps:
            raise ValueError(
                f"{len(sets[0])} labelled faces don't fill one batch of {recipe.batch_size}"
            )
        deviations = np.nanstd(sets[0].blendshapes, axis=0)
        scale = torch.from_numpy(1 / np.maximum(deviations, 0.05))
        self.blendshape_scale = scale.to(self.device)

        torch.manual_seed(recipe.seed)
        network = _begin(self.config, recipe, sets[0], data, first)
        if recipe.from_teachers:
            _take_over(network, masters)
        # Channels last: twice as fast on a CPU.
        self.network = network.to(memory_format=torch.channels_last).to(self.device)
        self.lengths: list[int] = []
        if recipe.auxiliary_weight and isinstance(network.backbone, TwoStream):
            self.lengths = list(network.backbone.lengths)
        heads = (nn.Linear(length, len(EXPRESSIONS)) for length in self.lengths)
        self.auxiliary = nn.ModuleList(heads).to(self.device)
        self.average: AveragedModel | None = None
        if recipe.ema:
            average = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.network, multi_avg_fn=average)
        parameters = [*self.network.parameters(), *self.auxiliary.parameters()]
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": [p for p in trained if p.ndim > 1],
                    "weight_decay": recipe.weight_decay,
                },
                {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.peak_lr,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            recipe.peak_lr,
            total_steps=recipe.epochs * self.steps + 1,
            pct_start=recipe.warm_up,
            cycle_momentum=False,
        )
        self.epoch = 0
        self.seconds = 0.0
        self._resume()

    @property
    def kept(self) -> FeverNet:
        """The network that is measured and saved: the moving average, where there is one."""
        kept = self.average.module if self.average else self.network
        assert isinstance(kept, FeverNet)
        return kept

    def train_epoch(self) -> None:
        """One pass over the labelled faces, then the log line and the checkpoint."""
        start = time.monotonic()
        # One seed an epoch: a resumed run draws the very order and augmentation it would have.
        seed = self.recipe.seed * 100_003 + self.epoch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        for stream in self.streams:
            stream.shuffle(generator)
        totals: dict[str, float] = {}
        self.network.train()
        _freeze(self.network, self.recipe.frozen)
        bar = tqdm(range(self.steps), desc=f"epoch {self.epoch + 1}", disable=None, leave=False)
        for step in bar:
            losses = self._step(step, generator)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value / self.steps
        valid = evaluate_head(self.kept, self.valid, mirror=True)
        self.epoch += 1
        self.seconds += time.monotonic() - start
        line = {
            **self.made_from,
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

    def _step(self, step: int, generator: torch.Generator) -> dict[str, float]:
        recipe = self.recipe
        batch = Batch.join([stream.batch(step, generator) for stream in self.streams])
        crops = batch.crops
        if recipe.degraded:
            crops = degrade(crops, recipe.degraded, generator)
        crops = augment.distort(crops, generator)
        expression, blendshapes, vectors = (
            part.to(self.device) for part in (batch.expression, batch.blendshapes, batch.vectors)
        )
        with torch.autocast(self.device.type, torch.bfloat16):
            network = self.network
            features = network.features(crops.to(self.device, memory_format=torch.channels_last))
            embedding = network.embedding(network.dropout(features))
            heads = network.classify(embedding)
            streams = torch.split(features, self.lengths, 1) if self.lengths else ()
            alone = [head(part) for head, part in zip(self.auxiliary, streams)]
        losses = {
            "expression_loss": soft_cross_entropy(heads["expression"].float(), expression),
            "blendshape_loss": masked_mean_square(
                heads["blendshapes"].float(), blendshapes, self.blendshape_scale
            ),
        }
        loss = losses["expression_loss"] + recipe.blendshape_weight * losses["blendshape_loss"]
        if recipe.geometry_weight:
            alike = likeness(expression, vectors, recipe.geometry_teachers)
            losses["geometry_loss"] = geometry(embedding.float(), alike)
            loss = loss + recipe.geometry_weight * losses["geometry_loss"]
        for logits in alone:
            loss = loss + recipe.auxiliary_weight * soft_cross_entropy(logits.float(), expression)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.network)
        return {name: value.item() for name, value in losses.items()}

    def _checkpoint(self) -> None:
        state = {
            "recipe": self._identity(),
            "network": self.network.state_dict(),
            "auxiliary": self.auxiliary.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "epoch": self.epoch,
            "seconds": self.seconds,
        }
        with replace_atomically(self.output / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def _identity(self) -> str:
        return json.dumps({**dataclasses.asdict(self.recipe), **self.made_from})

    def _resume(self) -> None:
        path = self.output / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["recipe"] != self._identity():
            raise ValueError(
                f"{path} belongs to another recipe, or has other weights to begin from (--init) or "
                "to learn from (--teacher); give another --output or remove it"
            )
        self.network.load_state_dict(state["network"])
        self.auxiliary.load_state_dict(state["auxiliary"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.epoch, self.seconds = state["epoch"], state["seconds"]


def _read(data: Path, everything: bool) -> list[Faces]:
    """Labelled and unlabelled faces to train on.

    Without teachers, only unlabelled faces with blendshapes teach anything.
    """
    labelled, unlabelled = read_ferplus(data, "train"), read_unlabelled(data)
    known = np.isfinite(unlabelled.blendshapes).all(axis=1)
    return [
        # Where most of the vote said "unknown" or "no face", there is nothing to learn.
        _select(labelled, labelled.expression.sum(axis=1) >= 0.5),
        _select(unlabelled, np.asarray(known | everything)),
    ]


def _begin(
    config: Config, recipe: Recipe, faces: Faces, data: Path, first: checkpoint.Checkpoint | None
) -> FeverNet:
    """The network as it is before the first step."""
    network = FeverNet(config, recipe.dropout)
    # Most blendshapes are near zero on most faces: begin at their means, not at a half.
    means = torch.from_numpy(np.nanmean(faces.blendshapes, axis=0)).clamp(0.01, 0.99)
    network.heads["blendshapes"].bias.data.copy_(means.logit())  # type: ignore[operator]
    if first:
        network.load_state_dict(build(config, first.state_dict).state_dict())
    elif recipe.pretrained:
        if not isinstance(network.backbone, MobileNetV1):
            raise ValueError(f"{recipe.pretrained} fits mobilenet_v1, not {config.backbone.name}")
        indices = torch.linspace(0, len(faces) - 1, _FIRST_LOOK).long()
        matrices = augment.crop_matrices(faces, config.preprocessing)[indices]
        crops = augment.sample(faces, indices, matrices, config.preprocessing)
        mean, std = config.preprocessing.mean[0], config.preprocessing.std[0]
        load_face_mobilenet(network.backbone, data / recipe.pretrained, crops, mean, std)
    _freeze(network, recipe.frozen)
    return network


def _freeze(network: FeverNet, count: int) -> None:
    """Keep the first layers of a MobileNet as they are, their statistics included."""
    for module in network.backbone.modules():
        if count and isinstance(module, MobileNetV1):
            module.layers[:count].eval().requires_grad_(False)


def _take_over(network: FeverNet, teachers: Sequence[checkpoint.Checkpoint]) -> None:
    """Put the teachers' backbones into the streams of their kind."""
    if not isinstance(network.backbone, TwoStream):
        raise ValueError("from_teachers is for a two_stream backbone")
    for kind, stream in (
        (CompactResNet, network.backbone.residual),
        (MobileNetV1, network.backbone.mobilenet),
    ):
        backbones = [build(one.config, one.state_dict).backbone for one in teachers]
        fitting = [backbone for backbone in backbones if isinstance(backbone, kind)]
        if len(fitting) != 1:
            raise ValueError(f"from_teachers needs one teacher with a {kind.__name__} (--teacher)")
        stream.load_state_dict(fitting[0].state_dict())


def _config(recipe: Recipe, faces: Faces, made_from: dict[str, object]) -> Config:
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
        metadata={"recipe": dataclasses.asdict(recipe), **made_from},
    )


def _select(faces: Faces, mask: npt.NDArray[np.bool_]) -> Faces:
    values = {
        item.name: getattr(faces, item.name)
        for item in dataclasses.fields(faces)
        if item.name != "blendshape_names"
    }
    return dataclasses.replace(faces, **{name: value[mask] for name, value in values.items()})
