"""The network as ONNX, for use without torch."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract._utils.extras import require
from fever_extract._utils.files import replace_atomically
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.models.network import FeverNet, build

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-4


class _Crops(torch.nn.Module):
    """Wrap the network to return a flat tuple, whose items ONNX can name."""

    def __init__(self, network: FeverNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.network(crops)
        return (output.embedding, *output.heads.values())


def export_onnx(checkpoint: Checkpoint, path: Path) -> float:
    """Write an ONNX file, checked against torch with ONNX Runtime: see `to_onnx`.

    Args:
        checkpoint: the weights, from `fever_extract.hub.load`.
        path: the file; replaced when it is whole and checked.

    Returns:
        The largest difference between the two on random crops, at most 1e-4.

    Raises:
        ImportError, ValueError: as `to_onnx`.
        OSError: if the file can't be written.
    """
    check_packages()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist")
    model, difference = to_onnx(checkpoint)
    with replace_atomically(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return difference


check_packages = partial(
    require, "onnx", "onnxruntime", "onnxscript", extra="onnx", needed_by="ONNX export"
)
"""Refuse to begin without the packages for export."""


def to_onnx(checkpoint: Checkpoint) -> tuple[onnx.ModelProto, float]:
    """Convert the network to an ONNX model, checked against torch with ONNX Runtime.

    Its input ``crops`` is ``(n, 3, size, size)`` float32 RGB, 0 to 255, any n; its outputs are
    ``embedding`` ``(n, d)`` and one a head, as in `fever_extract.models.network.Output`. Its
    metadata holds the config, and the SHA-256 of the weights.

    Returns:
        The model, and the largest difference between the two on random crops, at most 1e-4.

    Raises:
        ImportError: if the extra ``onnx`` is not installed.
        ValueError: if the difference is larger.
    """
    check_packages()
    import onnx

    network = _Crops(build(checkpoint.config, checkpoint.state_dict)).eval()
    size = checkpoint.config.preprocessing.size
    random = torch.Generator().manual_seed(0)
    crops = torch.rand(5, 3, size, size, generator=random) * 255
    names = ["embedding", *checkpoint.config.heads]
    # Without a bound, torch 2.7 takes "n is not the largest integer" for a constraint.
    count = torch.export.Dim("n", max=1 << 31)
    program = torch.onnx.export(
        network,
        (crops[:2],),
        input_names=["crops"],
        output_names=names,
        dynamic_shapes={"crops": {0: count}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    metadata = {
        "fever_extract_config": json.dumps(json.loads(checkpoint.config.to_json())),
        "fever_extract_weights_sha256": checkpoint.sha256,
    }
    onnx.helper.set_model_props(model, metadata)
    difference = _compare(network, model.SerializeToString(), crops)
    if not difference <= TOLERANCE:
        raise ValueError(f"the exported network differs from torch by {difference:.1e}")
    return model, difference


@torch.inference_mode()
def _compare(network: _Crops, model: bytes, crops: torch.Tensor) -> float:
    """Return the largest difference over a batch and over a single crop."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    differences = []
    for batch in (crops, crops[:1]):
        outputs = session.run(None, {"crops": batch.numpy()})
        for expected, value in zip(network(batch), outputs):
            differences.append(float(np.abs(expected.numpy() - value).max()))
    return max(differences)
