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
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

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
            ValueError: see `fever_extract.models.config.Config.check_prior`.
        """
        self.config.check_prior(prior)
        shares = self.config.expression_prior
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
    """Run a network once: finite weights, too, can overflow, and a size can be too small."""
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


def for_inference(network: FeverNet) -> FeverNet:
    """The same function, faster: batch norm goes into the convolutions, channels come last.

    Args:
        network: ready for inference; changed in place.
    """
    _fuse(network.backbone)
    return network.to(memory_format=torch.channels_last)


def _fuse(backbone: nn.Module) -> None:
    """Fold batch norms, and padding to the right and below, into their convolutions, in place.

    By walking the modules: ``torch.fx`` patches `nn.Module` for the whole process while it
    traces, and makes the calls of other threads fail.
    """
    uses = Counter(module for _, module in backbone.named_modules(remove_duplicate=False))
    for parent, first, second in list(_neighbours(backbone)):
        convolution, norm = getattr(parent, first), getattr(parent, second)
        # What is used twice is followed by something else the second time.
        if uses[convolution] == uses[norm] == 1 and _is_fusible(convolution, norm):
            setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
            setattr(parent, second, nn.Identity())
    for parent, first, second in list(_neighbours(backbone)):
        padding, convolution = getattr(parent, first), getattr(parent, second)
        if uses[padding] == 1 and _is_padding_for(padding, convolution):
            setattr(parent, first, nn.Identity())
            setattr(parent, second, _with_padding(convolution))


def _neighbours(backbone: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Modules that certainly run one after the other: their parent, and their names there.

    The order of attributes is not the order of calls, so that others are left as they are.
    """
    for module in backbone.modules():
        pairs = getattr(module, "consecutive", ())
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            pairs = pairwise(module._modules)  # `named_children` leaves a second use out
        for first, second in pairs:
            yield module, first, second


def _is_fusible(convolution: nn.Module, norm: nn.Module) -> bool:
    return (
        type(convolution) is nn.Conv2d
        and type(norm) is nn.BatchNorm2d
        and norm.running_mean is not None
    )


def _is_padding_for(padding: nn.Module, convolution: nn.Module) -> bool:
    """Whether a module pads what the convolution sees by one, to the right and below only."""
    return (
        isinstance(padding, nn.ZeroPad2d)
        and tuple(padding.padding) == (0, 1, 0, 1)
        and type(convolution) is nn.Conv2d
        and convolution.padding_mode == "zeros"
        and convolution.padding == (0, 0)
        and convolution.dilation == (1, 1)
    )


def _with_padding(convolution: nn.Conv2d) -> nn.Conv2d:
    """The same convolution of what is not yet padded to the right and below.

    Its kernel gets a row and a column of zeros above and to the left, so that it may begin one
    pixel earlier, and be padded alike on all sides.
    """
    padded = copy.deepcopy(convolution)
    kernel = F.pad(convolution.weight.detach(), (1, 0, 1, 0))
    padded.weight, padded.padding = nn.Parameter(kernel, requires_grad=False), (1, 1)
    padded.kernel_size = (kernel.shape[2], kernel.shape[3])
    return padded


def in_dtype(network: FeverNet, dtype: str) -> FeverNet:
    """A copy whose backbone computes in ``"bfloat16"``, say; what goes in and out stays float32.

    Args:
        network: as `for_inference` returns it.
        dtype: name of a floating-point dtype of torch.
    """
    copied = copy.deepcopy(network)
    backbone = copied.backbone.to(getattr(torch, dtype))
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):  # that was not fused: its statistics stay exact
            module.float()
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
