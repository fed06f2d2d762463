"""AffectNet (Mollahosseini et al. 2017, arXiv 1708.03985), in both forms that it was given out in.

The first has ``training.csv`` and ``validation.csv`` in ``Manually_Annotated_file_lists``, with the
columns subDirectory_filePath, face_x, face_y, face_width, face_height, facial_landmarks,
expression, valence and arousal (the second of the two has no header), and the pictures in
``Manually_Annotated_Images``. The later one (its eight expressions only, March 2021) has
``train_set`` and ``val_set``, each with ``images/ID.jpg`` and ``annotations/ID_exp.npy``,
``ID_val.npy`` and ``ID_aro.npy``.

The expressions are 0 neutral, 1 happiness, 2 sadness, 3 surprise, 4 fear, 5 disgust, 6 anger, 7
contempt, 8 none of these, 9 uncertain, 10 no face; a valence or arousal of -2 means that there is
none. The documents come with the data and can't be cited; the formats were checked against the
public readers of several projects. Faces of class 8 keep their valence and arousal, and have no
expression; those of 9 and 10 are left out.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fever_extract.training.data.readers.sample import (
    TRAIN,
    VALID,
    Box,
    Sample,
    by_name,
    find,
    number,
    tell,
)

CLASSES = by_name(
    {
        0: "neutral",
        1: "happiness",
        2: "sadness",
        3: "surprise",
        4: "fear",
        5: "disgust",
        6: "anger",
        7: "contempt",
    }
)
"""AffectNet's numbers to ours."""

LISTS = {TRAIN: "training.csv", VALID: "validation.csv"}
FOLDERS = {TRAIN: "train_set", VALID: "val_set"}
IMAGES = "Manually_Annotated_Images"

_CONTEMPT, _NONE = 7, 8
_COLUMNS = (
    "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression "
    "valence arousal"
).split()


def samples(sources: Sequence[Path], classes: int = 8) -> Iterator[Sample]:
    """Each face, with its expression, valence and arousal.

    AffectNet's validation set is our ``valid``; no test set was ever given out.

    Args:
        sources: the folder with either form of it.
        classes: 7 leaves out the faces that show contempt, as many papers do.

    Raises:
        FileNotFoundError: if neither form is there, or its pictures are missing.
        ValueError: if a file is not in its form.
    """
    kept = Counter[str]()
    for split, name in LISTS.items():
        if (path := find(sources, name) or find(sources, f"*/{name}")) is not None:
            for sample, label in _from_list(sources, path, split):
                yield from _chosen(sample, label, classes, kept)
    if not kept:
        for split, name in FOLDERS.items():
            if (path := find(sources, name)) is not None:
                for sample, label in _from_folder(path, split):
                    yield from _chosen(sample, label, classes, kept)
    if not kept:
        raise FileNotFoundError(
            f"no AffectNet in {' and '.join(map(str, sources))}: give the folder that has "
            f"Manually_Annotated_file_lists (with {' and '.join(LISTS.values())}) and {IMAGES}, or "
            f"{' and '.join(FOLDERS.values())} (with images and annotations). Its owner gives it "
            "to researchers who ask: mohammadmahoor.com/affectnet"
        )
    for split, name in LISTS.items():
        if not kept[split]:
            tell(f"AffectNet: no {name} or {FOLDERS[split]}, so no {split} faces")
    if kept["left out"]:
        tell(f"AffectNet: {kept['left out']} faces left out that have none of the {classes} labels")


def _chosen(sample: Sample, label: int, classes: int, kept: Counter[str]) -> Iterator[Sample]:
    """The sample, if it is wanted."""
    if label > _NONE or (label == _CONTEMPT and classes == 7):
        kept["left out"] += 1
        return
    kept[sample.split] += 1
    yield sample


def _from_list(sources: Sequence[Path], path: Path, split: str) -> Iterator[tuple[Sample, int]]:
    images = find(sources, IMAGES) or find(sources, f"Manually_Annotated/{IMAGES}")
    if images is None:
        raise FileNotFoundError(
            f"{IMAGES} is missing beside {path}: unpack the archives of pictures into a folder of "
            "that name"
        )
    with open(path, newline="", encoding="utf-8-sig") as file:
        for line, row in enumerate(csv.reader(file), start=1):
            if line == 1 and row and row[0] == _COLUMNS[0]:
                continue
            cells = dict(zip(_COLUMNS, row))
            label = number(cells.get("expression"))
            if len(row) != len(_COLUMNS) or not label.is_integer():
                raise ValueError(
                    f"{path}, line {line}: expected the {len(_COLUMNS)} columns "
                    f"{', '.join(_COLUMNS)}; got {','.join(row):.100}"
                )
            left, top, width, height = (number(cells[name]) for name in _COLUMNS[1:5])
            box = Box(left, top, left + width, top + height)
            yield (
                Sample(
                    name=cells["subDirectory_filePath"],
                    split=split,
                    picture=str(images / cells["subDirectory_filePath"]),
                    box=None if box.is_empty else box,
                    is_crop=True,
                    expression=CLASSES.get(int(label)),
                    valence=_affect(number(cells["valence"])),
                    arousal=_affect(number(cells["arousal"])),
                ),
                int(label),
            )


def _from_folder(folder: Path, split: str) -> Iterator[tuple[Sample, int]]:
    for part in ("images", "annotations"):
        if not (folder / part).is_dir():
            raise FileNotFoundError(f"{folder / part} is missing; unpack it there")
    suffix = "_exp.npy"
    files = sorted((folder / "annotations").glob(f"*{suffix}"))
    for file in sorted(files, key=lambda file: (len(file.name), file.name)):  # 2 before 10
        stem = file.name.removesuffix(suffix)
        values = {
            name: _scalar(file.with_name(f"{stem}_{name}.npy")) for name in ("exp", "val", "aro")
        }
        label = values["exp"]
        if not label.is_integer():
            raise ValueError(f"{file} holds no class number")
        yield (
            Sample(
                name=f"{folder.name}/{stem}.jpg",
                split=split,
                picture=str(folder / "images" / f"{stem}.jpg"),
                is_crop=True,
                expression=CLASSES.get(int(label)),
                valence=_affect(values["val"]),
                arousal=_affect(values["aro"]),
            ),
            int(label),
        )


def _scalar(path: Path) -> float:
    """The one number in a ``.npy`` file, which may be saved as text; NaN without the file."""
    if not path.exists():
        return math.nan
    value = np.load(path)  # refuses pickles
    return number(str(value.reshape(-1)[0])) if value.size == 1 else math.nan


def _affect(value: float) -> float:
    return value if -1 <= value <= 1 else math.nan
