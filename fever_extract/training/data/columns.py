"""Columns of a table of faces in Arrow, and its pictures as they were encoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.data.faces import FACES

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa
    import pyarrow.parquet as pq


def read_columns(path: Path) -> pa.Table:
    """Read all columns but the pictures, which may be many gigabytes.

    Args:
        path: the table.

    Returns:
        The table; in ``image``, if there is one, are the rows' numbers, for `read_pictures`.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no whole Parquet file.
    """
    import pyarrow as pa

    file = _open(path)
    names = file.schema_arrow.names
    try:
        table = file.read(columns=[name for name in names if name != "image"])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{path} can't be read by pyarrow {pa.__version__}: {error}") from None
    if "image" in names:
        table = table.append_column("image", pa.array(np.arange(file.metadata.num_rows)))
    return table


def read_pictures(path: Path, rows: npt.NDArray[np.int64]) -> list[bytes]:
    """Read the pictures of some rows, encoded as they are, in the rows' order.

    Args:
        path: the table.
        rows: ``(n,)`` numbers of rows.
    """
    pictures: dict[int, bytes] = {}
    asked, start = set(rows.tolist()), 0
    for batch in _open(path).iter_batches(batch_size=1024, columns=["image"]):
        for row in asked.intersection(range(start, start + batch.num_rows)):
            pictures[row] = batch["image"][row - start].as_py()
        start += batch.num_rows
    return [pictures[row] for row in rows.tolist()]


def join_faces(labels: pa.Table, path: Path) -> pa.Table:
    """Join labels by name with what ``faces.parquet`` knows of those pictures.

    Args:
        labels: with a column ``name``; labels without a picture are left out.
        path: where the labels came from, beside ``faces.parquet``.

    Raises:
        ValueError: if there are no names.
    """
    if "name" not in labels.column_names:
        raise ValueError(f"{path} has neither pictures (image) nor names to find them by")
    faces = read_columns(path.with_name(FACES))
    rows = {name: row for row, name in enumerate(faces["name"].to_pylist())}
    found = np.array([rows.get(name, -1) for name in labels["name"].to_pylist()])
    joined = faces.take(found[found >= 0])
    for name in labels.column_names:
        if name not in joined.column_names:
            joined = joined.append_column(name, labels[name].filter(found >= 0))
    return joined


def numbers(table: pa.Table, name: str, width: int) -> npt.NDArray[np.float32]:
    """Take a column of numbers, or of lists of ``width``, as rows ``(n, width)``; NaN for null."""
    rows = np.full((table.num_rows, width), np.nan, np.float32)
    if name in table.column_names and width:
        for row, value in enumerate(table[name].to_pylist()):
            if value is not None:
                rows[row] = value
    return rows


def _open(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make it with `prepare`: see docs/data.md")
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole Parquet file: {error}") from None
