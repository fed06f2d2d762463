"""Teacher network for distillation: face-api's small expression classifier.

The file is ``face_expression_model`` of the npm package @vladmandic/face-api 1.7.15 (MIT, after
face-api.js), dequantised, as safetensors. It saw "publicly available data sets and images scraped
from the web", and is right on 71 % of FER+ test without having been trained there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from fever_extract.models.config import WeightsError

CLASSES = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
"""What its probabilities are of, in order."""
SIZE = 112
"""Side of the picture that it looks at, in pixels."""
# Five landmarks on ArcFace's template of 112 pixels (Deng et al. 2019, arXiv 1801.07698).
TEMPLATE = tuple(
    (x / SIZE, y / SIZE)
    for x, y in (
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    )
)

_MEAN = (122.782, 117.001, 104.298)
_WIDTHS = (32, 64, 128, 256)


class WebTeacher(nn.Module):
    """Four dense blocks of depthwise separable convolutions, and a softmax.

    Args:
        tensors: named as in the file: ``dense0.conv0.filters``, ``dense0.conv1.depthwise_filter``,
            ``.pointwise_filter``, ``.bias``, ..., ``fc.weights``, ``fc.bias``.

    Raises:
        WeightsError: if a tensor is missing or of another shape.
    """

    mean: torch.Tensor

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1))
        self.blocks = nn.ModuleList()
        width = 3
        try:
            for number, next_width in enumerate(_WIDTHS):
                names = [f"dense{number}.conv{index}" for index in range(4)]
                widths = [width, *[next_width] * 3]
                convolutions = [
                    _convolution(tensors, name, width, next_width, 1 if index else 2)
                    for index, (name, width) in enumerate(zip(names, widths))
                ]
                self.blocks.append(nn.ModuleList(convolutions))
                width = next_width
            self.classify = nn.Linear(width, len(CLASSES))
            _copy(self.classify.weight, tensors["fc.weights"].T)
            _copy(self.classify.bias, tensors["fc.bias"])
        except (KeyError, RuntimeError) as error:
            raise WeightsError(f"not face-api's expression network: {error}") from None
        self.eval().requires_grad_(False)

    @classmethod
    def read(cls, path: Path, sha256: str = "") -> WebTeacher:
        """Read the safetensors file.

        Args:
            path: where it lies.
            sha256: which file it must be, in hexadecimal; empty for any.

        Raises:
            FileNotFoundError: if it is not there.
            WeightsError: if it is another file, or no such network.
        """
        from safetensors.torch import load

        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; the recipe learns from it: docs/data.md")
        data = path.read_bytes()
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise WeightsError(f"{path} is not the file that the recipe names (web_teacher_sha256)")
        return cls(load(data))

    @torch.inference_mode()
    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Tell RGB crops ``(n, 3, 112, 112)``, 0 to 255, as probabilities ``(n, 7)``.

        A face should be aligned to `TEMPLATE`; see `CLASSES`.
        """
        x = (crops - self.mean) / 255
        for block in self.blocks:
            assert isinstance(block, nn.ModuleList)
            first = F.relu(block[0](x))
            total, x = first, first
            for convolution in block[1:]:
                total = total + convolution(x)
                x = F.relu(total)
        features = F.avg_pool2d(x, 7, 2).permute(0, 2, 3, 1).flatten(1)
        probabilities: torch.Tensor = self.classify(features).softmax(dim=1)
        return probabilities


def _convolution(
    tensors: dict[str, torch.Tensor], name: str, width: int, next_width: int, stride: int
) -> nn.Sequential:
    """3x3 with TensorFlow's "SAME" padding: of an even side, strides reach right and below."""
    padding: nn.Module = nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1)
    if f"{name}.filters" in tensors:
        whole = nn.Conv2d(width, next_width, 3, stride)
        _copy(whole.weight, tensors[f"{name}.filters"])
        last, layers = whole, [padding, whole]
    else:
        depthwise = nn.Conv2d(width, width, 3, stride, groups=width, bias=False)
        last = nn.Conv2d(width, next_width, 1)
        _copy(depthwise.weight, tensors[f"{name}.depthwise_filter"])
        _copy(last.weight, tensors[f"{name}.pointwise_filter"])
        layers = [padding, depthwise, last]
    assert last.bias is not None
    _copy(last.bias, tensors[f"{name}.bias"])
    return nn.Sequential(*layers)


def _copy(parameter: torch.Tensor, values: torch.Tensor) -> None:
    if parameter.shape != values.shape:
        raise RuntimeError(f"{tuple(values.shape)} numbers where {tuple(parameter.shape)} belong")
    parameter.data.copy_(values)
