"""Results: Status, Face, Record, Frame, Summary."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._utils.names import printable
from fever_extract.quality.pose import head_pose

if TYPE_CHECKING:
    import numpy.typing as npt


_SOME = 3  # names that stand for others


class Status(str, Enum):
    """What became of one input."""

    OK = "ok"
    NO_FACE = "no_face"
    TOO_SMALL = "too_small"
    DECODE_ERROR = "decode_error"
    NOT_FOUND = "not_found"
    DETECT_ERROR = "detect_error"
    CRASHED = "crashed"

    def __str__(self) -> str:
        return self.value

    @property
    def was_searched(self) -> bool:
        """Whether the input was read and a face looked for."""
        return self in (Status.OK, Status.NO_FACE, Status.TOO_SMALL)

    @property
    def was_decoded(self) -> bool:
        """Whether there were pixels: of a clip's record, that it is of a frame."""
        return self.was_searched or self is Status.DETECT_ERROR


class ExtractionError(Exception):
    """Raised for an input without an embedding, with ``on_error="raise"``.

    The message is one line that can be printed: see `fever_extract._utils.names.printable`.

    Attributes:
        status: what became of the input; never `Status.OK`.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(printable(message))
        self.status = status

    def __reduce__(self) -> tuple[type, tuple[Status, str]]:
        return type(self), (self.status, str(self))


@dataclass(frozen=True, eq=False)
class Face:
    """One face and its embedding.

    Attributes:
        box: ``(4,)`` float32: x1, y1, x2, y2 in pixels of the upright picture.
        score: the detector's confidence, 0 to 1; NaN if there was no detection.
        landmarks: ``(5, 2)`` float32 in pixels: left eye, right eye, nose, left and right
            mouth corner, as seen in the upright face; NaN if there was no detection.
        embedding: ``(d,)`` float32; `vector` is an alias.
        expressions: probability of each expression; empty if the weights have no such head.
        blendshapes: each blendshape, 0 to 1; empty if the weights have no such head.
        valence, arousal: -1 to 1; None if the weights have no such head.
        detected: False where the whole picture was taken as the face, because it was
            asked for (``aligned=True`` or ``fallback="whole"``).
        track: in a clip, the id that the face keeps while it is followed; else None.
        sharpness: variance of the aligned crop's Laplacian, at 96x96 pixels: below 100 or so
            a face is blurred, or was small and has been enlarged.
        exposure: mean luminance of the aligned crop, 0 (black) to 1 (white).
        outside: share of the aligned crop that lies outside the picture, 0 to 1.

    Unknown numbers are NaN.
    """

    box: npt.NDArray[np.float32]
    score: float
    landmarks: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32]
    expressions: Mapping[str, float] = field(default_factory=dict)
    blendshapes: Mapping[str, float] = field(default_factory=dict)
    valence: float | None = None
    arousal: float | None = None
    detected: bool = True
    track: int | None = None
    sharpness: float = math.nan
    exposure: float = math.nan
    outside: float = math.nan

    @property
    def vector(self) -> npt.NDArray[np.float32]:
        """Alias of `embedding`."""
        return self.embedding

    @property
    def expression(self) -> str | None:
        """The most probable expression."""
        return max(self.expressions, key=self.expressions.__getitem__, default=None)

    @property
    def probability(self) -> float | None:
        """How probable that expression is, 0 to 1."""
        return max(self.expressions.values(), default=None)

    @property
    def entropy(self) -> float | None:
        """Shannon entropy of the expressions' probabilities in bits: 0 is certain."""
        if not self.expressions:
            return None
        return -sum(p * math.log2(p) for p in self.expressions.values() if p > 0)

    @property
    def yaw(self) -> float:
        """The angle by which the nose points to the right as seen, in degrees; NaN if unknown.

        By five landmarks and an assumed camera; see `fever_extract.quality.pose`.
        """
        return float(head_pose(self.landmarks[None])[0, 0])

    @property
    def pitch(self) -> float:
        """The angle by which the nose points upwards, in degrees, as `yaw`; far less certain."""
        return float(head_pose(self.landmarks[None])[0, 1])

    @property
    def size(self) -> float:
        """Side of a square as large as the box, in pixels."""
        x1, y1, x2, y2 = self.box.tolist()
        return float((max(x2 - x1, 0.0) * max(y2 - y1, 0.0)) ** 0.5)

    @property
    def roll(self) -> float:
        """In-plane rotation of the face, in degrees from -180 to 180.

        By the landmarks: 0 is upright, 90 with the forehead to the right, -90 to the left, 180
        upside down; NaN if there was no detection. Beyond 60 degrees or so, landmarks are right
        with ``any_orientation=True`` only: without, a face that is upside down is missed, or
        taken for an upright one with a wrong expression and a roll near 0.
        """
        left_eye, right_eye, _, left_mouth, right_mouth = self.landmarks.astype(float)
        across_x, across_y = right_eye - left_eye + right_mouth - left_mouth
        down_x, down_y = left_mouth + right_mouth - left_eye - right_eye
        # Both directions count: what goes down in an upright face, turned back by 90 degrees.
        return math.degrees(math.atan2(across_y - down_x, across_x + down_y))


@dataclass(frozen=True, eq=False)
class Record:
    """What became of one input.

    Attributes:
        status: `Status.OK` exactly if there is a face.
        error: the reason there is no face, in words; None if there is one.
        faces: the selected face, or all faces with ``all_faces=True``.
    """

    status: Status
    error: str | None = None
    faces: tuple[Face, ...] = ()

    @property
    def face(self) -> Face | None:
        """The first face."""
        return self.faces[0] if self.faces else None


@dataclass(frozen=True, eq=False)
class Frame(Record):
    """What became of one frame of a clip.

    Attributes:
        time: in seconds, from the clip's beginning. Where the clip could not be read, or no
            further, the time of the last frame before that; NaN if there was none.
    """

    time: float = math.nan


@dataclass(frozen=True)
class Summary:
    """What became of a folder.

    Attributes:
        output: the table that was written.
        images: number of photographs and of frames; a clip, or a stretch of one, that can't be read
            (or no further) is one more.
        faces: number of embeddings.
        statuses: number of images by status; statuses that did not occur are left out.
        failures: (path, status, message) of every image without an embedding, consecutive frames
            of one clip with the same message as one; where the output is a folder, the first 1000
            of this run.
        seconds: wall-clock time.
        reused: inputs whose rows an earlier run of the same job had written.
        removed: inputs of an earlier run of the same job that no longer exist.
        passed_over: files in folders and archives that are not pictures.
        passed_over_names: names of the first 1000 of these.
        photographs, frames, clips: what was given; of clips, the frames that could be decoded.
    """

    output: Path
    images: int
    faces: int
    statuses: Mapping[Status, int]
    failures: tuple[tuple[str, Status, str], ...]
    seconds: float
    reused: int = 0
    removed: int = 0
    passed_over: int = 0
    passed_over_names: tuple[str, ...] = ()
    photographs: int = 0
    frames: int = 0
    clips: int = 0

    def __str__(self) -> str:
        new = self.images - self.reused
        rate = f" ({new / self.seconds:.1f} images/s)" if new and self.seconds else ""
        earlier = f", {self.reused} of them done before" if self.reused else ""
        removed = f"; {self.removed} are no more and were left out" if self.removed else ""
        return (
            f"{self._given} in {self.seconds:.1f} s{rate}{earlier}, "
            f"{self.faces} embeddings in {self.output}; {describe(self.statuses)}{removed}"
            f"{describe_passed_over(self.passed_over, self.passed_over_names)}"
        )

    @property
    def _given(self) -> str:
        if not self.clips:
            return f"{self.images} images"
        frames = f"{_count(self.frames, 'frame')} of {_count(self.clips, 'clip')}"
        if not self.photographs:
            return frames
        return f"{_count(self.photographs, 'photograph')} and {frames}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_statuses(records: Iterable[Record]) -> Counter[Status]:
    """Count records by status."""
    return Counter(record.status for record in records)


def describe(statuses: Mapping[Status, int]) -> str:
    """Format counts by status, in the order of `Status`: ``3 ok, 1 no_face``."""
    return ", ".join(f"{statuses[status]} {status}" for status in Status if statuses.get(status))


def describe_passed_over(count: int, names: Sequence[str]) -> str:
    """Mention the files that are not images, as the end of a sentence; empty if there are none."""
    if not count:
        return ""
    some = ", ".join(map(printable, names[:_SOME])) + (", ..." if count > _SOME else "")
    return f"; passed over {count} that are no pictures: {some}"


def stack_embeddings(
    records: Iterable[Record],
    dim: int,
    on_error: str,
    *,
    single: bool = False,
    stacklevel: int = 3,
) -> npt.NDArray[np.float32]:
    """Stack the first embedding of each record: ``(n, dim)`` float32; see `Options.on_error`.

    With ``single``, there is one record, and its embedding ``(dim,)`` is returned.

    Raises:
        ExtractionError: for the first record without an embedding, if ``on_error="raise"``.
    """
    embeddings, failed = [], []
    for index, record in enumerate(records):
        if record.face is not None:
            embeddings.append(record.face.embedding)
            continue
        if on_error == "raise":
            place = "" if single else f"image {index}: "
            raise ExtractionError(record.status, f"{place}{record.error}")
        embeddings.append(np.full(dim, np.nan, np.float32))
        failed.append(record)
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(embeddings)} images have no embedding and are rows of NaN "
            f"({describe(count_statuses(failed))}); extract_records gives the reasons, the first "
            f"is: {failed[0].error}",
            stacklevel=stacklevel,
        )
    if single:
        return embeddings[0]
    return np.stack(embeddings) if embeddings else np.zeros((0, dim), np.float32)
