"""`Sample`, what every reader yields; helpers for finding a data set's files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from fever_extract.models.config import EXPRESSIONS

TRAIN, VALID, TEST = SPLITS = ("train", "valid", "test")
VOTES = (*EXPRESSIONS, "unknown", "not_face")
"""What FER+'s people could vote for, in the order of `Sample.votes`."""


class Box(NamedTuple):
    """Where the owner says that the face is: in pixels, or in fractions of the sides."""

    left: float
    top: float
    right: float
    bottom: float
    relative: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it, or a corner is no number."""
        return not (self.right > self.left and self.bottom > self.top)


@dataclass(frozen=True)
class Sample:
    """One face of a data set.

    Attributes:
        name: unique in the data set, and such that its owner's files can be found by it.
        split: one of `SPLITS`.
        picture: the path of a file, or the bytes of one.
        box: where the face is, where the owner says so.
        is_crop: the picture shows nothing but one face, and is of use even where no face is found.
        votes: people who voted for each of `VOTES`; None for other kinds of label.
        expression: index into `EXPRESSIONS`; None where there is no such label.
        valence, arousal: -1 to 1; NaN where missing.
    """

    name: str
    split: str
    picture: str | bytes
    box: Box | None = None
    is_crop: bool = False
    votes: tuple[int, ...] | None = None
    expression: int | None = None
    valence: float = math.nan
    arousal: float = math.nan


def by_name(classes: Mapping[int, str]) -> dict[int, int]:
    """An owner's class numbers as indices into `EXPRESSIONS`."""
    return {number: EXPRESSIONS.index(name) for number, name in classes.items()}


def find(sources: Sequence[Path], name: str) -> Path | None:
    """A file or folder by its name (``a`` or ``a/b``), in one of the sources or a folder of one.

    A source may also be the very file.
    """
    for source in sources:
        if source.is_file() and source.name == name:
            return source
        for candidate in (source / name, *sorted(source.glob(f"*/{name}"))):
            if candidate.exists():
                return candidate
    return None


def require(sources: Sequence[Path], names: Sequence[str], advice: str) -> Path:
    """The first of these that there is.

    Raises:
        FileNotFoundError: naming what is missing, and where it was looked for.
    """
    for name in names:
        if (found := find(sources, name)) is not None:
            return found
    where = " and ".join(map(str, sources))
    raise FileNotFoundError(f"{' or '.join(names)} is missing in {where}: {advice}")


def number(text: str | None) -> float:
    """A cell of a CSV file as a number; NaN for what is none, such as ``NULL``."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def tell(message: str) -> None:
    """Say something to the user beside a progress bar."""
    tqdm.write(message)
