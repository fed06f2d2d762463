"""Calibrate an expression head whose logits presume no prior, on FER+ valid.

*Temperature.* Logits are divided by the temperature at which labels are likeliest (Guo et al.
2017, arXiv 1706.04599), with the labels' own shares of the classes as the prior. Weighting the
classes alike instead would let the 13 faces of contempt count for as much as the 1,182 of neutral:
over five folds that temperature varies four times as much, and probabilities are worse.

*Prior.* The config's shares are raised to the power at which the sum of logits and their logarithms
makes the same labels likeliest.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from fever_extract import hub
from fever_extract.models import checkpoint
from fever_extract.models.config import EXPRESSIONS, WeightsError
from fever_extract.models.network import FeverNet, build, pick_device
from fever_extract.training.data.faces import Faces, majority, read_ferplus
from fever_extract.training.evaluation.crops import batches, take
from fever_extract.training.trainer.state import halved

_AT_ONCE = 64
_GRID = torch.linspace(0.3, 3, 271, dtype=torch.float64)  # of temperatures and of powers
_FIGURES = ("evaluation", "transfer")  # in the metadata: they are of the weights before


@dataclass(frozen=True)
class Calibration:
    """What was done to a head.

    Attributes:
        temperature: divisor of the expression head's logits.
        prior_power: exponent of the shares that the config had.
    """

    temperature: float
    prior_power: float


def calibrate(weights: Path, data: Path, output: Path, *, device: str | None = None) -> Calibration:
    """Calibrate trained weights and write them to a folder; embeddings stay as they are.

    Args:
        weights: folder of weights whose config has an ``expression_prior``.
        data: folder of ``ferplus.parquet``.
        output: folder for the result.
        device: torch device; the best there is by default.

    Raises:
        WeightsError: if the head has other expressions than FER+, or no prior is known.
    """
    trained = hub.load(weights)
    if trained.config.expressions != EXPRESSIONS or not trained.config.expression_prior:
        raise WeightsError(
            f"{weights} can't be calibrated: that needs FER+'s expressions, and an "
            "expression_prior in the config"
        )
    network = build(trained.config, trained.state_dict).to(pick_device(device))
    valid = read_ferplus(data, "valid")
    valid = take(valid, majority(valid.expression) >= 0)
    labels = torch.from_numpy(majority(valid.expression))
    shares = trained.config.expression_prior
    done, prior = calibrate_head(network, _logits(network, valid), labels, shares)
    kept = {name: value for name, value in trained.config.metadata.items() if name not in _FIGURES}
    config = dataclasses.replace(
        trained.config,
        expression_prior=prior,
        metadata={**kept, "calibration": dataclasses.asdict(done)},
    )
    checkpoint.save(output, config, halved(network))
    return done


@torch.no_grad()
def calibrate_head(
    network: FeverNet, logits: torch.Tensor, labels: torch.Tensor, shares: tuple[float, ...]
) -> tuple[Calibration, tuple[float, ...]]:
    """Divide a network's expression head by its temperature, and fit the prior's power.

    Args:
        network: changed in place.
        logits: ``(n, classes)``, its answers to validation faces.
        labels: ``(n,)`` int64.
        shares: of each class in the labels that the head learned from.

    Returns:
        What was done, and the config's ``expression_prior``.
    """
    logits, prior = logits.double(), torch.tensor(shares, dtype=torch.float64)
    temperature = best_temperature(logits, labels)
    for parameter in network.heads["expression"].parameters():
        parameter.data /= temperature
    power = prior_power(logits / temperature, labels, prior)
    tempered = prior**power / (prior**power).sum()
    rounded = tuple(round(share, 6) for share in tempered.tolist())
    return Calibration(temperature, power), rounded


def best_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Find the divisor of logits at which labels are likeliest; of a grid.

    Args:
        logits: ``(n, classes)`` float64, which presume no prior.
        labels: ``(n,)`` int64.
    """
    counts = torch.bincount(labels, minlength=logits.shape[1]).double().clamp(min=0.5)
    prior = (counts / counts.sum()).log()
    return _likeliest([F.cross_entropy(logits / value + prior, labels) for value in _GRID])


def prior_power(logits: torch.Tensor, labels: torch.Tensor, prior: torch.Tensor) -> float:
    """Find the power of a prior whose logarithm, added to logits, makes labels likeliest.

    Args:
        logits: ``(n, classes)`` float64, which presume no prior.
        labels: ``(n,)`` int64.
        prior: ``(classes,)``.
    """
    return _likeliest([F.cross_entropy(logits + v * prior.log(), labels) for v in _GRID])


def _likeliest(losses: list[torch.Tensor]) -> float:
    return round(float(_GRID[torch.stack(losses).argmin()]), 2)


@torch.inference_mode()
def _logits(network: FeverNet, faces: Faces) -> torch.Tensor:
    """Bare expression logits ``(n, 8)`` float32 of the pictures as they are."""
    shown = batches(faces, network.config.preprocessing, _AT_ONCE)
    device = network.mean.device
    return torch.cat([network(crops.to(device)).heads["expression"].cpu() for crops in shown])
