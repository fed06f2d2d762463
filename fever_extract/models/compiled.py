"""MobileNetV1 and the embedding layer, compiled: the same functions in less time."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fever_extract.kernels.library import instructions, library
from fever_extract.models.backbones import MobileNetV1
from fever_extract.models.network import FeverNet

if TYPE_CHECKING:
    import numpy.typing as npt

_PANELS = {1: 16, 2: 64}  # outputs that a tile of a matrix product has, by instructions


def compile_layers(network: FeverNet, level: int | None = None) -> None:
    """Put compiled layers in the places of those on torch that there are some for.

    Args:
        network: on a CPU, in evaluation mode, as it was trained; changed in place.
        level: of `fever_extract.kernels.library.instructions`, by default the best.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is MobileNetV1:
                setattr(module, name, CompiledMobileNet(child, level))
    network.embedding = nn.Sequential(CompiledEmbedding(network.embedding, level))


class CompiledMobileNet(nn.Module):
    """`MobileNetV1`, for inference on a CPU.

    Args:
        network: on a CPU, in evaluation mode, its batch norms not yet folded.
        level: as of `compile_layers`.
    """

    def __init__(self, network: MobileNetV1, level: int | None = None) -> None:
        super().__init__()
        self._level = instructions() if level is None else level
        first, *others = network.layers
        convolution, scale, bias = _unfolded(first)
        weights = convolution.weight.detach().permute(2, 3, 1, 0)
        self._layers = [_joined(scale, bias, weights)]
        blocks = []
        for depthwise, pointwise in zip(others[::2], others[1::2]):
            convolution, scale, bias = _unfolded(depthwise)
            stride = convolution.stride[0]
            weights = convolution.weight.detach().permute(2, 3, 1, 0)
            self._layers.append(_joined(scale, bias, weights))
            convolution, scale, bias = _unfolded(pointwise)
            weights = convolution.weight.detach().flatten(1)
            packed, half = _packed(scale, bias, weights, self._level)
            self._layers.append(packed)
            blocks.append((len(weights), stride, half))
        taps = sorted(network.taps, key=lambda tap: tap[0])
        self._blocks = np.array(blocks, np.int32)
        self._taps = np.array([(block - 1, grid) for block, grid in taps], np.int32)
        self._pointers = _pointers(self._layers)
        self._features = network.features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `MobileNetV1.forward`."""
        crops = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
        features = np.empty((len(crops), self._features), np.float32)
        done = library().fever_mobilenet(
            self._level,
            crops,
            len(crops),
            crops.shape[1],
            crops.shape[3],
            self._blocks,
            len(self._blocks),
            self._taps,
            len(self._taps),
            self._pointers,
            self._features,
            features,
        )
        if done < 0:
            raise MemoryError("no memory for the network: use a smaller batch or fewer threads")
        return torch.from_numpy(features)


class CompiledEmbedding(nn.Module):
    """`FeverNet.embedding`, for inference on a CPU.

    Args:
        embedding: a linear layer without bias and a batch norm, on a CPU, in evaluation mode.
        level: as of `compile_layers`.
    """

    def __init__(self, embedding: nn.Sequential, level: int | None = None) -> None:
        super().__init__()
        linear, norm = embedding
        assert isinstance(linear, nn.Linear)
        assert isinstance(norm, nn.BatchNorm1d)
        self._level = instructions() if level is None else level
        scale, bias = _affine(norm)
        self._size = linear.out_features
        self._layer, self._half = _packed(scale, bias, linear.weight.detach(), self._level)
        self._padded = -(-self._size // _PANELS[self._level]) * _PANELS[self._level]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed features ``(n, features)``: ``(n, d)``."""
        features = x.numpy()
        embeddings = np.empty((len(features), self._padded), np.float32)
        library().fever_dense(
            self._level,
            features,
            *features.shape,
            self._half,
            self._layer.ctypes.data,
            self._padded,
            embeddings,
        )
        return torch.from_numpy(embeddings[:, : self._size])


def _unfolded(layer: nn.Module) -> tuple[nn.Conv2d, torch.Tensor, torch.Tensor]:
    """Return a layer's convolution, and the scale and the bias of its batch norm."""
    _, convolution, norm, _ = layer.children()
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return convolution, *_affine(norm)


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias.detach() - norm.running_mean * scale


def _joined(*parts: torch.Tensor) -> npt.NDArray[np.float32]:
    return torch.cat([part.flatten() for part in parts]).numpy()


def _packed(
    scale: torch.Tensor, bias: torch.Tensor, weights: torch.Tensor, level: int
) -> tuple[npt.NDArray[np.float32], bool]:
    """Lay out a matrix ``(outputs, inputs)`` in panels of outputs, after their scale and bias.

    Returns:
        All of it, and whether the matrix is in float16: if it loses nothing by that.
    """
    panel = _PANELS[level]
    missing = -len(weights) % panel
    matrix = nn.functional.pad(weights, (0, 0, 0, missing))
    panels = matrix.reshape(-1, panel, matrix.shape[1]).permute(0, 2, 1).contiguous()
    half = bool((panels.half().float() == panels).all())
    values = (panels.half() if half else panels).numpy().ravel().view(np.float32)
    edges = [nn.functional.pad(part, (0, missing)).numpy() for part in (scale, bias)]
    return np.concatenate([*edges, values]), half


def _pointers(arrays: Iterable[npt.NDArray[np.float32]]) -> ctypes.Array[ctypes.c_void_p]:
    addresses = [array.ctypes.data for array in arrays]
    return (ctypes.c_void_p * len(addresses))(*addresses)
