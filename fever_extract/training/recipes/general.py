"""A recipe of `fever_extract.training.general`: every choice of one run, in one JSON file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fever_extract.training.recipes.recipe import read_fields


@dataclass(frozen=True)
class GeneralRecipe:
    """The choices of one run on several sets and tasks at once.

    Attributes:
        name: what the weights will be called.
        taps: where the MobileNet is read, as `fever_extract.models.config.Backbone.taps`.
        embedding_dim: length of an embedding.
        size: side of the grey crop, in pixels.
        frozen: so many of the MobileNet's first convolutions stay as they were.
        ferplus, faces, portraits, synthetic: faces of each set in a step; 0 leaves a set out,
            save FER+. Synthetic ones come in pairs.
        steps: length of the run, unless the command gives another.
        decay: the last share of the run, in which learning rates fall linearly to zero.
        warm_up: steps in which they rise.
        backbone_lr, head_lr: AdamW's learning rates, of the backbone and of all that is new.
        weight_decay: of weights; biases and norms have none.
        ema: decay a step of the moving average of the weights, which is what is kept.
        dropout: on the pooled features.
        jitter: how much crops are turned, scaled and shifted; see `augment.jitter`.
        covered, poor: shares of the faces that are covered or made worse, as in `degrade`.
        most_repeats: times that the likeliest face is drawn for each time of the least likely.
        distill: share of FER+'s targets that is the word of the weights it began from.
        soft_weight: of what these weights say of each real face, undistorted, and of its mirror
            image; they have to have a head that presumes no prior.
        label_weight: of the loss on the labels of faces in the wild; FER+'s is 1.
        label_smoothing: of these labels, which are one annotator's.
        blendshape_weight: of MediaPipe's blendshapes of real faces.
        synthetic_label_weight, synthetic_label_smoothing: of synthetic faces' expressions.
        synthetic_blendshape_weight: of their exact blendshapes, which have a head of their own.
        pair_weight, pair_temperature: of InfoNCE: of all synthetic faces of a step, the one with
            the same expression on another person is to be the nearest.
        web_teacher: file in the data folder of a network that learned elsewhere; empty for none.
        web_teacher_sha256: which file that must be; empty for any.
        web_teacher_weight: of its probabilities on real faces, through a head of their own.
        reconstruction_weight: of pooled features from embeddings, so that they keep what is known.
        every: steps from one checkpoint and line of the log to the next.
        seed: of the new layers, the batches, the augmentation and dropout.
    """

    name: str
    taps: tuple[tuple[int, int], ...] = ((9, 3), (13, 1))
    embedding_dim: int = 512
    size: int = 96
    frozen: int = 7
    ferplus: int = 96
    faces: int = 28
    portraits: int = 4
    synthetic: int = 16
    steps: int = 4200
    decay: float = 0.3571
    warm_up: int = 200
    backbone_lr: float = 5e-4
    head_lr: float = 1e-3
    weight_decay: float = 0.05
    ema: float = 0.999
    dropout: float = 0.2
    jitter: float = 0.8
    covered: float = 0.45
    poor: float = 0.4
    most_repeats: float = 12
    distill: float = 0.3
    soft_weight: float = 0.0
    label_weight: float = 0.5
    label_smoothing: float = 0.15
    blendshape_weight: float = 0.4
    synthetic_label_weight: float = 0.15
    synthetic_label_smoothing: float = 0.1
    synthetic_blendshape_weight: float = 0.3
    pair_weight: float = 0.15
    pair_temperature: float = 0.15
    web_teacher: str = ""
    web_teacher_sha256: str = ""
    web_teacher_weight: float = 0.4
    reconstruction_weight: float = 0.3
    every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ferplus < 1 or min(self.faces, self.portraits, self.synthetic) < 0:
            raise ValueError("a step needs a face of FER+, and of no set less than none")
        if self.synthetic % 2:
            raise ValueError(f"synthetic faces come in pairs: {self.synthetic} a step is odd")
        if not 0 < self.decay <= 1 or self.every < 1 or self.warm_up < 1:
            raise ValueError("decay must be more than 0 and at most 1, every and warm_up 1 or more")

    @classmethod
    def read(cls, path: str | Path) -> GeneralRecipe:
        """Read a recipe file, or one of ours by its bare name (``general``).

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no such recipe, or has a field that these don't have.
        """
        values = read_fields(path, cls)
        try:
            if "taps" in values:
                values["taps"] = tuple(tuple(tap) for tap in values["taps"])
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
