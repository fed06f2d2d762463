"""Tables as npz: the writer, and the reader beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fever_extract.tables.schema import METADATA_KEY, Column, Columns


class NpzWriter:
    """All rows in memory until the end: the format can't be appended to."""

    def __init__(self, path: Path, metadata: str) -> None:
        self._path, self._metadata = path, metadata
        self._parts: list[Columns] = []

    def write(self, columns: Columns) -> None:
        """Append rows."""
        self._parts.append(columns)

    def finish(self) -> None:
        """All rows are there."""
        arrays: dict[str, Any] = {
            name: np.concatenate([np.asarray(part.values[name]) for part in self._parts])
            for name in self._parts[0].values
        }
        arrays["landmarks"] = arrays["landmarks"].reshape(-1, 5, 2)
        arrays[METADATA_KEY] = np.array(self._metadata)
        with open(self._path, "wb") as file:
            np.savez_compressed(file, **arrays)

    def close(self) -> None:
        """There is nothing to let go of."""


def read(path: Path) -> tuple[dict[str, Column], str]:
    """The columns and the metadata, as JSON."""
    with np.load(path, allow_pickle=False) as file:
        columns: dict[str, Any] = {name: file[name] for name in file.files}
    text = str(columns.pop(METADATA_KEY, ""))
    for name, values in columns.items():
        if values.dtype.kind in "US":
            columns[name] = values.tolist()
        elif values.ndim > 2:
            columns[name] = values.reshape(len(values), -1)
    return columns, text
