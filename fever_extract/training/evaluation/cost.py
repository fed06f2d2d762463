"""Cost per face: arithmetic, parameters, and milliseconds on one core."""

from __future__ import annotations

import copy
import statistics
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BATCH = 32
REPEATS = 9


@torch.inference_mode()
def cost(network: nn.Module, channels: int, size: int) -> dict[str, object]:
    """Cost of one crop.

    Args:
        network: takes crops ``(n, channels, size, size)``; a copy of it runs on the CPU.
        channels, size: of the crop.

    Returns:
        ``gmac`` (torch's FLOP counter, halved: it counts a multiplication and an addition as two)
        and ``milliseconds``: the median, on one thread of the CPU, in batches of 32.
    """
    network = copy.deepcopy(network).cpu().eval()
    crops = torch.rand(BATCH, channels, size, size) * 255
    with FlopCounterMode(display=False) as counter:
        network(crops[:1])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = [_time(network, crops) for _ in range(REPEATS + 1)][1:]  # the first warms up
    finally:
        torch.set_num_threads(threads)
    return {
        "gmac": counter.get_total_flops() / 2e9,
        "milliseconds": 1000 * statistics.median(seconds) / BATCH,
        "batch": BATCH,
    }


def _time(network: nn.Module, crops: torch.Tensor) -> float:
    start = time.perf_counter()
    network(crops)
    return time.perf_counter() - start
