"""What every run keeps and resumes from: moving average, optimiser groups, checkpoint, log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from fever_extract._utils.files import replace_atomically
from fever_extract.training.trainer.plot import LOG

CHECKPOINT = "checkpoint.pt"


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Start an exponential moving average of a network's weights.

    Args:
        network: copied as it is.
        decay: share of the average that a step keeps.
    """
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    # Batch norms' statistics with them: those of the moment are of other weights.
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, lr: float
) -> list[dict[str, Any]]:
    """Group what is trained for an optimiser: weights with decay, biases and norms without.

    Args:
        parameters: those that need no gradient are left out.
        weight_decay: of the first group.
        lr: learning rate of both.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
    ]


def halved(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a network's state dict in float16, as weights are published."""
    return {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }


def write_state(folder: Path, identity: Mapping[str, object], state: Mapping[str, object]) -> None:
    """Write a run's checkpoint, whole or not at all.

    Args:
        folder: of the run.
        identity: what must be the same for a run to go on: recipe, init, teachers.
        state: what it goes on from: tensors, numbers, and lists and dicts of these.
    """
    with replace_atomically(folder / CHECKPOINT) as temporary:
        torch.save({"recipe": json.dumps(identity), **state}, temporary)


def read_state(
    folder: Path, identity: Mapping[str, object], device: torch.device
) -> dict[str, Any] | None:
    """Read a run's checkpoint; None if there is none yet.

    Raises:
        ValueError: if it is of a run with another identity.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if state["recipe"] != json.dumps(identity):
        raise ValueError(
            f"{path} belongs to another recipe, or has other weights to begin from (--init) or "
            "to learn from (--teacher); give another --output or remove it"
        )
    return state


def append_log(folder: Path, line: Mapping[str, object]) -> None:
    """Append a line to a run's log, and show it."""
    text = json.dumps(line)
    with open(folder / LOG, "a", encoding="utf-8") as log:
        log.write(text + "\n")
    tqdm.write(text)
