"""The network as a model of timm; importing this registers it.

    import fever_extract.interop.timm
    model = timm.create_model("fever", pretrained=True, num_classes=7)

As everywhere in timm, what goes in is scaled and normalised by the model's own data config
(`timm.data.resolve_model_data_config`): here to 0 to 255, as the network itself normalises.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from fever_extract.interop.torch import from_pretrained
from fever_extract.models.network import FeverNet


class TimmFever(nn.Module):
    """Embeddings, and a linear classifier on them, by timm's names.

    Args:
        network: gives the embeddings.
        num_classes: of the classifier; 0 for none: embeddings come out.
        drop_rate: of dropout before the classifier.
    """

    def __init__(self, network: FeverNet, num_classes: int = 0, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.num_features = self.head_hidden_size = network.config.embedding_dim
        self.head_drop = nn.Dropout(drop_rate)
        size = network.config.preprocessing.size
        self.pretrained_cfg = self.default_cfg = {
            "architecture": "fever",
            "input_size": (3, size, size),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": (0.0, 0.0, 0.0),
            "std": (1 / 255,) * 3,
            "num_classes": num_classes,
            "classifier": "head",
        }
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Begin a new classifier, of another number of classes."""
        if global_pool not in (None, "", "avg"):
            raise ValueError("the network pools itself: leave global_pool out")
        self.num_classes = num_classes
        self.head: nn.Module = (
            nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        )

    def get_classifier(self) -> nn.Module:
        """The classifier, or an identity."""
        return self.head

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Crops ``(n, 3, size, size)``, 0 to 255, to embeddings ``(n, d)``."""
        return self.network.embed(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Embeddings to logits."""
        x = self.head_drop(x)
        logits: torch.Tensor = x if pre_logits else self.head(x)
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Crops to logits; or to embeddings, without a classifier."""
        return self.forward_head(self.forward_features(x))


@register_model  # type: ignore[untyped-decorator]
def fever(pretrained: bool = False, **options: Any) -> TimmFever:
    """The network of the embedded weights, with them or begun anew.

    Args:
        pretrained: with the weights.
        options: ``num_classes`` and ``drop_rate``, as in `TimmFever`; and ``source``, in place of
            the embedded weights, as in `fever_extract.interop.torch.from_pretrained`.

    Raises:
        TypeError: for any other option but those that timm itself adds and leaves empty.
    """
    source = options.pop("source", None)
    chosen = {name: options.pop(name) for name in ("num_classes", "drop_rate") if name in options}
    unknown = sorted(name for name, value in options.items() if value not in (None, False, ""))
    if unknown:
        raise TypeError(f"fever has no option {', '.join(unknown)}")
    network = from_pretrained(source)
    if not pretrained:
        network = FeverNet(network.config)
    return TimmFever(network, **chosen)
