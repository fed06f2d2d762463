"""Aligned crops to embeddings and head outputs, on one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from fever_extract._utils.device_thread import DeviceThread
from fever_extract._utils.precision import full_precision
from fever_extract._utils.sampling import upload
from fever_extract._utils.threads import one_thread
from fever_extract.kernels.library import instructions
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.models.compiled import compile_layers
from fever_extract.models.inference import for_inference, in_dtype
from fever_extract.models.network import FeverNet, build
from fever_extract.options import Options
from fever_extract.quality.crop import sharpness_and_exposure

if TYPE_CHECKING:
    import numpy.typing as npt

_AT_ONCE = 16  # faces on the CPU: more would leave its cache


class Embedded(NamedTuple):
    """What the network says of one crop.

    Attributes:
        embedding: ``(d,)`` float32.
        heads: the values of each head, by its name, and ``crop``: sharpness and exposure.
    """

    embedding: npt.NDArray[np.float32]
    heads: dict[str, list[float]]


class Embedder:
    """The embedding network of a checkpoint, ready for crops.

    Args:
        checkpoint: the weights.
        device: where it computes.
        thread: that asks the device.
        batched: round the number of crops up to a power of two, for a GPU, which prepares for
            each new number.

    Raises:
        WeightsError: if the weights don't fit their config.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        thread: DeviceThread,
        *,
        batched: bool,
    ) -> None:
        self._checkpoint, self._device, self._thread = checkpoint, device, thread
        self._batched = batched
        with one_thread():
            network = self.network()
            if device.type == "cpu" and instructions():
                compile_layers(network)
            self._by_dtype = {"float32": for_inference(network)}
        self._trainable: dict[torch.device, FeverNet] = {}

    def network(self) -> FeverNet:
        """Build a separate network, as it was trained, on this device."""
        return build(self._checkpoint.config, self._checkpoint.state_dict).to(self._device)

    def embed(self, crops: Sequence[torch.Tensor], options: Options) -> Iterator[Embedded]:
        """Embed crops, in order; the results come from the device together, once.

        Args:
            crops: each ``(k, 3, s, s)`` or ``(k, 1, s, s)`` float32, 0 to 255, ``s`` as configured.
            options: ``batch_size``, ``dtype``, ``prior`` and ``normalize`` of them.
        """
        if not sum(map(len, crops)):
            return iter(())
        rows, widths = self._thread.run(lambda: self._rows(crops, options))
        return self._take_apart(rows, widths)

    def embed_tensor(self, crops: torch.Tensor, *, normalize: bool) -> torch.Tensor:
        """Embed crops ``(n, c, s, s)`` on their device and with gradients: ``(n, d)``."""
        device = crops.device
        if device not in self._trainable:
            # Not fused for inference, so that gradients flow as in training.
            self._trainable[device] = self.network().requires_grad_(False).to(device)
        if device.type == "cuda":
            with full_precision():
                embeddings = self._trainable[device].embed(crops)
        else:
            embeddings = self._trainable[device].embed(crops)
        return F.normalize(embeddings) if normalize else embeddings

    @torch.inference_mode()
    def _rows(
        self, crops: Sequence[torch.Tensor], options: Options
    ) -> tuple[npt.NDArray[np.float32], dict[str, int]]:
        """Return a row per crop, and how many numbers each head has in it."""
        if options.dtype not in self._by_dtype:
            self._by_dtype[options.dtype] = in_dtype(for_inference(self.network()), options.dtype)
        network = self._by_dtype[options.dtype]
        size = options.batch_size
        if self._device.type == "cpu":
            size = min(size, _AT_ONCE)
        parts: list[torch.Tensor] = []
        widths: dict[str, int] = {}
        for chunk in torch.split(self._gathered(crops), size):
            output = network(self._rounded_up(chunk))
            heads = dict(output.heads)
            if "expression" in heads:
                heads["expression"] = network.probabilities(heads["expression"], options.prior)
            embeddings = F.normalize(output.embedding) if options.normalize else output.embedding
            widths = {name: values.shape[1] for name, values in heads.items()}
            together = torch.cat([embeddings, *heads.values()], dim=1)[: len(chunk)]
            parts.append(torch.cat([together, sharpness_and_exposure(chunk)], dim=1))
        return torch.cat(parts).cpu().numpy(), widths | {"crop": 2}

    def _gathered(self, crops: Sequence[torch.Tensor]) -> torch.Tensor:
        """Join crops on the device; those that are elsewhere go there in one transfer."""
        here = self._device.type  # by kind: "cuda" and "cuda:0" are one device with two names
        elsewhere = [some for some in crops if some.device.type != here]
        if not elsewhere:
            return torch.cat(list(crops))
        joined = upload(torch.cat(elsewhere).numpy(), self._device)
        moved = iter(torch.split(joined, [len(some) for some in elsewhere]))
        return torch.cat([some if some.device.type == here else next(moved) for some in crops])

    def _rounded_up(self, crops: torch.Tensor) -> torch.Tensor:
        """Add empty crops up to a power of two."""
        more = (1 << (len(crops) - 1).bit_length()) - len(crops) if self._batched else 0
        return F.pad(crops, (0, 0, 0, 0, 0, 0, 0, more)) if more else crops

    def _take_apart(
        self, rows: npt.NDArray[np.float32], widths: dict[str, int]
    ) -> Iterator[Embedded]:
        length = self._checkpoint.config.embedding_dim
        ends = np.cumsum([length, *widths.values()]).tolist()
        for row in rows:
            heads = {
                name: row[start:end].tolist() for name, start, end in zip(widths, ends, ends[1:])
            }
            yield Embedded(row[:length].copy(), heads)
