"""Backbones that a config may name: crops in, one feature vector per face out."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fever_extract.models.config import COMPACT, MOBILENET, TWO_STREAM, Backbone, ConfigError

# Their builders need real numbers where a network is made without memory, or a version that
# safetensors doesn't keep.
_UNUSABLE = ("regnet", "mnasnet")


def build_backbone(backbone: Backbone, channels: int) -> tuple[nn.Module, int]:
    """Build a backbone; return it and the length of its feature vector."""
    if backbone.name == COMPACT:
        return CompactResNet(channels, backbone.widths, backbone.depths), backbone.widths[-1]
    if backbone.name == TWO_STREAM:
        streams = TwoStream(channels, backbone.widths, backbone.depths)
        return streams, sum(streams.lengths)
    if backbone.name == MOBILENET:
        mobilenet = MobileNetV1(channels, backbone.taps)
        return mobilenet, mobilenet.features
    from torchvision import models  # two seconds, of which our own backbones need nothing

    if backbone.name not in models.list_models(module=models):
        raise ConfigError(
            f"backbone.name must be {COMPACT!r}, {MOBILENET!r}, {TWO_STREAM!r} or a torchvision "
            f"classifier, not {backbone.name!r}"
        )
    if backbone.name.startswith(_UNUSABLE):
        raise ConfigError(
            f"torchvision's {backbone.name} can't be read back; choose another backbone"
        )
    network: nn.Module = models.get_model(backbone.name, weights=None)
    features = _replace_classifier(network)
    if not features:
        raise ConfigError(f"torchvision's {backbone.name} doesn't end in a linear classifier")
    return network, features


def _replace_classifier(network: nn.Module) -> int:
    """Take the last linear layer off a torchvision classifier; return its input length."""
    for name in ("fc", "classifier", "head"):
        layer = getattr(network, name, None)
        if isinstance(layer, nn.Linear):
            setattr(network, name, nn.Identity())
            return layer.in_features
        if isinstance(layer, nn.Sequential) and isinstance(layer[-1], nn.Linear):
            last = layer[-1]
            layer[-1] = nn.Identity()
            return last.in_features
    return 0


class CompactResNet(nn.Module):
    """A small residual network (He et al. 2015) with squeeze-and-excitation (Hu et al. 2017).

    A stride-2 stem, then stages of basic blocks, each but the first starting with stride
    2, then the mean over space.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = []
        width = widths[0]
        for stage, (next_width, depth) in enumerate(zip(widths, depths)):
            for index in range(depth):
                stride = 2 if stage and index == 0 else 1
                blocks.append(_Block(width, next_width, stride))
                width = next_width
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.blocks(self.stem(x))
        return features.mean(dim=(2, 3))


class _Block(nn.Module):
    """Two 3x3 convolutions and a squeeze-and-excitation gate beside a shortcut."""

    # For inference: what runs directly after what.
    consecutive = (("conv1", "norm1"), ("conv2", "norm2"))

    def __init__(self, width: int, next_width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, next_width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(next_width)
        self.conv2 = nn.Conv2d(next_width, next_width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(next_width)
        squeezed = max(8, next_width // 8)
        self.squeeze = nn.Linear(next_width, squeezed)
        self.excite = nn.Linear(squeezed, next_width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width != next_width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width, next_width, 1, stride=stride, bias=False),
                nn.BatchNorm2d(next_width),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        gate = self.excite(F.relu(self.squeeze(y.mean(dim=(2, 3))), inplace=True)).sigmoid()
        return F.relu(y * gate[:, :, None, None] + self.shortcut(x), inplace=True)


class MobileNetV1(nn.Module):
    """MobileNet of width 1.0 (Howard et al. 2017, arXiv 1704.04861), pooled where it is tapped.

    With the padding of TensorFlow's "SAME" (strides reach out to the right and below) and
    ReLU6, so that weights pretrained there fit.

    Args:
        channels: of the input.
        taps: blocks and grids, as `Backbone.taps`; the last block's mean over space by default.
    """

    def __init__(self, channels: int, taps: tuple[tuple[int, int], ...] = ()) -> None:
        super().__init__()
        self.taps = taps or ((len(_MOBILENET), 1),)
        self.lengths = [_MOBILENET[block - 1][0] * grid**2 for block, grid in self.taps]
        self.features = sum(self.lengths)
        layers = [_convolution(channels, 32, stride=2)]
        width = 32
        for next_width, stride in _MOBILENET:
            layers.append(_convolution(width, width, stride=stride, groups=width))
            layers.append(_convolution(width, next_width, size=1))
            width = next_width
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            # A block is a depthwise and a pointwise layer, after the first convolution.
            pooled += [_pool(x, grid) for block, grid in self.taps if 2 * block == index]
        return torch.cat(pooled, dim=1)


def _pool(x: torch.Tensor, grid: int) -> torch.Tensor:
    """Average over grid x grid regions, which overlap where the side isn't divisible.

    Returns:
        ``(n, channels * grid * grid)``.
    """
    side = x.shape[-1]
    if grid == 1:
        return x.mean(dim=(2, 3))
    if grid > side:
        raise ConfigError(f"backbone.taps: a grid of {grid} on {side} pixels; use a larger crop")
    stride = side // grid
    return F.avg_pool2d(x, side - (grid - 1) * stride, stride).flatten(1)


class TwoStream(nn.Module):
    """A residual network and a MobileNet side by side; their features follow one another.

    The first learned expressions from the start, the second may have learned faces before: they
    are wrong about different faces. The MobileNet sees the crop at twice its size, nearer to the
    size at which it was pretrained; there is no more in it than in the crop, so that a sharp
    photograph shows the network no detail that small training faces never had.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.residual = CompactResNet(channels, widths, depths)
        self.mobilenet = MobileNetV1(channels)
        self.lengths = (widths[-1], self.mobilenet.features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        larger = F.interpolate(x, scale_factor=2, mode="bilinear")
        return torch.cat([self.residual(x), self.mobilenet(larger)], dim=1)


# Width and stride of each depthwise separable convolution.
_MOBILENET = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def _convolution(
    width: int, next_width: int, size: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    padding = size // 2 if stride == 1 else 0
    return nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)) if stride == 2 else nn.Identity(),
        nn.Conv2d(width, next_width, size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(next_width),
        nn.ReLU6(inplace=True),
    )
