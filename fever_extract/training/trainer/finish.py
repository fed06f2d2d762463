"""Last stage of a run: suppress variance that labels don't explain, calibrate the head.

Both are closed forms on a trained network, chosen on validation data, and folded into its last
layers, so that the network's cost and format stay as they were.

*Suppress variance that labels don't explain* (identity, pose, light, noise): embeddings are
projected on their mean and on the directions along which they follow soft labels, and a small
part of the rest is kept. It can be undone, so heads and linear probes on standardised embeddings
answer as before; distances say less about who it is.

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

from fever_extract import hub
from fever_extract.models import checkpoint
from fever_extract.models.network import FeverNet, build, pick_device
from fever_extract.training.data.faces import majority, read_ferplus
from fever_extract.training.evaluation.crops import take
from fever_extract.training.evaluation.evaluate import predict
from fever_extract.training.trainer.state import halved

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
    """Project the embeddings of trained weights, calibrate them, and write them to a folder.

    Args:
        weights: folder of trained weights.
        data: folder of the Parquet tables.
        output: folder for the finished weights.
        rest: share that is kept of what labels don't explain: more than 0, and at most 1, which
            leaves embeddings as they are.
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
    embeddings, _ = predict(network, train)
    fold(network, projection(embeddings, train.expression, rest))
    labels = majority(valid.expression)
    _, probabilities = predict(network, valid)
    temperature = best_temperature(probabilities[labels >= 0], labels[labels >= 0])
    head = network.heads["expression"]
    for parameter in head.parameters():
        parameter.data /= temperature
    done = Finish(rest, temperature)
    metadata = {**trained.config.metadata, "finish": dataclasses.asdict(done)}
    config = dataclasses.replace(trained.config, metadata=metadata)
    checkpoint.save(output, config, halved(network))
    return done


def projection(
    embeddings: npt.NDArray[np.float32], expression: npt.NDArray[np.float32], rest: float
) -> npt.NDArray[np.float64]:
    """The matrix ``(d, d)`` that embeddings are multiplied by.

    Args:
        embeddings: ``(n, d)``.
        expression: ``(n, k)`` soft labels; rows of zeros are left out.
        rest: how long the part that labels don't explain stays.
    """
    labelled = expression.sum(axis=1) > 0
    shares = expression[labelled] / expression[labelled].sum(axis=1, keepdims=True)
    # Roots, as distances between votes are measured (Hellinger); a constant is within their span.
    roots = np.sqrt(shares.astype(np.float64))
    centred = embeddings[labelled].astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    explained = roots @ np.linalg.lstsq(roots, centred, rcond=None)[0]
    _, directions = np.linalg.eigh(explained.T @ explained)
    # Shares sum to one: k classes differ along k - 1 directions. Cosines need the mean, too.
    kept = directions[:, ::-1][:, : roots.shape[1] - 1]
    basis, _ = np.linalg.qr(np.column_stack([kept, mean / np.linalg.norm(mean)]))
    onto = basis @ basis.T
    matrix: npt.NDArray[np.float64] = onto + rest * (np.eye(len(onto)) - onto)
    return matrix


@torch.no_grad()
def fold(network: FeverNet, matrix: npt.NDArray[np.float64]) -> None:
    """Multiply a network's embeddings by a matrix; its heads answer as before."""
    device = network.mean.device
    matrix_ = torch.from_numpy(matrix).to(device)
    linear, norm = network.embedding[0], network.embedding[1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    offset = norm.bias.double() - norm.running_mean.double() * scale
    linear.weight.copy_(matrix_ @ (scale[:, None] * linear.weight.double()))
    # What is left of the batch norm is an offset.
    norm.weight.fill_(1)
    norm.running_var.fill_(1 - norm.eps)
    norm.running_mean.zero_()
    norm.bias.copy_(matrix_ @ offset)
    inverse = torch.linalg.inv(matrix_)
    for head in network.heads.values():
        assert isinstance(head, nn.Linear)
        head.weight.copy_(head.weight.double() @ inverse)


def best_temperature(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> float:
    """The divisor of logits at which the labels are most likely; of a fine grid."""
    logits = torch.from_numpy(probabilities).double().clamp(min=1e-12).log()
    target = torch.from_numpy(labels)
    grid = torch.linspace(0.2, 2, 181, dtype=torch.float64)
    losses = [F.cross_entropy(logits / value, target).item() for value in grid]
    return float(grid[int(np.argmin(losses))])
