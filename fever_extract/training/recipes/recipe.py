"""A recipe: every choice of one training run, in one JSON file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fever_extract.models.config import Backbone

RECIPES = Path(__file__).parent
ADAPT_EPOCHS = 10
REST = 0.2
"""What `fever_extract.training.trainer.finish` leaves of the length of what labels don't explain:
chosen on validation data."""
SHARE = 0.6
"""What `fever_extract.training.trainer.average` takes of the second weights: chosen on validation
data, for ``covered``."""

_STAGES = {"teacher", "student"}


@dataclass(frozen=True)
class Part:
    """A further table's part of each step.

    Attributes:
        table: file in the data folder, as `fever_extract.training.data.prepare` makes it.
        count: faces a step, or triplets of faces.
        split: which faces.
        size: side that pictures are kept at, in pixels.
        triplets: file with triplets of the table's faces; then these are learned from.
    """

    table: str
    count: int
    split: str = "train"
    size: int = 96
    triplets: str = ""


@dataclass(frozen=True)
class Recipe:
    """The choices of one run.

    Attributes:
        name: what the weights will be called.
        backbone: architecture, as in the weights' config.
        pretrained: file in the data folder that a ``mobilenet_v1`` backbone begins from;
            empty for none.
        from_teachers: each stream of the backbone begins as the teachers' of its kind ended.
        frozen: so many of a MobileNet's first convolutions stay as they were pretrained.
        embedding_dim: length of an embedding.
        size: side of the grey crop, in pixels.
        labelled: table whose split ``train`` an epoch passes over, and whose ``valid`` is measured.
        labelled_size: side that its pictures are kept at, in pixels.
        epochs, batch_size: passes over the labelled faces; how many of them a step takes.
        unlabelled: unlabelled faces that join each step's labelled ones; 0 needs no table of them.
        tables: further tables whose faces join each step; what they have no labels for they
            don't teach.
        rare_repeats: faces of classes that hold under a twentieth of the labels are shown up
            to so many times an epoch.
        peak_lr, weight_decay: AdamW with a one-cycle schedule.
        warm_up: the part of the schedule in which the learning rate rises.
        ema: decay a step of the moving average of the weights, which is what is kept; 0 keeps
            the weights themselves.
        dropout: on the pooled features.
        unaligned: share of the faces that are shown as cropped by their data set.
        jitter: how much crops are turned, scaled and shifted; see `augment.jitter`.
        covered: share of the faces of which a mask, a block or the like hides a part.
        poor: share of the faces that are reduced, blurred or stored badly, beside the mild
            distortion that all get; of covered ones half of that.
        auxiliary_weight: of the expression losses of each stream of a ``two_stream`` backbone
            alone, by heads that exist in training only.
        blendshape_weight: of the blendshape loss beside the expression loss.
        valence_arousal_weight, triplet_weight: of these losses, where a table has their labels.
        triplet_margin: by how much closer the two alike are, in squared distance.
        distill_weight: how much of a labelled face's target is its teachers' word rather than
            its votes. An unlabelled face's is theirs alone.
        geometry_weight: of the loss that makes cosines between embeddings tell how alike the
            expressions are.
        geometry_teachers: how much of that likeness is the cosine between the teachers'
            embeddings rather than the overlap of soft labels.
        seed: of the weights, the order and the augmentation.
    """

    name: str
    backbone: Backbone = field(default_factory=Backbone)
    pretrained: str = ""
    from_teachers: bool = False
    frozen: int = 0
    embedding_dim: int = 256
    size: int = 64
    labelled: str = "ferplus.parquet"
    labelled_size: int = 48
    epochs: int = 20
    batch_size: int = 128
    unlabelled: int = 16
    tables: tuple[Part, ...] = ()
    rare_repeats: int = 1
    peak_lr: float = 0.0015
    weight_decay: float = 0.05
    warm_up: float = 0.2
    ema: float = 0.0
    dropout: float = 0.1
    unaligned: float = 0.1
    jitter: float = 1.0
    covered: float = 0.0
    poor: float = 0.0
    auxiliary_weight: float = 0.0
    blendshape_weight: float = 0.5
    valence_arousal_weight: float = 0.5
    triplet_weight: float = 0.5
    triplet_margin: float = 0.2
    distill_weight: float = 0.0
    geometry_weight: float = 0.0
    geometry_teachers: float = 0.0
    seed: int = 0

    @classmethod
    def read(cls, path: str | Path, *, taught: bool = False) -> Recipe:
        """Read a recipe file, or one of ours by its bare name (``base``).

        Args:
            path: the file. It may have the recipes of two stages, ``teacher`` and ``student``.
            taught: whether there are teachers, and of two stages it is the student's.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no recipe, or has a field that recipes don't have.
        """
        values = read_fields(path, cls, "student" if taught else "teacher")
        try:
            if "backbone" in values:
                backbone = values["backbone"]
                shape = {key: tuple(backbone.get(key, ())) for key in ("widths", "depths")}
                taps = tuple(map(tuple, backbone.get("taps", ())))
                values["backbone"] = Backbone(backbone["name"], **shape, taps=taps)
            values["tables"] = tuple(Part(**part) for part in values.get("tables", ()))
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path}: {error}") from None


def read_fields(path: str | Path, kind: type, stage: str = "") -> dict[str, Any]:
    """Read a recipe file, or one of ours by its bare name, as the fields of a dataclass.

    Args:
        path: the file.
        kind: the dataclass.
        stage: which recipe to take of a file that has those of two.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has a field that this kind of recipe doesn't have.
    """
    path = Path(path)
    if not path.suffix:
        path = RECIPES / f"{path}.json"
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if stage and set(values) == _STAGES:
        values = values[stage]
    unknown = set(values) - {item.name for item in dataclasses.fields(kind)}
    if unknown:
        raise ValueError(f"{path}: unknown field(s) {', '.join(sorted(unknown))}")
    return values
