"""A recipe: every choice of one training run, in one JSON file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fever_extract.config import Backbone

RECIPES = Path(__file__).parent / "recipes"
ADAPT_EPOCHS = 10


@dataclass(frozen=True)
class Recipe:
    """The choices of one run.

    Attributes:
        name: what the weights will be called.
        widths, depths: of the compact backbone.
        embedding_dim: length of a vector.
        size: side of the grey crop, in pixels.
        epochs, batch_size: passes over FER+ train; labelled faces a step.
        unlabelled: unlabelled faces that join each step's labelled ones.
        peak_lr, weight_decay: AdamW with a one-cycle schedule.
        dropout: on the pooled features.
        unaligned: share of the faces that are shown as cropped by their data set.
        blendshape_weight: of the blendshape loss beside the expression loss.
        seed: of the weights, the order and the augmentation.
    """

    name: str
    widths: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    embedding_dim: int = 256
    size: int = 64
    epochs: int = 20
    batch_size: int = 128
    unlabelled: int = 16
    peak_lr: float = 0.0015
    weight_decay: float = 0.05
    dropout: float = 0.1
    unaligned: float = 0.1
    blendshape_weight: float = 0.5
    seed: int = 0

    @property
    def backbone(self) -> Backbone:
        """The backbone that the recipe trains."""
        return Backbone(widths=self.widths, depths=self.depths)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe file, or one of ours by its bare name (``base``).

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it has a field that recipes don't have.
        """
        path = Path(path)
        if not path.suffix:
            path = RECIPES / f"{path}.json"
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        unknown = set(values) - {item.name for item in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"{path}: unknown field(s) {', '.join(sorted(unknown))}")
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**values)
