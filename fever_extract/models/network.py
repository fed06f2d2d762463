"""The DeepFEVER network: backbone, embedding, and a head per task.

After Schoneveld and Othmani, "Towards a General Deep Feature Extractor for Facial
Expression Recognition" (arXiv 2201.07781): the heads are what it is trained through,
the embedding is what it is used for. The architecture comes from the config; this
module does no input or output.

State dict keys: ``backbone.*``, ``embedding.0`` (linear), ``embedding.1`` (batch norm),
and ``heads.<task>`` (linear), where a task is ``expression``, ``blendshapes`` or
``valence_arousal``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from fever_extract.models.backbones import build_backbone
from fever_extract.models.config import OURS, Config, WeightsError

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601, as in Pillow's mode L


@dataclass(frozen=True)
class Output:
    """Outputs of the network for n crops.

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
        self._set_constants()

    def _set_constants(self) -> None:
        preprocessing = self.config.preprocessing
        for name, values in (
            ("mean", preprocessing.mean),
            ("std", preprocessing.std),
            ("luminance", _LUMINANCE),
        ):
            self.register_buffer(name, torch.tensor(values).reshape(1, -1, 1, 1), persistent=False)

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """Compute the features of aligned crops ``(n, 3 or 1, size, size)``, 0 to 255."""
        normalised = (self._convert(crops) - self.mean) / self.std
        features: torch.Tensor = self.backbone(
            normalised.expand(-1, self.backbone_channels, -1, -1)
        )
        return features

    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """Embed aligned crops, as in `features`: ``(n, d)``."""
        embedding: torch.Tensor = self.embedding(self.dropout(self.features(crops)))
        return embedding

    def classify(self, embedding: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute each head's outputs from embeddings ``(n, d)``; see `Output.heads`."""
        outputs = {name: head(embedding) for name, head in self.heads.items()}
        if "blendshapes" in outputs:
            outputs["blendshapes"] = outputs["blendshapes"].sigmoid()
        if "valence_arousal" in outputs:
            outputs["valence_arousal"] = outputs["valence_arousal"].tanh()
        return outputs

    def probabilities(self, logits: torch.Tensor, prior: str | None = None) -> torch.Tensor:
        """Convert the expression head's logits ``(n, classes)`` to probabilities ``(n, classes)``.

        Args:
            logits: of `classify`.
            prior: ``"uniform"``, ``"training"``, or None for ``"uniform"`` where the config
                knows the training set's prior.

        Raises:
            ValueError: see `fever_extract.models.config.Config.check_prior`.
        """
        self.config.check_prior(prior)
        shares = self.config.expression_prior
        if prior == "training" and shares:
            logits = logits + logits.new_tensor(shares).log()
        return logits.softmax(dim=1)

    def forward(self, crops: torch.Tensor) -> Output:
        """Embed and classify."""
        embedding = self.embed(crops)
        return Output(embedding, self.classify(embedding))

    def _convert(self, crops: torch.Tensor) -> torch.Tensor:
        if crops.shape[1] == self.channels:
            return crops
        if self.channels == 1:
            return (crops * self.luminance).sum(dim=1, keepdim=True)
        return crops.expand(-1, self.channels, -1, -1)


def build(config: Config, state_dict: Mapping[str, torch.Tensor]) -> FeverNet:
    """Build a network with weights, ready for inference.

    Raises:
        WeightsError: if a tensor is missing, left over or of another shape than the
            config says, or of integers where it says numbers; names the first. Or if the network
            can't be run, or gives values that are not finite.
    """
    # Without memory: a config may describe more than the file (or the machine) holds. Nor is the
    # caller's random generator used for weights that are replaced at once.
    with torch.device("meta"):
        network = FeverNet(config)
    expected = network.state_dict()
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
        want_dtype, dtype = expected[name].dtype, state_dict[name].dtype
        if want_dtype.is_floating_point != dtype.is_floating_point:
            raise WeightsError(
                f"the weights don't fit their config: tensor {name!r} is of {dtype} in the file, "
                f"{want_dtype} by the config"
            )
    copies = {name: state_dict[name].to(like.dtype, copy=True) for name, like in expected.items()}
    network.load_state_dict(copies, assign=True)
    network._set_constants()
    _try(network.eval())
    return network


def _try(network: FeverNet) -> None:
    """Run a network once: even finite weights can overflow, and a size can be too small."""
    size = network.config.preprocessing.size
    crops = torch.linspace(0, 255, 3 * size * size).reshape(1, 3, size, size)
    try:
        with torch.no_grad():
            output = network(crops)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"the network can't be run on {size}x{size} pixels: {reason}") from error
    for name, values in [("embedding", output.embedding), *output.heads.items()]:
        if not values.isfinite().all():
            raise WeightsError(f"the weights overflow: {name} has values that are not finite")


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """Choose the device: the given one, or CUDA where available, else the CPU.

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
