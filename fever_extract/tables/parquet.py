"""Tables as Parquet, one file or a folder of them: the writer, and the reader beside it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils.extras import require
from fever_extract.tables.embeddings import BLOCK, Embeddings
from fever_extract.tables.schema import EMBEDDING, METADATA_KEY, Column, Columns, take
from fever_extract.tables.shards import shards_in

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa
    import pyarrow.parquet as pq


check_parquet = partial(require, "pyarrow", extra="parquet", needed_by="Parquet")
"""Refuse to begin without pyarrow; takes ``otherwise``, see `require`."""


def to_arrow(columns: Columns) -> pa.Table:
    """Rows for Parquet: what has several numbers a row becomes a fixed-size list."""
    import pyarrow as pa

    arrays = {}
    for name, values in columns.values.items():
        if isinstance(values, np.ndarray) and values.ndim == 2:
            flat = pa.array(values.reshape(-1))
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            arrays[name] = pa.array(values, pa.string() if isinstance(values, list) else None)
    return pa.table(arrays)


class ParquetWriter:
    """Row groups as they come, so that memory doesn't grow with the folder."""

    def __init__(self, path: Path, metadata: str) -> None:
        self._path, self._metadata = path, metadata
        self._writer: Any = None
        self._file: IO[bytes] | None = None

    def write(self, columns: Columns) -> None:
        """Append rows."""
        import pyarrow.parquet as pq

        table = to_arrow(columns).replace_schema_metadata({METADATA_KEY: self._metadata})
        if self._writer is None:
            # pyarrow itself takes no name that is not UTF-8.
            self._file = open(self._path, "wb")  # noqa: SIM115
            self._writer = pq.ParquetWriter(self._file, table.schema, compression="zstd")
        self._writer.write_table(table)

    def finish(self) -> None:
        """All rows are there."""

    def close(self) -> None:
        """Let go of the file, whatever happened."""
        if self._writer is not None:
            self._writer.close()
        if self._file is not None:
            self._file.close()


class ParquetColumns(Mapping[str, Column]):
    """The columns of Parquet files, but for the embedding; each is read when it is asked for.

    Args:
        files: of one table, in its order.
        rows: which rows, in rising order; None for all.

    Raises:
        ValueError: if a file is damaged.
        OSError: if it can't be read.
    """

    def __init__(self, files: Sequence[Path], rows: npt.NDArray[np.int64] | None = None) -> None:
        import pyarrow as pa

        self.files, self.rows = list(files), rows
        try:
            self._counts = []
            for file in self.files:
                with opened(file) as parquet:
                    self._counts.append(parquet.metadata.num_rows)
                    if len(self._counts) == 1:
                        self.schema = parquet.schema_arrow
        except pa.ArrowInvalid as error:  # an OSError too, though the file was there
            raise ValueError(str(error)) from error
        if len(set(self.schema.names)) < len(self.schema.names):
            raise ValueError("two of its columns have one name")
        self._names = [name for name in self.schema.names if name != EMBEDDING]
        self._read: dict[str, Column] = {}

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(self._counts) if self.rows is None else len(self.rows)

    @property
    def starts(self) -> list[int]:
        """The row at which each file begins, before any were chosen."""
        return [0, *np.cumsum(self._counts).tolist()][: len(self.files)]

    @property
    def metadata(self) -> str:
        """The table's own, as JSON; empty if there is none."""
        text: bytes = (self.schema.metadata or {}).get(METADATA_KEY.encode(), b"")
        return text.decode()

    def __getitem__(self, name: str) -> Column:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = from_arrow(self.arrow([name])[name].combine_chunks())
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def arrow(self, names: Sequence[str] | None = None) -> pa.Table:
        """Some columns, or all with the embedding, as they are on disk."""
        import pyarrow as pa

        columns = list(self.schema.names if names is None else names)
        try:
            parts = []
            for file in self.files:
                with opened(file) as parquet:
                    parts.append(parquet.read(columns))
            table = pa.concat_tables(parts)
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise ValueError(
                f"{self.files[0].parent} holds files of several tables: {error}"
            ) from None
        return table if self.rows is None else table.take(pa.array(self.rows))

    def take(self, rows: npt.NDArray[np.int64]) -> ParquetColumns:
        """Some of these rows, in rising order."""
        taken = copy.copy(self)
        taken.rows = rows if self.rows is None else self.rows[rows]
        taken._read = {name: take(values, rows) for name, values in self._read.items()}
        return taken

    def embeddings(self) -> Embeddings | None:
        """The embedding; None if there is none."""
        from pyarrow import types

        if EMBEDDING not in self.schema.names:
            return None
        kind = self.schema.field(EMBEDDING).type
        if types.is_fixed_size_list(kind):
            everything = Embeddings(self._blocks, sum(self._counts), kind.list_size)
            return everything if self.rows is None else everything.take(self.rows)
        # Lists of any length, as pandas writes them: the width is known when all are read.
        array = from_arrow(self.arrow([EMBEDDING])[EMBEDDING].combine_chunks())
        if not isinstance(array, np.ndarray) or array.ndim != 2:
            raise ValueError(f"column {EMBEDDING} is no list of numbers")
        return Embeddings.of(array)

    def _blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        import pyarrow as pa

        for file in self.files:
            with opened(file) as parquet:
                for batch in parquet.iter_batches(BLOCK, columns=[EMBEDDING]):
                    (column,) = batch.columns
                    if column.null_count:
                        width = column.type.list_size
                        nothing = pa.scalar([np.nan] * width, column.type)
                        column = column.fill_null(nothing)
                    flat = column.flatten().to_numpy(zero_copy_only=False)
                    yield np.asarray(flat, np.float32).reshape(len(column), -1)


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file, whatever its name is made of."""
    import pyarrow.parquet as pq

    # Not by its name: pyarrow takes no names that are not UTF-8.
    with open(path, "rb") as file, pq.ParquetFile(file) as parquet:
        yield parquet


def read(path: Path) -> ParquetColumns:
    """Open a Parquet file, or a folder of them.

    Of a folder, the shards; if it has none, all files but those whose names begin with ``_`` or
    ``.``.

    Raises:
        FileNotFoundError: if a folder has none.
        ValueError, OSError, ImportError: as `ParquetColumns` and `check_parquet`.
    """
    check_parquet()
    files = [path]
    if path.is_dir():
        files = shards_in(path) or sorted(
            file for file in path.glob("*.parquet") if not file.name.startswith(("_", "."))
        )
        if not files:
            raise FileNotFoundError(f"{path} has no shards (part-*.parquet)")
    return ParquetColumns(files)


def from_arrow(column: Any) -> Column:
    """An Arrow array as texts or numbers."""
    from pyarrow import types

    kind = column.type
    if types.is_fixed_size_list(kind) and not column.null_count:
        # As Python's numbers, a million embeddings would take tens of gigabytes.
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
    return ["" if value is None else str(value) for value in column.to_pylist()]
