"""The network of a run before its first step: a known backbone, and a layer that joins its taps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from fever_extract.models.backbones import MobileNetV1
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.models.config import EXPRESSIONS, MOBILENET, Backbone, Config, WeightsError
from fever_extract.models.inference import for_inference
from fever_extract.models.network import FeverNet, build
from fever_extract.training.general.crops import views
from fever_extract.training.general.objective import STATISTICS, Objective
from fever_extract.training.general.sources import Sources
from fever_extract.training.recipes.general import GeneralRecipe
from fever_extract.training.trainer.start import freeze

if TYPE_CHECKING:
    import numpy.typing as npt

_LOOK = (3500, 2500)  # of FER+ and of the faces: whose features the joining layer begins from
_AT_ONCE = 256


def make_config(recipe: GeneralRecipe, first: Checkpoint) -> Config:
    """Make the config of a run's network from that of the weights that it begins from.

    Raises:
        WeightsError: if these have another backbone, other expressions, no blendshapes, or
            presume a prior where the recipe learns from what they say.
    """
    config = first.config
    if recipe.soft_weight and not config.expression_prior:
        raise WeightsError(
            f"{first.source} can't teach: its head presumes its training's prior; give --init "
            "weights of another `general` run, or a recipe with a soft_weight of 0"
        )
    if (
        config.backbone.name != MOBILENET
        or config.expressions != EXPRESSIONS
        or not config.blendshapes
    ):
        raise WeightsError(
            f"{first.source} can't be begun from: --init needs a {MOBILENET} with FER+'s "
            "expressions and blendshapes"
        )
    return dataclasses.replace(
        config,
        name=recipe.name,
        preprocessing=dataclasses.replace(config.preprocessing, size=recipe.size),
        backbone=Backbone(MOBILENET, (), (), recipe.taps),
        embedding_dim=recipe.embedding_dim,
        valence_arousal=False,
        expression_prior=(),
        metadata={},
    )


@torch.no_grad()
def begin(
    config: Config,
    recipe: GeneralRecipe,
    first: Checkpoint,
    sources: Sources,
    priors: tuple[torch.Tensor, torch.Tensor],
) -> tuple[FeverNet, Objective]:
    """Make the network and the objective as they are before the first step.

    Weights of another such run, with the same taps and length, are gone on with whole. Of others it
    takes the backbone. Either way the heads that exist in training only are new.

    Args:
        config: of `make_config`.
        recipe: the run's choices.
        first: what it begins from.
        sources: the sets.
        priors: see `Objective`.
    """
    torch.manual_seed(recipe.seed)
    network = FeverNet(config, recipe.dropout)
    assert isinstance(network.backbone, MobileNetV1)
    known = {name: tensor.float() for name, tensor in first.state_dict.items()}
    prefix = "backbone."
    network.backbone.load_state_dict(
        {n.removeprefix(prefix): tensor for n, tensor in known.items() if n.startswith(prefix)}
    )
    real, exact = sources.ferplus.blendshapes, sources.synthetic.blendshapes
    objective = Objective(recipe, network, real, exact, priors)
    features = _look(network, sources, recipe)
    _measure(objective.norm, features)
    _begin_blendshapes(objective.exact, exact)
    carried_on = (first.config.backbone, first.config.embedding_dim)
    if carried_on == (config.backbone, config.embedding_dim):
        network.load_state_dict(known)
    else:
        _join(network, features)
        _begin_blendshapes(network.heads["blendshapes"], real)
        expression = network.heads["expression"]
        assert isinstance(expression, nn.Linear)
        expression.weight.mul_(0.1)
        expression.bias.zero_()
    norm = network.embedding[1]
    assert isinstance(norm, nn.BatchNorm1d)
    norm.momentum = STATISTICS
    norm.requires_grad_(False)  # each number has variance one, not a length that is learned
    freeze(network, recipe.frozen)
    return network, objective


def _join(network: FeverNet, features: torch.Tensor) -> None:
    """Begin the joining layer with the principal components of features ``(n, f)``.

    Each tap has the same weight, and they are turned at random so that every number carries
    something.
    """
    joining, norm = network.embedding[0], network.embedding[1]
    assert isinstance(network.backbone, MobileNetV1)
    assert isinstance(joining, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    joining.weight.copy_(_components(features, network.backbone.lengths, len(joining.weight)))
    _measure(norm, features @ joining.weight.T)


def _begin_blendshapes(head: nn.Module, values: npt.NDArray[np.float32]) -> None:
    """Most blendshapes are near zero on most faces: begin at their means, not at a half."""
    assert isinstance(head, nn.Linear)
    head.weight.mul_(0.1)
    if len(values):
        means = torch.from_numpy(np.nanmean(values, axis=0)).clamp(0.01, 0.99)
        head.bias.copy_(means.logit())


@torch.inference_mode()
def words(
    first: Checkpoint,
    crops: npt.NDArray[np.uint8],
    device: torch.device,
    *,
    mirror: bool = False,
) -> npt.NDArray[np.float32]:
    """Ask weights what they see: ``(n, 8)`` probabilities.

    Args:
        first: the weights.
        crops: ``(n, side, side)`` uint8, with room.
        device: torch device.
        mirror: take the mean of the logits of each face and of its mirror image.
    """
    network = for_inference(build(first.config, first.state_dict).to(device))
    size, said = first.config.preprocessing.size, []
    for start in tqdm(range(0, len(crops), _AT_ONCE), "words", leave=False, disable=None):
        shown = views(crops[start : start + _AT_ONCE], size).to(device)
        both = (shown, shown.flip(3)) if mirror else (shown,)
        with torch.autocast(device.type, torch.bfloat16):
            logits = [
                network(x.to(memory_format=torch.channels_last)).heads["expression"].float()
                for x in both
            ]
        said.append(torch.stack(logits).mean(dim=0).softmax(dim=1).cpu())
    answers: npt.NDArray[np.float32] = torch.cat(said).numpy()
    return answers


def _look(network: FeverNet, sources: Sources, recipe: GeneralRecipe) -> torch.Tensor:
    """Pooled features ``(n, f)`` of some real faces as they are."""
    network.eval()
    random, features = np.random.default_rng(recipe.seed), []
    for source, most in zip((sources.ferplus, sources.faces), _LOOK):
        rows = np.sort(random.permutation(len(source))[:most])
        for part in np.array_split(rows, math.ceil(len(rows) / _AT_ONCE) or 1):
            if len(part):
                features.append(network.features(views(source.crops[part], recipe.size)))
    return torch.cat(features)


def _components(features: torch.Tensor, taps: Sequence[int], length: int) -> torch.Tensor:
    """The joining layer's weights ``(length, f)``, each row of length one.

    Raises:
        ValueError: if there are fewer faces or features than numbers.
    """
    most = min(features.shape)
    if length > most:
        raise ValueError(f"{most} faces or features can't begin embeddings of {length} numbers")
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp(min=1e-3)
    weight = torch.cat([torch.full((count,), count**-0.5) for count in taps])
    standardised = (features - mean) / deviation * weight
    _, _, directions = torch.pca_lowrank(standardised, q=min(length + 32, most), niter=3)
    turn = torch.linalg.qr(torch.randn(length, length))[0]
    rows: torch.Tensor = (turn @ directions[:, :length].T) * weight / deviation
    return F.normalize(rows)


def _measure(norm: nn.BatchNorm1d, values: torch.Tensor) -> None:
    """Put the statistics of values ``(n, d)`` into a batch norm."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(values.mean(dim=0))
    norm.running_var.copy_(values.var(dim=0))
