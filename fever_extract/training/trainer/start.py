"""Initialise a run: the network before its first step, and its config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fever_extract.models.backbones import MobileNetV1, TwoStream
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.models.config import EXPRESSIONS, Config, Preprocessing
from fever_extract.models.network import FeverNet, build
from fever_extract.training.data import augment
from fever_extract.training.data.faces import Faces
from fever_extract.training.recipes.recipe import Recipe
from fever_extract.training.trainer.pretrained import load_face_mobilenet

if TYPE_CHECKING:
    import numpy.typing as npt

# Eyes, nose and mouth corners as fractions of the crop: the mean face of FER+ train with
# its eyes brought level, so that a crop is as tight as FER+'s own.
TEMPLATE = ((0.32, 0.38), (0.68, 0.38), (0.5, 0.593), (0.35, 0.77), (0.65, 0.77))

_FIRST_LOOK = 512  # crops from which a pretrained network's batch norms take their statistics


def make_config(recipe: Recipe, sets: Sequence[Faces], made_from: Mapping[str, object]) -> Config:
    """The weights' config; grey levels are those of the first set.

    There is a head for blendshapes, and one for valence and arousal, if a set has them.
    """
    faces = sets[0]
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
        valence_arousal=any(bool(np.isfinite(one.valence_arousal).any()) for one in sets),
        metadata={"recipe": dataclasses.asdict(recipe), **made_from},
    )


def begin(
    config: Config, recipe: Recipe, sets: Sequence[Faces], data: Path, first: Checkpoint | None
) -> FeverNet:
    """The network as it is before the first step."""
    faces = sets[0]
    network = FeverNet(config, recipe.dropout)
    if config.blendshapes:
        # Most blendshapes are near zero on most faces: begin at their means, not at a half.
        means = torch.from_numpy(np.nanmean(blendshapes_of(sets), axis=0)).clamp(0.01, 0.99)
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
    freeze(network, recipe.frozen)
    return network


def blendshapes_of(sets: Sequence[Faces]) -> npt.NDArray[np.float32]:
    """``(n, 52)``, of the first set that has any; ``(n, 0)`` if none has."""
    known = (one.blendshapes for one in sets if np.isfinite(one.blendshapes).any())
    return next(known, sets[0].blendshapes)


def take_over(network: FeverNet, teachers: Sequence[Checkpoint]) -> None:
    """Put the teachers' streams into the network's streams of their kind.

    Raises:
        ValueError: if a stream's kind is not that of exactly one teacher.
    """
    theirs = [
        stream
        for one in teachers
        for stream in _streams(build(one.config, one.state_dict).backbone)
    ]
    for stream in _streams(network.backbone):
        fitting = [other for other in theirs if type(other) is type(stream)]
        if len(fitting) != 1:
            kind = type(stream).__name__
            raise ValueError(
                f"from_teachers needs one teacher with a {kind} (--teacher), not {len(fitting)}"
            )
        stream.load_state_dict(fitting[0].state_dict())


def _streams(backbone: nn.Module) -> list[nn.Module]:
    if isinstance(backbone, TwoStream):
        return [backbone.residual, backbone.mobilenet]
    return [backbone]


def freeze(network: FeverNet, count: int) -> None:
    """Keep the first layers of a MobileNet as they are, their statistics included."""
    for module in network.backbone.modules():
        if count and isinstance(module, MobileNetV1):
            module.layers[:count].eval().requires_grad_(False)


class _Float32Conv2d(nn.Conv2d):
    """A convolution that stays in float32 where autocast is on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def keep_float32_where_faster(network: FeverNet) -> None:
    """On a CPU, keep what bfloat16 makes slower there in float32.

    These are, of the layers that learn, depthwise convolutions with a stride, whose gradient
    takes oneDNN ten times as long, and without AMX all others, too, which take up to twice
    as long. Frozen layers gain from half the memory (measured without AMX).
    """
    has_matrix_unit = torch.cpu._is_amx_tile_supported()
    for module in network.backbone.modules():
        if type(module) is not nn.Conv2d or not module.weight.requires_grad:
            continue
        if not has_matrix_unit or (module.groups > 1 and module.stride != (1, 1)):
            module.__class__ = _Float32Conv2d
