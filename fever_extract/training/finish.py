"""The last stage: vectors that look past what is no expression, and honest probabilities.

Both are closed forms on a trained network, chosen on validation data, and folded into its last
layers, so that the network's cost and format stay as they were.

*What labels explain comes first.* Vectors are turned to axes of their own: the first are those
along which they follow soft labels, and their mean; the others hold whatever soft labels don't
explain (identity, pose, light, noise), and are made short. Lengths can be undone, so heads and
linear probes on standardised vectors answer as before; distances say less of who it is.

*Temperature.* The expression head's logits are divided by the temperature at which majority
labels of validation faces are most likely (Guo et al. 2017, arXiv 1706.04599).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fever_extract import checkpoint, hub
from fever_extract.network import FeverNet, build, pick_device
from fever_extract.training.data import majority, read_ferplus
from fever_extract.training.evaluate import predict
from fever_extract.training.evaluation.crops import take

if TYPE_CHECKING:
    import numpy.typing as npt


_FACES = 10_000  # of FER+ train: plenty for a few directions


@dataclass(frozen=True)
class Finish:
    """What was done to a network: see the module's text."""

    rest: float
    temperature: float


def finish(
    weights: Path, data: Path, output: Path, *, rest: float, device: str | None = None
) -> Finish:
    """Turn and shorten the vectors of trained weights, calibrate them, and write them to a folder.

    Args:
        weights: folder of trained weights.
        data: folder of the Parquet tables.
        output: folder for the finished weights.
        rest: how long the part of a vector stays that labels don't explain: more than 0, and 1
            at most, which only turns vectors.
        device: torch device; the best there is by default.

    Raises:
        ValueError: if ``rest`` is out of range.
    """
    if not 0 < rest <= 1:
        raise ValueError(f"rest must be more than 0 and at most 1, not {rest}")
    trained = hub.load(weights)
    network = build(trained.config, trained.state_dict).to(pick_device(device))
    train, valid = read_ferplus(data, "train"), read_ferplus(data, "valid")
    some = np.random.default_rng(0).permutation(len(train))[:_FACES]
    train = take(train, np.sort(some))
    vectors, _ = predict(network, train)
    axes, kept = own_axes(vectors, train.expression)
    fold(network, axes, np.where(np.arange(len(axes)) < kept, 1, rest), vectors)
    labels = majority(valid.expression)
    _, probabilities = predict(network, valid)
    temperature = best_temperature(probabilities[labels >= 0], labels[labels >= 0])
    head = network.heads["expression"]
    for parameter in head.parameters():
        parameter.data /= temperature
    done = Finish(rest, temperature)
    metadata = {**trained.config.metadata, "finish": dataclasses.asdict(done)}
    halved = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    checkpoint.save(output, dataclasses.replace(trained.config, metadata=metadata), halved)
    return done


def own_axes(
    vectors: npt.NDArray[np.float32], expression: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], int]:
    """Axes of the vectors, those first that labels explain.

    Args:
        vectors: ``(n, d)``.
        expression: ``(n, k)`` soft labels; rows of zeros are left out.

    Returns:
        ``(d, d)``, a unit vector a row, all at right angles, and how many follow the labels or the
        mean. Along those, and along the others, coordinates don't correlate.
    """
    labelled = expression.sum(axis=1) > 0
    shares = expression[labelled] / expression[labelled].sum(axis=1, keepdims=True)
    # Roots, as distances between votes are measured (Hellinger); a constant is within their span.
    roots = np.sqrt(shares.astype(np.float64))
    centred = vectors[labelled].astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    explained = roots @ np.linalg.lstsq(roots, centred, rcond=None)[0]
    # Shares sum to one: k classes differ along k - 1 directions. Cosines need the mean, too.
    directions = _principal(explained)[: roots.shape[1] - 1]
    basis, _ = np.linalg.qr(np.column_stack([directions.T, mean, np.eye(len(mean))]))
    count = len(directions) + 1
    parts = basis[:, :count], basis[:, count:]
    return np.concatenate([_principal(centred @ part) @ part.T for part in parts]), count


def _principal(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Principal axes of centred vectors, a unit vector a row, the longest first."""
    axes: npt.NDArray[np.float64] = np.linalg.eigh(vectors.T @ vectors)[1].T[::-1]
    return axes


@torch.no_grad()
def fold(
    network: FeverNet,
    axes: npt.NDArray[np.float64],
    lengths: npt.NDArray[np.floating],
    vectors: npt.NDArray[np.float32],
) -> None:
    """Turn a network's vectors to other axes and scale them there; its heads answer as before.

    The lengths are the batch norm's scale, and its input has variance one along every axis: whoever
    trains on from here with that scale frozen moves short axes no more than long ones.

    Args:
        network: changed in place.
        axes: ``(d, d)``, of `own_axes`.
        lengths: ``(d,)``, what coordinates along them are multiplied by; more than 0.
        vectors: ``(n, d)``, the network's vectors of some faces.
    """
    device = network.mean.device
    linear, norm = network.embedding[0], network.embedding[1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    turned = vectors @ axes.T
    deviations = np.maximum(turned.std(axis=0), 1e-3 * turned.std())
    mean, deviation, scale = (
        torch.from_numpy(values).to(device, torch.float64)
        for values in (turned.mean(axis=0), deviations, lengths)
    )
    turn = torch.from_numpy(axes).to(device)
    before = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    offset = norm.bias.double() - norm.running_mean.double() * before
    linear.weight.copy_(turn @ (before[:, None] * linear.weight.double()) / deviation[:, None])
    norm.running_mean.copy_((mean - turn @ offset) / deviation)
    norm.running_var.fill_(1)
    norm.weight.copy_(scale * deviation * (1 + norm.eps) ** 0.5)
    norm.bias.copy_(scale * mean)
    for head in network.heads.values():
        assert isinstance(head, nn.Linear)
        head.weight.copy_(head.weight.double() @ turn.T / scale)


def best_temperature(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> float:
    """The divisor of logits at which the labels are most likely; of a fine grid."""
    logits = torch.from_numpy(probabilities).double().clamp(min=1e-12).log()
    target = torch.from_numpy(labels)
    grid = torch.linspace(0.2, 2, 181, dtype=torch.float64)
    losses = [F.cross_entropy(logits / value, target).item() for value in grid]
    return float(grid[int(np.argmin(losses))])
