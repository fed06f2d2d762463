"""Peer: face recognition, MobileNet v1 trained on VGGFace2, from its safetensors file.

Howard et al. 2017 (arXiv 1704.04861), as converted from TensorFlow; the data's README says from
what. It is here to be compared with, not to be trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

FILE = "mobilenet_v1_vggface2.safetensors"
SIZE = 160
"""Half the arithmetic of its 224, for pictures of 48 and 96; at 112 it knows fewer people."""
BLUE_GREEN_RED = (103.939, 116.779, 123.68)

_BLOCKS = 13
_HALVING = (2, 4, 6, 12)


class FaceRecognition(nn.Module):
    """Crops ``(n, 1, s, s)`` grey or ``(n, 3, s, s)`` BGR, 0 to 255, to features ``(n, 1024)``."""

    mean: torch.Tensor

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"conv0": _layer(tensors, "conv0", stride=2)})
        for block in range(1, _BLOCKS + 1):
            stride = 2 if block in _HALVING else 1
            self.layers[f"dw{block}"] = _layer(tensors, f"dw{block}", stride)
            self.layers[f"pw{block}"] = _layer(tensors, f"pw{block}")
        self.register_buffer("mean", torch.tensor(BLUE_GREEN_RED).reshape(1, 3, 1, 1))

    @classmethod
    def load(cls, folder: Path) -> FaceRecognition:
        """From the data's folder.

        Raises:
            FileNotFoundError: if the file is not there.
        """
        from safetensors.torch import load_file

        if not (folder / FILE).is_file():
            raise FileNotFoundError(f"{FILE} is not among the data")
        return cls(load_file(folder / FILE)).eval()

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        x = crops.expand(-1, 3, -1, -1) - self.mean
        for layer in self.layers.values():
            assert isinstance(layer, nn.Conv2d)
            x = F.relu6(layer(pad_same(x, layer.stride[0]) if layer.kernel_size == (3, 3) else x))
        return x.mean(dim=(2, 3))


def _layer(tensors: Mapping[str, torch.Tensor], name: str, stride: int = 1) -> nn.Conv2d:
    weight = tensors[f"{name}.weight"]
    out, per_group, side, _ = weight.shape
    # Depthwise layers have one input channel a filter, and the colour layer three.
    groups = out if per_group == 1 else 1
    layer = nn.Conv2d(per_group * groups, out, side, stride, groups=groups)
    layer.load_state_dict({"weight": weight, "bias": tensors[f"{name}.bias"]})
    return layer


def pad_same(x: torch.Tensor, stride: int, value: float = 0.0) -> torch.Tensor:
    """TensorFlow's "SAME" for 3x3: an odd row and column go to the bottom and the right."""
    side = x.shape[-1]
    total = max((-(-side // stride) - 1) * stride + 3 - side, 0)
    return F.pad(x, (total // 2, total - total // 2) * 2, value=value)
