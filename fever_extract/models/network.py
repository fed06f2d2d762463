"""The DeepFEVER network: one feature extractor, one embedding, a head for each task.

After Schoneveld and Othmani, "Towards a General Deep Feature Extractor for Facial
Expression Recognition" (arXiv 2201.07781): the heads are what it is trained through,
the embedding is what it is used for. The architecture comes from the config; this
module does no input or output.

State dict keys: ``backbone.*``, ``embedding.0`` (linear), ``embedding.1`` (batch norm),
and ``heads.<task>`` (linear), where a task is ``expression``, ``blendshapes`` or
``valence_arousal``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from fever_extract.models.backbones import build_backbone
from fever_extract.models.config import OURS, Config, WeightsError

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601, as in Pillow's mode L


@dataclass(frozen=True)
class Output:
    """What the network says of a batch of n crops.

    Attributes:
        embedding: ``(n, d)``.
        heads: per task that the checkpoint has: ``expression`` ``(n, classes)`` logits,
            ``blendshapes`` ``(n, 52)`` in 0 to 1, ``valence_arousal`` ``(n, 2)`` in -1 to 1.
    """

    embedding: torch.Tensor
    heads: dict[str, torch.Tensor]


class FeverNet(nn.Module):
    """Face crops to embeddings and task outputs.

    Args:
        config: the architecture; weights are random until a state dict is loaded.
        dropout: probability of dropping a pooled feature in training.

    Raises:
        ConfigError: if the backbone is not known.
    """

    mean: torch.Tensor
    std: torch.Tensor
    luminance: torch.Tensor

    def __init__(self, config: Config, dropout: float = 0.0) -> None:
        super().__init__()
        channels = config.preprocessing.channels
        self.backbone, features = build_backbone(config.backbone, channels)
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Sequential(
            nn.Linear(features, config.embedding_dim, bias=False),
            nn.BatchNorm1d(config.embedding_dim),
        )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(config.embedding_dim, size) for name, size in config.heads.items()}
        )
        self.config = config
        self.channels = channels
        # torchvision's networks take three channels: a grey one is repeated.
        self.backbone_channels = channels if config.backbone.name in OURS else 3
        shape = (1, channels, 1, 1)
        for name, values in (
            ("mean", config.preprocessing.mean),
            ("std", config.preprocessing.std),
        ):
            self.register_buffer(name, torch.tensor(values).reshape(shape), persistent=False)
        self.register_buffer(
            "luminance", torch.tensor(_LUMINANCE).reshape(1, 3, 1, 1), persistent=False
        )

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """Aligned crops ``(n, 3 or 1, size, size)``, 0 to 255, to the backbone's features."""
        normalised = (self._convert(crops) - self.mean) / self.std
        features: torch.Tensor = self.backbone(
            normalised.expand(-1, self.backbone_channels, -1, -1)
        )
        return features

    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """Aligned crops, as in `features`, to embeddings ``(n, d)``."""
        embedding: torch.Tensor = self.embedding(self.dropout(self.features(crops)))
        return embedding

    def classify(self, embedding: torch.Tensor) -> dict[str, torch.Tensor]:
        """Embeddings ``(n, d)`` to the outputs of each head; see `Output.heads`."""
        outputs = {name: head(embedding) for name, head in self.heads.items()}
        if "blendshapes" in outputs:
            outputs["blendshapes"] = outputs["blendshapes"].sigmoid()
        if "valence_arousal" in outputs:
            outputs["valence_arousal"] = outputs["valence_arousal"].tanh()
        return outputs

    def probabilities(self, logits: torch.Tensor, prior: str | None = None) -> torch.Tensor:
        """The expression head's logits ``(n, classes)`` to probabilities ``(n, classes)``.

        Args:
            logits: of `classify`.
            prior: ``"uniform"``, ``"training"``, or None for ``"uniform"`` where the config
                knows the training set's prior.

        Raises:
            ValueError: if the config does not know the prior, and ``"uniform"`` is asked for.
        """
        shares = self.config.expression_prior
        if prior == "uniform" and not shares:
            raise ValueError(
                "these weights don't say which prior their expression head learned: "
                'prior="uniform" needs weights with an expression_prior in their config'
            )
        if prior == "training" and shares:
            logits = logits + logits.new_tensor(shares).log()
        return logits.softmax(dim=1)

    def forward(self, crops: torch.Tensor) -> Output:
        """Both `embed` and `classify`."""
        embedding = self.embed(crops)
        return Output(embedding, self.classify(embedding))

    def _convert(self, crops: torch.Tensor) -> torch.Tensor:
        if crops.shape[1] == self.channels:
            return crops
        if self.channels == 1:
            return (crops * self.luminance).sum(dim=1, keepdim=True)
        return crops.expand(-1, self.channels, -1, -1)


def build(config: Config, state_dict: Mapping[str, torch.Tensor]) -> FeverNet:
    """A network with weights, ready for inference.

    Raises:
        WeightsError: if a tensor is missing, left over or of another shape than the
            config says; names the first.
    """
    # Without memory first: a config may describe more than the file (or the machine) holds.
    with torch.device("meta"):
        expected = FeverNet(config).state_dict()
    for name in [*expected, *state_dict]:
        want, have = (
            tuple(tensors[name].shape) if name in tensors else "missing"
            for tensors in (expected, state_dict)
        )
        if want != have:
            raise WeightsError(
                f"the weights don't fit their config: tensor {name!r} is {have} in the file, "
                f"{want} by the config"
            )
    network = FeverNet(config)
    network.load_state_dict(dict(state_dict))
    return network.eval()


def for_inference(network: FeverNet) -> FeverNet:
    """The same function, faster: batch norm goes into the convolutions, channels come last.

    Args:
        network: ready for inference; changed in place.
    """
    network.backbone = fuse(network.backbone)
    return network.to(memory_format=torch.channels_last)


def in_dtype(network: FeverNet, dtype: str) -> FeverNet:
    """A copy whose backbone computes in ``"bfloat16"``, say; what goes in and out stays float32.

    Args:
        network: as `for_inference` returns it.
        dtype: name of a floating-point dtype of torch.
    """
    copied = copy.deepcopy(network)
    backbone = copied.backbone.to(getattr(torch, dtype))
    copied.backbone = nn.Sequential(_Cast(getattr(torch, dtype)), backbone, _Cast(torch.float32))
    return copied


class _Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.dtype)


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device that was asked for, or CUDA where there is one, else the CPU.

    Raises:
        ValueError: if it is not known or not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {str(device)!r} can't be used: {reason}") from None
