"""Tables of faces read back, whichever way they were written."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract.tables import EXTENSIONS, METADATA_KEY, check_parquet

if TYPE_CHECKING:
    import numpy.typing as npt

_NEEDED = ("path", "status", "embedding")
_TEXTS = ("path", "status", "error", "expression")


@dataclass(frozen=True)
class Table:
    """A table in memory.

    Attributes:
        columns: texts as lists of str; numbers as arrays whose first axis is the row, as
            in `fever_extract.tables.Columns`. Columns that others added are there too.
        metadata: what made the table; empty if it was lost on the way.
    """

    columns: dict[str, list[str] | npt.NDArray[Any]]
    metadata: dict[str, Any]

    def __len__(self) -> int:
        return len(self.columns["path"])

    def texts(self, name: str) -> list[str]:
        """A column as texts; empty ones if there is no such column."""
        return [str(value) for value in self.columns.get(name, [""] * len(self))]

    def numbers(self, name: str) -> npt.NDArray[Any] | None:
        """A column of numbers, or None if there is none of that name."""
        values = self.columns.get(name)
        return values if isinstance(values, np.ndarray) else None


def read_table(path: Path) -> Table:
    """Read what `fever_extract.Extractor.extract_folder` wrote.

    Args:
        path: a ``.parquet``, ``.npz`` or ``.csv`` file, or a folder of Parquet files.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is damaged or no table of ours.
        ImportError: if the package that reads it is missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; fever-extract extract writes tables")
    suffix = ".parquet" if path.is_dir() else path.suffix.lower()
    if suffix not in _READERS:
        raise ValueError(f"table {path}: the name must end in one of {', '.join(EXTENSIONS)}")
    try:
        columns, text = _READERS[suffix](path)
        table = Table(columns, _metadata(text))
    except (ImportError, OSError):
        raise
    except Exception as error:
        # Each format's reader has its own exceptions for a damaged file.
        raise ValueError(f"table {path} can't be read: {error}") from error
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise ValueError(
            f"table {path} has no column {', '.join(missing)}; is it from fever-extract extract?"
        )
    return table


def _metadata(text: str) -> dict[str, Any]:
    """What made a table; anyone may have written it."""
    metadata = json.loads(text) if text else {}
    if not isinstance(metadata, dict):
        raise ValueError(f"its metadata is no JSON object, but {text:.60}")
    for name, shape in (("options", dict), ("expressions", list)):
        if not isinstance(metadata.get(name, shape()), shape):
            raise ValueError(f"its metadata has no usable {name!r}: {metadata[name]!r:.60}")
    return metadata


def _read_parquet(path: Path) -> tuple[dict[str, Any], str]:
    check_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # pyarrow itself takes no name that is not UTF-8.
        with nullcontext(path) if path.is_dir() else open(path, "rb") as source:
            table = pq.read_table(source)
    except pa.ArrowInvalid as error:  # an OSError too, though the file was there
        raise ValueError(str(error)) from error
    text = (table.schema.metadata or {}).get(METADATA_KEY.encode(), b"").decode()
    return {name: _from_arrow(table[name].combine_chunks()) for name in table.column_names}, text


def _from_arrow(column: Any) -> list[str] | npt.NDArray[Any]:
    from pyarrow import types

    kind = column.type
    if types.is_fixed_size_list(kind) and not column.null_count:
        # As Python's numbers, a million vectors would take tens of gigabytes.
        values = column.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(values, np.float32).reshape(len(column), kind.list_size)
    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        rows = column.to_pylist()
        width = max((len(row) for row in rows if row is not None), default=0)
        return np.array([row or [np.nan] * width for row in rows], np.float32).reshape(-1, width)
    if types.is_boolean(kind) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False), bool)
    if types.is_integer(kind) or types.is_floating(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return _texts(column.to_pylist())


def _read_npz(path: Path) -> tuple[dict[str, Any], str]:
    with np.load(path, allow_pickle=False) as file:
        columns: dict[str, Any] = {name: file[name] for name in file.files}
    text = str(columns.pop(METADATA_KEY, ""))
    for name, values in columns.items():
        if values.dtype.kind in "US":
            columns[name] = values.tolist()
        elif values.ndim > 2:
            columns[name] = values.reshape(len(values), -1)
    return columns, text


def _read_csv(path: Path) -> tuple[dict[str, Any], str]:
    beside = path.with_name(path.name + ".json")
    text = beside.read_text(encoding="utf-8") if beside.is_file() else ""
    with open(path, newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    if any(len(line) != len(header) for line in lines):
        raise ValueError("its lines are not equally long")
    columns: dict[str, Any] = {}
    numbered: dict[str, list[list[str]]] = {}
    for index, name in enumerate(header):
        cells = [line[index] for line in lines]
        if part := re.fullmatch(r"(box|landmarks|expressions|embedding)_\d+", name):
            numbered.setdefault(part[1], []).append(cells)
        else:
            columns[name] = cells if name in _TEXTS else _guess(cells)
    for name, cells_by_number in numbered.items():
        columns[name] = np.array(cells_by_number, np.float32).T
    return columns, text


def _guess(cells: list[str]) -> list[str] | npt.NDArray[Any]:
    """csv has no types: what reads as numbers throughout is numbers."""
    if cells and set(cells) <= {"True", "False"}:
        return np.array([cell == "True" for cell in cells])
    try:
        return np.array([float(cell) for cell in cells]) if cells else []
    except ValueError:
        return cells


def _texts(values: Sequence[object]) -> list[str]:
    return ["" if value is None else str(value) for value in values]


_READERS = {".parquet": _read_parquet, ".npz": _read_npz, ".csv": _read_csv}
