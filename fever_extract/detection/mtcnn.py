"""P-Net, R-Net and O-Net, with facenet-pytorch's weights.

The same functions as facenet-pytorch's modules, to rounding, in half their time on a CPU:
the convolutions are few and thin, so what surrounds them counts. Images stay channels-last
from end to end; PReLU and pooling run over whole rows at once instead of pixel by pixel;
the subtraction of the mean is folded into the first layer, and the heads are one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from fever_extract.detection.parameters import CELL, STRIDE
from fever_extract.detection.sheets import pack

if TYPE_CHECKING:
    import numpy.typing as npt

_MEAN, _STD = 127.5, 128.0
_STRIP = 200_000  # pixels that P-Net takes at once on a CPU: 20 MB between its layers
_R_CHUNK, _O_CHUNK = 32, 6  # and so do the crops of a chunk

POOLS = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}
"""Side of the pooling window after each convolution; 0 for none."""
DENSE = {"rnet": "dense4", "onet": "dense5"}
"""The dense layer, where there is one."""
HEADS = {
    "pnet": ("conv4_1", "conv4_2"),
    "rnet": ("dense5_1", "dense5_2"),
    "onet": ("dense6_1", "dense6_2", "dense6_3"),
}
"""The layers whose outputs, side by side, are a network's."""


class Cells(NamedTuple):
    """Cells of P-Net that may be faces.

    Attributes:
        levels: which of the images each is of, ``(k,)``.
        rows, columns: its place there, ``(k,)``.
        scores: ``(k,)``, 0 to 1.
        offsets: of the box, in cells, ``(k, 4)``.
    """

    levels: npt.NDArray[np.intp]
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    scores: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.float32]


class Mtcnn:
    """P-Net, R-Net and O-Net.

    Args:
        device: where they run.
    """

    def __init__(self, device: torch.device) -> None:
        self._pnet = _Network("pnet", device)
        self._rnet = _Network("rnet", device)
        self._onet = _Network("onet", device)

    def propose(self, levels: Sequence[torch.Tensor], threshold: float) -> Cells:
        """Run P-Net over images.

        Args:
            levels: each ``(h, w, 3)``, 0 to 255, of 12 pixels or more a side, both even.
            threshold: cells whose score is not above it are left out.
        """
        parts = []
        for sheet in pack(levels):
            rows, columns, output = self._search(sheet.pixels, threshold)
            inside, numbers, rows, columns = sheet.find(rows, columns)
            parts.append((numbers, rows, columns, output[inside]))
        numbers, rows, columns, output = map(np.concatenate, zip(*parts))
        return Cells(numbers, rows, columns, scores(output), output[:, 2:])

    def _search(
        self, image: torch.Tensor, threshold: float
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Run P-Net over one image: rows and columns ``(k,)`` and outputs ``(k, 6)``."""
        height, width = image.shape[:2]
        count = (height - CELL) // STRIDE + 1
        step = count if image.is_cuda else max(1, (_STRIP // width - CELL) // STRIDE)
        chunks = []
        for row in range(0, count, step):
            strip = image[STRIDE * row : STRIDE * (min(row + step, count) - 1) + CELL]
            features = self._pnet.features(strip[None].float())[0]
            # Few cells are wanted: all six outputs of each would take long.
            likely = self._pnet.margin(features) > math.log(threshold / (1 - threshold))
            below, across = likely.nonzero(as_tuple=True)
            chunks.append((below + row, across, self._pnet.heads(features[below, across])))
        rows, columns, output = (torch.cat(parts).cpu().numpy() for parts in zip(*chunks))
        return rows, columns, output

    def refine(
        self, crops: torch.Tensor
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Run R-Net on crops ``(k, 24, 24, 3)``, 0 to 255: scores ``(k,)``, offsets ``(k, 4)``."""
        chunks = [self._rnet(chunk) for chunk in torch.split(crops, _R_CHUNK)]
        output = torch.cat(chunks).cpu().numpy()
        return scores(output), output[:, 2:]

    def locate(
        self, crops: torch.Tensor
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Run O-Net on crops ``(k, 48, 48, 3)``, 0 to 255.

        Returns:
            Scores ``(k,)``, offsets ``(k, 4)`` and landmarks ``(k, 5, 2)``, x and y, in
            sides of the crop.
        """
        chunks = [self._onet(chunk) for chunk in torch.split(crops, _O_CHUNK)]
        output = torch.cat(chunks).cpu().numpy()
        landmarks = output[:, 6:].reshape(-1, 2, 5).transpose(0, 2, 1)
        return scores(output), output[:, 2:6], landmarks


class Heads:
    """What a network computes last: two logits, offsets of the box and, in O-Net, landmarks.

    P-Net's are 1x1 convolutions: linear at each cell.

    Args:
        name: of the network.
        weights: of `load_weights`.
        device: where the heads are.
    """

    def __init__(self, name: str, weights: dict[str, torch.Tensor], device: torch.device) -> None:
        heads = HEADS[name]
        self._head_weight = torch.cat([weights[f"{h}.weight"].flatten(1) for h in heads]).to(device)
        self._head_bias = torch.cat([weights[f"{h}.bias"] for h in heads]).to(device)

    def heads(self, features: torch.Tensor) -> torch.Tensor:
        """Compute all heads' outputs, concatenated."""
        return F.linear(features, self._head_weight, self._head_bias)

    def margin(self, features: torch.Tensor) -> torch.Tensor:
        """Return the face's logit minus the other."""
        weight, bias = (values[1] - values[0] for values in (self._head_weight, self._head_bias))
        margin: torch.Tensor = features @ weight + bias
        return margin


class _Network(Heads):
    """One network, from images ``(n, h, w, 3)`` to its heads' outputs, concatenated."""

    def __init__(self, name: str, device: torch.device) -> None:
        weights = load_weights(name)
        super().__init__(name, weights, device)
        self._convolutions = []
        for number, pool in enumerate(POOLS[name], 1):
            weight = weights[f"conv{number}.weight"].to(device, memory_format=torch.channels_last)
            bias = weights[f"conv{number}.bias"].to(device)
            prelu = _PReLU(weights[f"prelu{number}.weight"].to(device))
            self._convolutions.append((weight, bias, prelu, pool))
        self._dense = None
        if name in DENSE:
            weight = weights[f"{DENSE[name]}.weight"]
            # There features are flattened as (w, h, c), here as (h, w, c).
            grid = weight.reshape(len(weight), 3, 3, -1).transpose(1, 2).flatten(1)
            bias = weights[f"{DENSE[name]}.bias"].to(device)
            prelu = _PReLU(weights[f"prelu{len(self._convolutions) + 1}.weight"].to(device))
            self._dense = (grid.contiguous().to(device), bias, prelu)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.heads(self.features(x))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the features that the heads take, channels last."""
        for weight, bias, prelu, pool in self._convolutions:
            x = F.conv2d(x.permute(0, 3, 1, 2), weight, bias).permute(0, 2, 3, 1)
            x = prelu(x.contiguous())
            x = _max_pool(x, pool) if pool else x
        if self._dense is not None:
            weight, bias, prelu = self._dense
            x = prelu(F.linear(x.flatten(1), weight, bias))
        return x


class _PReLU:
    """PReLU on ``(..., c)``, a row of pixels at a time: for thin images many times as fast."""

    def __init__(self, slope: torch.Tensor) -> None:
        self._slope = self._row = slope

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[-1] * (x.shape[-2] if x.dim() > 2 else 1)
        row = self._row
        if len(row) < length:
            row = self._row = self._slope.repeat(length // len(self._slope))
        return F.prelu(x.view(-1, length), row[:length]).view(x.shape)


def load_weights(name: str) -> dict[str, torch.Tensor]:
    """One network's weights, for images from 0 to 255.

    Out of facenet-pytorch, without running the pickle that its own loader would.

    Args:
        name: ``pnet``, ``rnet`` or ``onet``.
    """
    # Importing facenet-pytorch would import torchvision, and that torch's compiler: two seconds.
    spec = find_spec("facenet_pytorch")
    assert spec is not None  # a core dependency
    path = Path(str(spec.origin)).parent / "data" / f"{name}.pt"
    weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    weights["conv1.bias"] -= _MEAN / _STD * weights["conv1.weight"].sum(dim=(1, 2, 3))
    weights["conv1.weight"] /= _STD
    return weights


def _max_pool(x: torch.Tensor, size: int) -> torch.Tensor:
    """Max-pool ``(n, h, w, c)`` with windows of 2 or 3 a side and stride 2.

    As in Caffe, a last window that reaches over the border counts (``ceil_mode``). With
    windows of 2, sides must be even.
    """
    for axis in (1, 2):
        count = x.shape[axis] // 2
        pooled = torch.maximum(_every_other(x, axis, 0, count), _every_other(x, axis, 1, count))
        if size == 3:
            count = (x.shape[axis] - 1) // 2  # all but a window that reaches over the border
            inside = pooled.narrow(axis, 0, count)
            torch.maximum(inside, _every_other(x, axis, 2, count), out=inside)
        x = pooled
    return x


def _every_other(x: torch.Tensor, axis: int, start: int, count: int) -> torch.Tensor:
    kept = slice(start, start + 2 * count, 2)
    return x[:, kept] if axis == 1 else x[:, :, kept]


def scores(output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the softmax probability of the second of two logits, the face's."""
    # By way of tanh, as exp would overflow.
    half = (output[..., 1] - output[..., 0]) / 2
    return np.asarray(0.5 + 0.5 * np.tanh(half), np.float32)
