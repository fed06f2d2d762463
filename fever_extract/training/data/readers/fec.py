"""Google's Facial Expression Comparison set (Vemulapalli and Agarwala 2019, arXiv 1811.11283).

Google gives out ``faceexp-comparison-data-train-public.csv`` and ``...-test-public.csv``, without
headers. A row is a triplet: three times the address of a photograph and the face's left, right,
top and bottom edge as fractions of its sides; the type (``ONE_CLASS_TRIPLET``,
``TWO_CLASS_TRIPLET`` or ``THREE_CLASS_TRIPLET``); then pairs of an annotator's name and the
number of the face, 1 to 3, that they found least like the other two. Checked against the public
readers of several projects.

The photographs are to be fetched by the user, to either of

- a folder ``images`` of files named by the SHA-1 of the address, in hexadecimal, and any
  extension of a picture: ``images/2fd4e1c67a2d28fced849ee1bb76e7391b93eb12.jpg``;
- any files, with a ``files.csv`` that has the columns ``url`` and ``file``, the latter relative to
  itself.

Many addresses lead nowhere any more: faces without a file are counted and told of.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fever_extract.folders import list_images
from fever_extract.training.data.readers.sample import (
    TEST,
    TRAIN,
    Box,
    Sample,
    find,
    number,
    require,
    tell,
)

LISTS = {
    TRAIN: "faceexp-comparison-data-train-public.csv",
    TEST: "faceexp-comparison-data-test-public.csv",
}
TYPES = ("ONE_CLASS_TRIPLET", "TWO_CLASS_TRIPLET", "THREE_CLASS_TRIPLET")
IMAGES = "images"
FILES = "files.csv"

_TYPE = 15  # its column, after three times five


@dataclass(frozen=True)
class Triplet:
    """Three faces, one of which most people found least like the other two.

    Attributes:
        split: ``train`` or ``test``.
        faces: the addresses and boxes.
        odd: which one it is, 0 to 2.
        type: one of `TYPES`.
    """

    split: str
    faces: tuple[tuple[str, Box], ...]
    odd: int
    type: str

    @property
    def names(self) -> list[str]:
        """What the faces are called in the table of faces."""
        return [_name(url, box) for url, box in self.faces]


def samples(sources: Sequence[Path]) -> Iterator[Sample]:
    """Each face of a triplet, once, whose photograph there is.

    Args:
        sources: folders with the lists and with ``images`` or ``files.csv``, or these files.

    Raises:
        FileNotFoundError: if the lists, or all photographs, are missing.
    """
    listed = _listed_files(sources)
    folder = find(sources, IMAGES)
    by_stem = {Path(name).stem: folder / name for name in list_images(folder)} if folder else {}
    seen: set[str] = set()
    missing = 0
    for triplet in triplets(sources, told=True):
        for (url, box), name in zip(triplet.faces, triplet.names):
            if name in seen:
                continue
            seen.add(name)
            path = listed.get(url) or by_stem.get(_sha1(url))
            if path is None or not path.is_file():
                missing += 1
                continue
            yield Sample(name=name, split=triplet.split, picture=str(path), box=box)
    if missing == len(seen):
        raise FileNotFoundError(
            f"none of the {missing} photographs of the Facial Expression Comparison set is in "
            f"{' and '.join(map(str, sources))}: fetch them to a folder {IMAGES!r}, each named by "
            f"the SHA-1 of its address, or say in {FILES} (columns url and file) where they are"
        )
    if missing:
        tell(f"FEC: {missing} of {len(seen)} faces have no photograph here")


def triplets(sources: Sequence[Path], told: bool = False) -> Iterator[Triplet]:
    """The triplets for which more than half of the people named the same face.

    Args:
        sources: as for `samples`.
        told: say how many triplets have no majority, or could not be read.

    Raises:
        FileNotFoundError: if a list is missing.
    """
    for split, name in LISTS.items():
        path = require(
            sources,
            [name],
            "it is in FEC_dataset.zip of Google's Facial Expression Comparison set "
            "(research.google/resources/datasets/google-facial-expression)",
        )
        counts = Counter[str]()
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                triplet, why = _triplet(row, split)
                if triplet is None:
                    counts[why] += 1
                else:
                    yield triplet
        for why, count in counts.items() if told else ():
            tell(f"FEC: {count} triplets of {name} left out: {why}")


def _triplet(row: list[str], split: str) -> tuple[Triplet | None, str]:
    """A row's triplet, or why there is none."""
    votes = [number(cell) for cell in row[_TYPE + 2 :: 2]]
    places = [[number(cell) for cell in row[start + 1 : start + 5]] for start in (0, 5, 10)]
    if len(row) < _TYPE + 3 or row[_TYPE] not in TYPES or not set(votes) <= {1, 2, 3}:
        return None, "not in the format"
    if any(math.isnan(value) for place in places for value in place):
        return None, "not in the format"
    odd, most = Counter(votes).most_common(1)[0]
    if 2 * most <= len(votes):
        return None, "no face was named by more than half of the people"
    faces = tuple(
        (row[start], Box(left, top, right, bottom, relative=True))
        for start, (left, right, top, bottom) in zip((0, 5, 10), places)
    )
    return Triplet(split, faces, int(odd) - 1, row[_TYPE]), ""


def _listed_files(sources: Sequence[Path]) -> dict[str, Path]:
    """From the addresses to the files, by ``files.csv`` if there is one."""
    path = find(sources, FILES)
    if path is None:
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"url", "file"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path} needs the columns url and file")
        return {row["url"]: path.parent / row["file"] for row in rows if row["file"]}


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _name(url: str, box: Box) -> str:
    """A photograph may have several faces: the address and the box together tell them apart."""
    return f"{_sha1(url)}-{_sha1(repr(box[:4]))[:8]}"
