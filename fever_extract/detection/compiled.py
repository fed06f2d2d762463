"""MTCNN's networks and the sampling of their crops, compiled: the same functions in less time.

They stand in for those on torch where `fever_extract.kernels.library` is there. The source is
``kernels/mtcnn.inc``.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract.detection.mtcnn import DENSE, HEADS, POOLS, Cells, load_weights, scores
from fever_extract.detection.parameters import CELL, O_SIZE, R_SIZE, STRIDE
from fever_extract.kernels.library import LANES, instructions, library

if TYPE_CHECKING:
    import numpy.typing as npt

_TILE = 3  # crops that a dense layer computes at least


class CompiledMtcnn:
    """P-Net, R-Net and O-Net as `fever_extract.detection.mtcnn.Mtcnn`, but of bytes.

    Args:
        level: of `fever_extract.kernels.library.instructions`, by default the best.
    """

    def __init__(self, level: int | None = None) -> None:
        self._library = library()
        self._level = instructions() if level is None else level
        self._layers = {name: _pack(name) for name in HEADS}
        self._pointers = {
            name: (ctypes.c_void_p * len(layers))(*(layer.ctypes.data for layer in layers))
            for name, layers in self._layers.items()
        }

    def propose(self, levels: Sequence[torch.Tensor], threshold: float) -> Cells:
        """Run P-Net over images ``(h, w, 3)`` uint8: as `Mtcnn.propose`."""
        sides = np.array([level.shape[:2] for level in levels], np.int32)
        # As many as there are cells: memory that is not written to is not taken.
        count = int(((sides - CELL) // STRIDE + 1).prod(axis=1, dtype=np.int64).sum())
        places = np.empty((count, 3), np.int32)
        outputs = np.empty((count, 6), np.float32)
        count = self._library.fever_pnet(
            self._level,
            _pointers(levels),
            sides,
            len(levels),
            self._pointers["pnet"],
            math.log(threshold / (1 - threshold)),
            places,
            outputs,
        )
        _check(count)
        numbers, rows, columns = places[:count].T.astype(np.intp)
        return Cells(numbers, rows, columns, scores(outputs[:count]), outputs[:count, 2:])

    def refine(
        self, crops: torch.Tensor
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Run R-Net on crops ``(k, 24, 24, 3)``: as `Mtcnn.refine`."""
        output = self._run("rnet", crops, R_SIZE)
        return scores(output), output[:, 2:6]

    def locate(
        self, crops: torch.Tensor
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Run O-Net on crops ``(k, 48, 48, 3)``: as `Mtcnn.locate`."""
        output = self._run("onet", crops, O_SIZE)
        landmarks = output[:, 6:].reshape(-1, 2, 5).transpose(0, 2, 1)
        return scores(output), output[:, 2:6], landmarks

    def sample(
        self,
        images: Sequence[torch.Tensor],
        places: npt.NDArray[np.intp],
        edges: npt.NDArray[np.float32],
        size: int,
    ) -> torch.Tensor:
        """Sample crops of images bilinearly.

        Args:
            images: each ``(h, w, 3)`` uint8.
            places: ``(k,)``, which of the images each crop is of.
            edges: ``(k, 4)``, in this image's pixels; within it.
            size: side of a crop, at most 48.

        Returns:
            Crops ``(k, size, size, 3)`` float32.
        """
        crops = np.empty((len(places), size, size, 3), np.float32)
        sides = np.array([image.shape[:2] for image in images], np.int32)
        self._library.fever_sample(
            self._level,
            _pointers(images),
            sides,
            places.astype(np.int32),
            edges,
            len(places),
            size,
            crops,
        )
        return torch.from_numpy(crops)

    def resize(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Resize an image bilinearly, antialiased: to the bit as torch does on a CPU.

        Args:
            image: ``(h, w, 3)`` uint8.
            height: at least half of the image's.
            width: as the height.

        Returns:
            Pixels ``(height, width, 3)`` uint8.
        """
        assert 2 * height >= image.shape[0]
        assert 2 * width >= image.shape[1]
        resized = torch.empty(height, width, 3, dtype=torch.uint8)
        source, target = _pointers([image, resized])
        _check(self._library.fever_resize(source, *image.shape[:2], height, width, target))
        return resized

    def _run(self, name: str, crops: torch.Tensor, size: int) -> npt.NDArray[np.float32]:
        assert crops.shape[1:] == (size, size, 3)
        output = np.empty((max(len(crops), _TILE), LANES), np.float32)
        run = getattr(self._library, f"fever_{name}")
        _check(run(self._level, crops.numpy(), len(crops), self._pointers[name], output))
        return output[: len(crops)]


def _pointers(images: Sequence[torch.Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    assert all(image.dtype == torch.uint8 and image.is_contiguous() for image in images)
    return (ctypes.c_void_p * len(images))(*(image.data_ptr() for image in images))


def _check(count: int) -> None:
    if count < 0:
        raise MemoryError("no memory for MTCNN's networks: use smaller images or fewer threads")


def _pack(name: str) -> list[npt.NDArray[np.float32]]:
    """Lay a network's layers out as the kernels read them.

    Each is its bias, PReLU's slopes and weights ``(rows, columns, inputs, outputs)`` of the
    kernel, with outputs padded; a dense layer's grid is that of the features, 3x3.
    """
    weights = {key: value.numpy() for key, value in load_weights(name).items()}
    layers = []
    for n in range(1, len(POOLS[name]) + 1):
        values = weights[f"conv{n}.weight"].transpose(2, 3, 1, 0)
        if name == "pnet" and n > 1:
            values = _terms(values)
        layers.append((values, f"conv{n}", f"prelu{n}"))
    if name in DENSE:
        dense = weights[f"{DENSE[name]}.weight"]
        # There features are flattened as (w, h, c), here as (h, w, c).
        grid = dense.reshape(len(dense), 3, 3, -1).transpose(2, 1, 3, 0)
        layers.append((grid, DENSE[name], f"prelu{len(layers) + 1}"))
    packed = [
        _padded(weights[f"{layer}.bias"], weights[f"{prelu}.weight"], values)
        for values, layer, prelu in layers
    ]
    bias = np.concatenate([weights[f"{head}.bias"] for head in HEADS[name]])
    heads = np.concatenate([weights[f"{head}.weight"] for head in HEADS[name]])
    return [*packed, _padded(bias, np.zeros_like(bias), heads.reshape(len(bias), -1).T)]


def _terms(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn weights ``(rows, 3, inputs, outputs)`` into those of F(4, 3): (6, rows, ...)."""
    terms = [
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ]
    made: npt.NDArray[np.float32] = np.einsum("kx,yxio->kyio", terms, weights).astype(np.float32)
    return made


def _padded(*parts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    padded = [
        np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, -part.shape[-1] % LANES)]).ravel()
        for part in parts
    ]
    return np.concatenate(padded)
