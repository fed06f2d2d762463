"""A config of a network that is made in no time."""

from fever_extract import Config
from fever_extract.models.config import Backbone, Preprocessing

POINTS = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))


def config(**changes) -> Config:
    values = {
        "name": "tiny",
        "preprocessing": Preprocessing(32, "grey", (128.0,), (64.0,), POINTS),
        "backbone": Backbone(widths=(8, 16), depths=(1, 1)),
        "embedding_dim": 12,
        "blendshapes": ("jawOpen",),
    }
    return Config(**(values | changes))
