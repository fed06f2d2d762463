"""RAF-DB, its basic set (Li et al. 2017, "Reliable Crowdsourcing and Deep Locality-Preserving
Learning for Expression Recognition in the Wild", CVPR; whdeng.cn/RAF/model1.html).

``EmoLabel/list_patition_label.txt`` (the owner's spelling) has lines like ``train_00001.jpg 5``:
1 surprise, 2 fear, 3 disgust, 4 happiness, 5 sadness, 6 anger, 7 neutral; no contempt. The pictures
are ``Image/aligned/train_00001_aligned.jpg`` (100x100 pixels) or, as they were found,
``Image/original/train_00001.jpg``, with a face box each in
``Annotation/boundingbox/train_00001_boundingbox.txt``: left, top, right, bottom, in pixels. Checked
against the public readers of several projects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from fever_extract.training.data.readers.sample import (
    TEST,
    TRAIN,
    Box,
    Sample,
    by_name,
    find,
    number,
    require,
)

CLASSES = by_name(
    {
        1: "surprise",
        2: "fear",
        3: "disgust",
        4: "happiness",
        5: "sadness",
        6: "anger",
        7: "neutral",
    }
)
"""RAF-DB's numbers to ours."""

LABELS = "EmoLabel/list_patition_label.txt"
ALIGNED, ORIGINAL = "Image/aligned", "Image/original"

_SPLITS = {"train": TRAIN, "test": TEST}


def samples(sources: Sequence[Path]) -> Iterator[Sample]:
    """Each face; the aligned pictures if they are there, else the original ones.

    Args:
        sources: the folder ``basic``, or the one above it.

    Raises:
        FileNotFoundError: if the labels or the pictures are missing.
        ValueError: if a line is not in the form above.
    """
    asking = "RAF-DB's owner gives it to researchers who ask: whdeng.cn/RAF/model1.html"
    labels = require(sources, [LABELS], f"give the folder that has EmoLabel and Image. {asking}")
    images = require(
        sources, [ALIGNED, ORIGINAL], f"unpack aligned.zip to a folder of that name. {asking}"
    )
    boxes = find(sources, "Annotation/boundingbox") or find(sources, "boundingbox")
    is_aligned = images.name == PurePath(ALIGNED).name
    for line, text in enumerate(labels.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        name, _, label = text.strip().rpartition(" ")
        split = _SPLITS.get(name.partition("_")[0])
        if split is None or not label.isdigit() or int(label) not in CLASSES:
            raise ValueError(
                f"{labels}, line {line}: expected a name and a class from 1 to 7, as in "
                f"'train_00001.jpg 5'; got {text!r:.80}"
            )
        stem = name.removesuffix(".jpg")
        file = f"{stem}_aligned.jpg" if is_aligned else f"{stem}.jpg"
        yield Sample(
            name=name,
            split=split,
            picture=str(images / file),
            box=_box(boxes / f"{stem}_boundingbox.txt") if boxes and not is_aligned else None,
            is_crop=is_aligned,
            expression=CLASSES[int(label)],
        )


def _box(path: Path) -> Box | None:
    if not path.is_file():
        return None
    corners = [number(cell) for cell in path.read_text(encoding="utf-8").split()]
    if len(corners) != 4:
        return None
    left, top, right, bottom = corners
    box = Box(left, top, right, bottom)
    return None if box.is_empty else box
