"""Labelled and unlabelled faces, read from Parquet into arrays that fit in memory."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fever_extract.config import EXPRESSIONS

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

FERPLUS = "ferplus.parquet"
FACES = "faces.parquet"


@dataclass(frozen=True)
class Faces:
    """n grey face pictures of one size, and what is known of each.

    Attributes:
        images: ``(n, s, s)`` uint8.
        landmarks: ``(n, 5, 2)`` float32 in pixels; NaN where no detector found them.
        expression: ``(n, 8)`` float32, each row a distribution over `EXPRESSIONS`, or
            all zero where there is no label.
        blendshapes: ``(n, 52)`` float32 in 0 to 1; NaN where missing.
        blendshape_names: what the columns of ``blendshapes`` are.
        names: ``(n,)`` the pictures' names.
    """

    images: npt.NDArray[np.uint8]
    landmarks: npt.NDArray[np.float32]
    expression: npt.NDArray[np.float32]
    blendshapes: npt.NDArray[np.float32]
    blendshape_names: tuple[str, ...]
    names: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.images)


def majority(expression: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """The class that holds more than half of each row, or -1 (FER+'s "majority" protocol).

    ``expression`` is ``(n, 8)`` of `Faces` read with unknown and not-a-face votes counted.
    """
    top = expression.argmax(axis=1)
    return np.where(expression.max(axis=1) > 0.5, top, -1)


def read_ferplus(folder: Path, split: str) -> Faces:
    """One split of FER+ (Barsoum et al. 2016): faces with the votes of ten people.

    Single votes are taken as slips and set to zero, as the standard protocol does. What
    is left is divided by its sum *with* the votes for "unknown" and "not a face", so that a
    row that sums to less than one tells how much of the vote went to those.

    Args:
        folder: where ``ferplus.parquet`` lies.
        split: ``train``, ``valid`` or ``test``.

    Raises:
        FileNotFoundError: if the table is not there.
    """
    table = _read(folder / FERPLUS)
    mask = np.array(table["split"].to_pylist()) == split
    columns = [*(f"votes_{name}" for name in EXPRESSIONS), "votes_unknown", "votes_not_face"]
    votes = np.stack([table[name].to_numpy() for name in columns], axis=1)[mask]
    votes = np.where(votes > 1, votes, 0).astype(np.float32)
    share = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)
    return _faces(table.filter(mask), share[:, : len(EXPRESSIONS)], size=48)


def read_unlabelled(folder: Path) -> Faces:
    """The unlabelled faces in the wild, all brought to 96x96; no expression labels.

    Raises:
        FileNotFoundError: if ``faces.parquet`` is not in the folder.
    """
    table = _read(folder / FACES)
    return _faces(table, np.zeros((table.num_rows, len(EXPRESSIONS)), np.float32), size=96)


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; give the folder that holds it with --data or FEVER_DATA"
        )
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(
            f"{path} can't be read by pyarrow {pa.__version__} ({error}); missing rows in lists of "
            "fixed size need pyarrow 26"
        ) from error


def _faces(table: pa.Table, expression: npt.NDArray[np.float32], size: int) -> Faces:
    images = np.zeros((table.num_rows, size, size), np.uint8)
    scale = np.ones((table.num_rows, 1, 2), np.float32)
    for index, data in enumerate(table["image"]):
        with Image.open(io.BytesIO(data.as_py())) as file:
            scale[index, 0] = size / file.width, size / file.height
            picture = file.convert("L")
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BOX)
            images[index] = np.asarray(picture)
    landmarks = _column(table, "landmarks", 10).reshape(-1, 5, 2) * scale
    names = table.schema.metadata[b"blendshape_names"].decode().split(",")
    return Faces(
        images=images,
        landmarks=landmarks,
        expression=expression,
        blendshapes=_column(table, "blendshapes", len(names)),
        blendshape_names=tuple(names),
        names=np.array(table["name"].to_pylist()),
    )


def _column(table: pa.Table, name: str, width: int) -> npt.NDArray[np.float32]:
    """A nullable fixed-size list column as rows of float32, NaN for null."""
    missing = np.full(width, np.nan, np.float32)
    rows = [missing if row is None else row for row in table[name].to_pylist()]
    return np.array(rows, np.float32).reshape(-1, width)
