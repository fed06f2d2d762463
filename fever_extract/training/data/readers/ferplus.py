"""FER+ from its two CSV files (Barsoum et al. 2016, arXiv 1608.01041).

The labels are ``fer2013new.csv`` of github.com/microsoft/FERPlus, whose README gives its
columns: Usage, Image name, then the votes for neutral, happiness, surprise, sadness, anger,
disgust, fear, contempt, unknown and NF (not a face). The pictures are FER2013's, in Kaggle's
"Challenges in Representation Learning: Facial Expression Recognition Challenge":
``fer2013.csv`` (emotion, pixels, Usage) or ``icml_face_data.csv`` (the same columns in
another order, their names after a space). Both files have a row a picture, in the same order. A
picture that FER+ removed has no name; its ``src/generate_training_data.py`` leaves it out, too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from fever_extract.training.data.readers.sample import TEST, TRAIN, VALID, Sample, require, tell

LABELS = "fer2013new.csv"
PICTURES = ("fer2013.csv", "icml_face_data.csv")

_SIDE = 48
_SPLITS = {"Training": TRAIN, "PublicTest": VALID, "PrivateTest": TEST}
_VOTES = "neutral happiness surprise sadness anger disgust fear contempt unknown NF".split()


def samples(sources: Sequence[Path]) -> Iterator[Sample]:
    """Each picture that FER+ kept, as a PNG of 48x48 grey pixels, with its ten votes.

    Args:
        sources: folders with both files, or the files.

    Raises:
        FileNotFoundError: if one of the files is missing.
        ValueError: if a column is missing, or the files' rows don't belong together.
    """
    labels = require(
        sources, [LABELS], "FER+'s labels are in the repository microsoft/FERPlus on GitHub"
    )
    pictures = require(
        sources,
        PICTURES,
        "FER2013's pictures are in Kaggle's challenges-in-representation-learning-facial-"
        "expression-recognition-challenge; give its folder beside that of the labels",
    )
    rows = zip_longest(_rows(labels, ["Usage", "Image name", *_VOTES]), _rows(pictures, _NEEDED))
    for index, (label, picture) in enumerate(rows, start=2):
        if label is None or picture is None:
            raise ValueError(
                f"{labels} and {pictures} differ in length: one ends before line {index}. "
                "Give both files whole, as their owners distribute them"
            )
        if label["Usage"] != picture["Usage"]:
            raise ValueError(
                f"line {index}: Usage is {label['Usage']!r} in {labels} and {picture['Usage']!r} "
                f"in {pictures}: their rows don't belong together. Give both as distributed"
            )
        if not label["Image name"]:
            continue
        pixels = np.array(picture["pixels"].split(), dtype=np.uint8)
        if len(pixels) != _SIDE * _SIDE:
            tell(f"left out: {label['Image name']}: {len(pixels)} pixels, not {_SIDE}x{_SIDE}")
            continue
        yield Sample(
            name=label["Image name"],
            split=_SPLITS[label["Usage"]],
            picture=_png(pixels.reshape(_SIDE, _SIDE)),
            is_crop=True,
            votes=tuple(int(label[name]) for name in _VOTES),
        )


_NEEDED = ["Usage", "pixels"]


def _rows(path: Path, needed: list[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, its columns' names without spaces around them."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        missing = [name for name in needed if name not in header]
        if missing:
            raise ValueError(
                f"{path} has no column {', '.join(missing)}, but {', '.join(header)}; give the "
                "file as its owner distributes it"
            )
        for row in rows:
            if len(row) != len(header):
                raise ValueError(
                    f"{path}: line {rows.line_num} has {len(row)} columns, not {len(header)}. Give "
                    "the file whole, as its owner distributes it"
                )
            yield dict(zip(header, map(str.strip, row)))


def _png(pixels: np.typing.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
