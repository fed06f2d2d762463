"""The typed ``config.json`` of a checkpoint: preprocessing, backbone, heads.

One file says everything that is needed to use them: the architecture, what a crop
must look like, and what each output means. It is read from the internet, so every
field is checked before anything is built from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

FORMAT_VERSION = 2
"""The newest ``format_version`` that this release reads and the one it writes."""

MODEL_TYPE = "fever-extract"
"""Tells Hugging Face transformers which library a ``config.json`` belongs to."""

EXPRESSIONS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
"""The eight expressions, in the order of FER+ (Barsoum et al. 2016, arXiv 1608.01041)."""

FOLDER_NAMES = {
    **{name: name for name in EXPRESSIONS},
    "neutrality": "neutral",
    "happy": "happiness",
    "joy": "happiness",
    "surprised": "surprise",
    "sad": "sadness",
    "angry": "anger",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "contemptuous": "contempt",
}
"""What a class folder may be called, in small letters, and which expression that is."""

COMPACT = "compact"
MOBILENET = "mobilenet_v1"
TWO_STREAM = "two_stream"
OURS = (COMPACT, MOBILENET, TWO_STREAM)
"""Backbones of this package, which see grey as it is; all others are torchvision's."""
COLORS = ("grey", "rgb")

# Bounds that no sensible network exceeds: a config must not be able to exhaust memory.
_MAX_SIZE = 1024
_MAX_WIDTH = 8192
_MAX_DEPTH = 64
_MAX_TAPS = 13
_MAX_CLASSES = 10_000
_MAX_TEXT = 1_000_000
_MAX_NESTING = 50


class WeightsError(ValueError):
    """Weights that can't be found, downloaded or used; the message says what to do next."""


class ConfigError(WeightsError):
    """A ``config.json`` that can't be used; the message names the field."""


@dataclass(frozen=True)
class Backbone:
    """The convolutional part.

    ``name`` is ``"compact"`` (our own residual network, shaped by ``widths`` and
    ``depths``, one entry a stage), ``"mobilenet_v1"``, ``"two_stream"`` (both of these side
    by side), or the name of a torchvision classifier such as ``"efficientnet_b0"``.
    ``widths`` and ``depths`` stay empty where there is no residual network.

    ``taps`` says where a ``"mobilenet_v1"`` is read: pairs of a block (1 to 13) and a grid. The
    block's output is averaged over each of grid x grid regions of the aligned face; what all
    taps give is concatenated. Empty means the last block, averaged over the whole face.
    """

    name: str = COMPACT
    widths: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    taps: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        _check_text("backbone.name", self.name)
        _check_ints("backbone.widths", self.widths, 1, _MAX_WIDTH)
        _check_ints("backbone.depths", self.depths, 1, _MAX_DEPTH)
        if len(self.widths) != len(self.depths):
            raise ConfigError("backbone.widths and backbone.depths must have equal lengths")
        if (self.name in (COMPACT, TWO_STREAM)) != bool(self.widths) or len(self.widths) > 8:
            raise ConfigError(
                "backbone.widths must name 1 to 8 stages of a compact or two_stream backbone, "
                "and be empty for any other"
            )
        if self.taps and self.name != MOBILENET:
            raise ConfigError(f"backbone.taps are for {MOBILENET}, not {self.name!r:.60}")
        if len(self.taps) > _MAX_TAPS or any(
            not isinstance(tap, tuple) or len(tap) != 2 for tap in self.taps
        ):
            raise ConfigError(f"backbone.taps must be at most {_MAX_TAPS} pairs (block, grid)")
        _check_ints("backbone.taps' block", tuple(block for block, _ in self.taps), 1, 13)
        _check_ints("backbone.taps' grid", tuple(grid for _, grid in self.taps), 1, 8)


@dataclass(frozen=True)
class Preprocessing:
    """What a face crop looks like when the network sees it.

    Attributes:
        size: side of the square crop, in pixels.
        color: ``"grey"`` (one channel, ITU-R 601 luminance) or ``"rgb"``.
        mean, std: one value a channel, on the scale 0 to 255.
        template: where the five landmarks (left eye, right eye, nose, left and right
            mouth corner, as seen) are put, as fractions of the crop's side.
    """

    size: int
    color: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    template: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        _check_ints("preprocessing.size", (self.size,), 8, _MAX_SIZE)
        if self.color not in COLORS:
            raise ConfigError(f"preprocessing.color must be one of {COLORS}, not {self.color!r}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            _check_floats(f"preprocessing.{name}", values, -1e4, 1e4)
            if len(values) != self.channels:
                raise ConfigError(
                    f"preprocessing.{name} must have {self.channels} value(s) for "
                    f"{self.color}, not {len(values)}"
                )
        if min(self.std) <= 0:
            raise ConfigError("preprocessing.std must be greater than 0")
        if len(self.template) != 5 or any(len(point) != 2 for point in self.template):
            raise ConfigError("preprocessing.template must be five points (x, y)")
        for point in self.template:
            _check_floats("preprocessing.template", point, -1.0, 2.0)
        if len(set(self.template)) == 1:
            raise ConfigError("preprocessing.template must not be five times one point")

    @property
    def channels(self) -> int:
        """Number of channels that the backbone's input has."""
        return 1 if self.color == "grey" else 3


@dataclass(frozen=True)
class Config:
    """Everything needed to use a checkpoint.

    Attributes:
        name: what the weights are called.
        preprocessing: how a face becomes the network's input.
        backbone: the convolutional part.
        embedding_dim: length of an embedding.
        expressions: the classes of the expression head, in order; empty if there is none.
        blendshapes: the names of the blendshape head's outputs; empty if there is none.
        valence_arousal: whether there is a valence and arousal head.
        expression_prior: each expression's share of the labels that the head learned from. Then
            the head's logits presume none (every expression as likely as the next), and their
            sum with the shares' logarithms presumes the training set's. Empty if not known:
            then the logits presume it.
        license: SPDX identifier of the weights' licence.
        metadata: anything else worth keeping; the model card shows some of it.
        format_version: see `FORMAT_VERSION`.
        model_type: see `MODEL_TYPE`.
    """

    name: str
    preprocessing: Preprocessing
    backbone: Backbone = field(default_factory=Backbone)
    embedding_dim: int = 256
    expressions: tuple[str, ...] = EXPRESSIONS
    blendshapes: tuple[str, ...] = ()
    valence_arousal: bool = False
    expression_prior: tuple[float, ...] = ()
    license: str = "mit"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    model_type: str = MODEL_TYPE

    def __post_init__(self) -> None:
        if self.model_type != MODEL_TYPE:
            raise ConfigError(f"model_type must be {MODEL_TYPE!r}, not {self.model_type!r:.60}")
        _check_ints("format_version", (self.format_version,), 1, FORMAT_VERSION)
        _check_text("name", self.name)
        _check_text("license", self.license)
        _check_ints("embedding_dim", (self.embedding_dim,), 1, _MAX_WIDTH)
        for name in ("expressions", "blendshapes"):
            labels = getattr(self, name)
            if len(labels) > _MAX_CLASSES or len(set(labels)) != len(labels):
                raise ConfigError(f"{name} must be at most {_MAX_CLASSES} different names")
            for label in labels:
                _check_text(name, label)
        if not isinstance(self.valence_arousal, bool):
            raise ConfigError("valence_arousal must be true or false")
        _check_floats("expression_prior", self.expression_prior, 1e-6, 1.0)
        if self.expression_prior and len(self.expression_prior) != len(self.expressions):
            raise ConfigError("expression_prior must have one share for each expression")
        if not isinstance(self.metadata, Mapping):
            raise ConfigError("metadata must be a JSON object")
        if _is_nested(self.metadata, _MAX_NESTING):
            raise ConfigError(f"metadata must not be nested more than {_MAX_NESTING} deep")

    @property
    def heads(self) -> dict[str, int]:
        """Name and number of outputs of each task head that this checkpoint has."""
        sizes = {
            "expression": len(self.expressions),
            "blendshapes": len(self.blendshapes),
            "valence_arousal": 2 if self.valence_arousal else 0,
        }
        return {name: size for name, size in sizes.items() if size}

    def check_prior(self, prior: str | None) -> None:
        """Refuse a prior that these weights can't take into account.

        Args:
            prior: see `fever_extract.Options`.

        Raises:
            ValueError: if there is no expression head, or if it does not say which prior it
                learned, and ``"uniform"`` is asked for.
        """
        if prior is not None and not self.expressions:
            raise ValueError(
                f"these weights have no expression head: leave prior={prior!r} out, or take others"
            )
        if prior == "uniform" and not self.expression_prior:
            raise ValueError(
                "these weights don't say which prior their expression head learned: "
                'prior="uniform" needs weights with an expression_prior in their config'
            )

    def to_json(self) -> str:
        """The text of ``config.json``."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the text of ``config.json``, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes) -> Config:
        """Read the text of a ``config.json``.

        Raises:
            ConfigError: if it is not JSON, has a newer format, or a field is missing,
                unknown, of the wrong type or out of range.
        """
        if len(text) > _MAX_TEXT:
            raise ConfigError(f"larger than {_MAX_TEXT} characters, which no config is")
        try:
            values = json.loads(text)
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start].encode("unicode_escape").decode()
            raise ConfigError(f"holds {half}, half a character; write it whole") from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"not valid JSON: {error}") from None
        if not isinstance(values, dict) or "format_version" not in values:
            raise ConfigError("not a fever-extract config: it has no format_version")
        version = values["format_version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ConfigError(
                f"format_version {version} is newer than this release reads "
                f"({FORMAT_VERSION}); upgrade with: pip install -U fever-extract"
            )
        values["preprocessing"] = _build(
            Preprocessing, "preprocessing", values.get("preprocessing")
        )
        if "backbone" in values:
            values["backbone"] = _build(Backbone, "backbone", values["backbone"])
        config = _build(cls, "config", values)
        assert isinstance(config, cls)
        return config


def _build(dataclass_: type, where: str, values: object) -> Any:
    """Make a dataclass from a JSON object, turning lists into tuples."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be a JSON object")
    known = {item.name: item for item in dataclasses.fields(dataclass_)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{where} has unknown field(s): {', '.join(unknown)}")
    missing = sorted(
        name
        for name, item in known.items()
        if name not in values
        and item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
    )
    if missing:
        raise ConfigError(f"{where} lacks field(s): {', '.join(missing)}")
    lists = {name for name, item in known.items() if str(item.type).startswith("tuple")}
    try:
        return dataclass_(
            **{
                name: _tuple(f"{where}.{name}", value) if name in lists else value
                for name, value in values.items()
            }
        )
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from None


def _tuple(name: str, value: object) -> tuple[object, ...]:
    """A JSON list, and the lists in it, as tuples."""
    if not isinstance(value, list):
        raise ConfigError(f"{name} must be a list, not {value!r:.60}")
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


def _is_nested(value: object, depth: int) -> bool:
    """Tell whether objects and lists are nested deeper than ``depth``."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return False
    return depth == 0 or any(_is_nested(item, depth - 1) for item in value)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise ConfigError(f"{name} must be a text of 1 to 200 characters, not {value!r:.60}")


def _check_ints(name: str, values: tuple[int, ...], low: int, high: int) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(
                f"{name} must be a whole number from {low} to {high}, not {value!r:.60}"
            )


def _check_floats(name: str, values: tuple[float, ...], low: float, high: float) -> None:
    for value in values:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ConfigError(f"{name} must be a number from {low} to {high}, not {value!r:.60}")
