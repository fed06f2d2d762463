"""The network as a torch module to build on: weights, gradients, state dict."""

from __future__ import annotations

import os

from fever_extract import hub
from fever_extract.models.network import FeverNet, build


def from_pretrained(
    source: str | os.PathLike[str] | None = None, options: hub.HubOptions | None = None
) -> FeverNet:
    """Load the embedding network, in float32, on the CPU and in evaluation mode.

    ``network(crops)`` takes aligned crops ``(n, 3, size, size)``, 0 to 255, and returns
    `fever_extract.models.network.Output`; gradients go through it as through any module.

    Args:
        source: as in `fever_extract.Extractor`: a folder, a Hub repository ``org/name``, or
            nothing for the embedded weights.
        options: for the Hub.

    Raises:
        WeightsError: if the weights can't be found or used.
    """
    checkpoint = hub.load(source, options)
    return build(checkpoint.config, checkpoint.state_dict)
