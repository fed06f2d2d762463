"""Average the weights of two runs, one of which continued the other.

Such weights compute nearly what both would together, at the cost of one: what a run on harder
faces learned is kept, and little of what it forgot is lost (Wortsman et al. 2022, arXiv
2109.01903).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fever_extract import hub
from fever_extract.models import checkpoint


def average(first: Path, second: Path, output: Path, *, share: float) -> None:
    """Write weights that lie ``share`` of the way from the first to the second.

    Args:
        first, second: folders of trained weights; the second's run began from the first's.
        output: folder for the result.
        share: 0 to 1.

    Raises:
        ValueError: if ``share`` is out of range, or the two are not of one kind.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be 0 to 1, not {share}")
    one, other = hub.load(first), hub.load(second)
    if dataclasses.replace(one.config, metadata={}) != dataclasses.replace(
        other.config, metadata={}
    ):
        raise ValueError(f"{first} and {second} differ in more than their numbers: see config.json")
    mixed = {
        name: tensor.float().lerp(other.state_dict[name].float(), share).half()
        if tensor.is_floating_point()
        else other.state_dict[name]
        for name, tensor in one.state_dict.items()
    }
    metadata = {
        **other.config.metadata,
        "average": {"of": [one.sha256, other.sha256], "share": share},
    }
    checkpoint.save(output, dataclasses.replace(other.config, metadata=metadata), mixed)
