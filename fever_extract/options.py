"""`Options`: every option of an `Extractor` or of one call, with unit and default."""

from __future__ import annotations

import dataclasses
import difflib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

SELECT = ("largest", "most_confident", "center")
DTYPES = ("float32", "bfloat16")
PRIORS = (None, "uniform", "training")
SMALLEST_FACE = 12
"""P-Net's receptive field is 12 px: smaller faces can't be detected."""
# All others are taken to change embeddings, so that a new option is never forgotten.
_WITHOUT_INFLUENCE = ("batch_size", "on_error", "show_progress")


class OptionArguments(TypedDict, total=False):
    """The keyword arguments of `Options`."""

    batch_size: int
    select: Literal["largest", "most_confident", "center"]
    detect_size: int | None
    min_face_size: float | None
    min_confidence: float
    aligned: bool
    fallback: Literal["whole"] | None
    any_orientation: bool
    normalize: bool
    prior: Literal["uniform", "training"] | None
    dtype: Literal["float32", "bfloat16"]
    on_error: Literal["nan", "raise"]
    show_progress: bool | None


@dataclass(frozen=True)
class Options:
    """Options of an `Extractor` or of one call, with their defaults.

    Attributes:
        batch_size: images at a time, at most; it does not change the embeddings. With 1, each
            image is finished before the next is read, as live input needs.
        select: which face comes first where there are several: the ``largest`` box, the
            ``most_confident`` detection, or the one nearest to the ``center``.
        detect_size: detect in the image reduced to this many pixels on its longer side, for speed.
            Small faces in large images are missed; large JPEGs are decoded smaller. None
            detects at full size.
        min_face_size: smallest face to detect, in pixels; None for 40, less in small images
            (a ninth of the shorter side, at least 20), and more in very large ones (a fiftieth).
        min_confidence: detections with a lower score, 0 to 1, are dropped.
        aligned: the images are aligned face crops already; skip detection.
        fallback: ``"whole"`` takes the whole image as the face where none is detected. For
            data sets of face crops only.
        any_orientation: also detect in the image rotated by 90, 180 and 270 degrees, for faces
            on their side or upside down; four times as slow. Boxes and landmarks are in pixels of
            the image as given; `Face.roll` is a face's rotation.
        normalize: scale each embedding to length 1.
        prior: class prior of the expression probabilities: ``uniform`` takes all expressions as
            equally likely, ``training`` as frequent as in the labels that the head learned from
            (a third neutral, for the embedded weights); None is ``uniform`` where the weights
            know their prior. It does not change the embeddings.
        dtype: floating-point type that the embedding network computes in; embeddings are
            float32 either way. ``bfloat16`` is faster on few machines.
        on_error: what `extract` does for an input without an embedding: a row of NaN (and one
            warning that counts them), or an exception.
        show_progress: show a progress bar; None shows it on a terminal, for several images.

    Raises:
        ValueError, TypeError: if a value is not one of those above.
    """

    batch_size: int = 32
    select: str = "largest"
    detect_size: int | None = None
    min_face_size: float | None = None
    min_confidence: float = 0.9
    aligned: bool = False
    fallback: str | None = None
    any_orientation: bool = False
    normalize: bool = False
    prior: str | None = None
    dtype: str = "float32"
    on_error: str = "nan"
    show_progress: bool | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "detect_size"):
            self._as_number(name, operator.index, "a whole number")
        for name in ("min_face_size", "min_confidence"):
            self._as_number(name, float, "a number")
        for name in ("aligned", "any_orientation", "normalize"):
            _check_choice(name, getattr(self, name), (True, False))
            object.__setattr__(self, name, bool(getattr(self, name)))
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.detect_size is not None and self.detect_size < SMALLEST_FACE:
            raise ValueError(
                f"detect_size must be at least {SMALLEST_FACE} pixels, not {self.detect_size}"
            )
        if self.min_face_size is not None and not self.min_face_size >= SMALLEST_FACE:
            raise ValueError(
                f"min_face_size must be at least {SMALLEST_FACE} pixels, not {self.min_face_size}"
            )
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence must be from 0 to 1, not {self.min_confidence}")
        _check_choice("select", self.select, SELECT)
        _check_choice("fallback", self.fallback, (None, "whole"))
        _check_choice("prior", self.prior, PRIORS)
        _check_choice("dtype", self.dtype, DTYPES)
        _check_choice("on_error", self.on_error, ("nan", "raise"))

    def _as_number(self, name: str, convert: Callable[[Any], float], expected: str) -> None:
        """Convert NumPy's numbers to Python's, which JSON takes."""
        value = getattr(self, name)
        if value is None and name in ("detect_size", "min_face_size"):
            return
        try:
            if isinstance(value, (str, bool)):
                raise TypeError
            object.__setattr__(self, name, convert(value))
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be {expected}, not {value!r:.60}") from None

    def settings(self) -> dict[str, object]:
        """Return the options on which an embedding depends, by name."""
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in _WITHOUT_INFLUENCE
        }

    def replace(self, changes: OptionArguments) -> Options:
        """Return a copy with some options changed.

        Raises:
            TypeError: for one that does not exist.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise TypeError(_unknown(name, names))
        return dataclasses.replace(self, **changes)


def _unknown(name: str, names: list[str]) -> str:
    if name == "all_faces":
        return (
            "all_faces is for extract_records, extract_video and extract_folder; extract_faces "
            "gives every face of one image, and extract one embedding per image"
        )
    close = difflib.get_close_matches(name.lower(), [*names, "all_faces"], 1)
    meant = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}"
    return f"unknown option {name!r}{meant}"


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
