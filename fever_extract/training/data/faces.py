"""Load tables of faces, labelled or not, into arrays that fit in memory.

Any table of `fever_extract.training.data.prepare` can be read, and our own ``ferplus.parquet`` and
``faces.parquet``, which have 52 ``blendshapes`` besides.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fever_extract.models.config import EXPRESSIONS

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa
    import pyarrow.parquet as pq

FERPLUS = "ferplus.parquet"
FACES = "faces.parquet"

_VOTES = [f"votes_{name}" for name in (*EXPRESSIONS, "unknown", "not_face")]
_ROWS = 1024  # decoded at a time


@dataclass(frozen=True)
class Faces:
    """n grey face pictures of one size, and what is known of each.

    Attributes:
        images: ``(n, s, s)`` uint8.
        landmarks: ``(n, 5, 2)`` float32 in pixels; NaN where no detector found them.
        expression: ``(n, 8)`` float32, each row a distribution over `EXPRESSIONS`, or
            all zero where there is no label.
        blendshapes: ``(n, 52)`` float32 in 0 to 1; NaN where missing. ``(n, 0)`` of a table that
            has none.
        blendshape_names: what the columns of ``blendshapes`` are.
        names: ``(n,)`` the pictures' names.
        valence_arousal: ``(n, 2)`` float32 in -1 to 1; NaN where missing.
    """

    images: npt.NDArray[np.uint8]
    landmarks: npt.NDArray[np.float32]
    expression: npt.NDArray[np.float32]
    blendshapes: npt.NDArray[np.float32]
    blendshape_names: tuple[str, ...]
    names: npt.NDArray[np.str_]
    valence_arousal: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Triplets:
    """t triplets of faces, of which people found one least like the other two.

    Attributes:
        indices: ``(t, 3)`` int64, into the faces.
        odd: ``(t,)`` int64, 0 to 2: which of the three it is.
    """

    indices: npt.NDArray[np.int64]
    odd: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.odd)


def majority(expression: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """The class that holds more than half of each row, or -1 (FER+'s "majority" protocol).

    ``expression`` is ``(n, 8)`` of `Faces` read with unknown and not-a-face votes counted.
    """
    top = expression.argmax(axis=1)
    return np.where(expression.max(axis=1) > 0.5, top, -1)


def read_ferplus(folder: Path, split: str) -> Faces:
    """One split of FER+ (Barsoum et al. 2016): faces of 48x48 pixels, as `read` reads them.

    Args:
        folder: where ``ferplus.parquet`` lies.
        split: ``train``, ``valid`` or ``test``.

    Raises:
        as `read`.
    """
    return read(folder / FERPLUS, split, size=48)


def read_unlabelled(folder: Path) -> Faces:
    """The unlabelled faces in the wild, all brought to 96x96; no expression labels.

    Raises:
        as `read`.
    """
    return read(folder / FACES)


def read(path: Path, split: str | None = None, size: int = 96) -> Faces:
    """A table of faces, or one split of it, in grey.

    Of votes, single ones are taken as slips and set to zero, as FER+'s standard protocol does. What
    is left is divided by its sum *with* the votes for "unknown" and "not a face", so that a
    row that sums to less than one tells how much of the vote went to those.

    Pictures are decoded some at a time: in memory are the arrays, and little besides.

    Args:
        path: the table.
        split: ``train``, ``valid`` or ``test``; None for all of it.
        size: side that pictures are brought to, in pixels.

    Raises:
        FileNotFoundError: if the table is not there.
        ValueError: if it is no table of faces, or no face of it is in the split.
    """
    file = _open(path)
    columns = set(file.schema_arrow.names)
    missing = {"name", "image", "landmarks", *(["split"] if split else [])} - columns
    if missing:
        raise ValueError(
            f"{path} is no table of faces: it has no column {', '.join(sorted(missing))}"
        )
    names = (file.schema_arrow.metadata or {}).get(b"blendshape_names", b"").decode()
    width = len(names.split(",")) if names else 0
    count = _count(file, split)
    if not count:
        raise ValueError(f"{path} has no faces" + (f" in its split {split!r}" if split else ""))
    arrays: dict[str, npt.NDArray[Any]] = {}
    labels: list[str] = []
    for batch in _batches(file, path, split):
        rows = slice(len(labels), len(labels) + batch.num_rows)
        for name, values in _decode(batch, size, width).items():
            # What is put together from pieces would, for a moment, be there twice.
            if name not in arrays:
                arrays[name] = np.empty((count, *values.shape[1:]), values.dtype)
            arrays[name][rows] = values
        labels += batch.column("name").to_pylist()
    return Faces(
        blendshape_names=tuple(names.split(",")) if names else (),
        names=np.array(labels),
        **arrays,
    )


def read_triplets(path: Path, faces: Faces) -> Triplets:
    """The triplets of a table whose three faces are among those given.

    Args:
        path: the table, such as ``fec.triplets.parquet`` beside ``fec.parquet``.
        faces: of the table of faces, or of one split of it.

    Raises:
        FileNotFoundError: if the table is not there.
        ValueError: if it is no table of triplets, or has none of these faces.
    """
    columns = ["face_1", "face_2", "face_3", "odd"]
    file = _open(path)
    if not set(columns) <= set(file.schema_arrow.names):
        raise ValueError(f"{path} is no table of triplets, which has {', '.join(columns)}")
    numbers = {name: index for index, name in enumerate(faces.names.tolist())}
    indices, odd = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
    for batch in file.iter_batches(columns=columns):
        found = [
            [numbers.get(name, -1) for name in batch.column(column).to_pylist()]
            for column in columns[:3]
        ]
        rows = np.array(found, np.int64).T
        known = (rows >= 0).all(axis=1)
        indices.append(rows[known])
        odd.append(batch.column("odd").to_numpy().astype(np.int64)[known])
    if not sum(map(len, odd)):
        raise ValueError(f"{path} has no triplet of these faces")
    return Triplets(np.concatenate(indices), np.concatenate(odd))


def _open(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; give the folder that holds it with --data or FEVER_DATA, or "
            "make it with `python -m fever_extract.training prepare`"
        )
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole Parquet file: {error}") from error


def _count(file: pq.ParquetFile, split: str | None) -> int:
    """Rows of one split."""
    if split is None:
        return int(file.metadata.num_rows)
    return sum(value == split for value in file.read(columns=["split"])["split"].to_pylist())


def _batches(file: pq.ParquetFile, path: Path, split: str | None) -> Iterator[pa.RecordBatch]:
    """The rows of one split, some at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        for batch in file.iter_batches(batch_size=_ROWS):
            wanted = batch if split is None else batch.filter(pc.equal(batch["split"], split))
            if wanted.num_rows:
                yield wanted
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(
            f"{path} can't be read by pyarrow {pa.__version__} ({error}); missing rows in lists of "
            "fixed size need pyarrow 26"
        ) from error


def _decode(batch: pa.RecordBatch, size: int, blendshapes: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `Faces`, but for the names, of some rows."""
    images = np.zeros((batch.num_rows, size, size), np.uint8)
    scale = np.ones((batch.num_rows, 1, 2), np.float32)
    for index, data in enumerate(batch.column("image")):
        with Image.open(io.BytesIO(data.as_py())) as file:
            scale[index, 0] = size / file.width, size / file.height
            picture = file.convert("L")
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BOX)
            images[index] = np.asarray(picture)
    affect = [_numbers(batch, name, 1) for name in ("valence", "arousal")]
    return {
        "images": images,
        "landmarks": _numbers(batch, "landmarks", 10).reshape(-1, 5, 2) * scale,
        "expression": _expression(batch),
        "blendshapes": _numbers(batch, "blendshapes", blendshapes),
        "valence_arousal": np.concatenate(affect, axis=1),
    }


def _expression(batch: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Soft labels ``(n, 8)``, zero where there are none."""
    if _VOTES[0] not in batch.schema.names:
        return np.nan_to_num(_numbers(batch, "expression", len(EXPRESSIONS)))
    votes = np.stack([batch.column(name).to_numpy() for name in _VOTES], axis=1)
    votes = np.where(votes > 1, votes, 0).astype(np.float32)
    share: npt.NDArray[np.float32] = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)
    return share[:, : len(EXPRESSIONS)]


def _numbers(batch: pa.RecordBatch, name: str, width: int) -> npt.NDArray[np.float32]:
    """A column of numbers, or of lists of ``width`` numbers, as rows of float32; NaN for null."""
    rows = np.full((batch.num_rows, width), np.nan, np.float32)
    if name in batch.schema.names and width:
        column = batch.column(name)
        known = column.is_valid().to_numpy(zero_copy_only=False)
        values = column.drop_null()
        if hasattr(values, "flatten") and values.type.num_fields:
            values = values.flatten()
        rows[known] = values.to_numpy(zero_copy_only=False).reshape(-1, width)
    return rows
