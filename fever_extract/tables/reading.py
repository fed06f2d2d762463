"""Tables of faces read back, whichever way they were written."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils.files import replace_atomically
from fever_extract.tables import csv, filters, index, npz, parquet, search
from fever_extract.tables.embeddings import Embeddings
from fever_extract.tables.parquet import ParquetColumns
from fever_extract.tables.schema import (
    EMBEDDING,
    EXTENSIONS,
    METADATA_KEY,
    Column,
    Columns,
    gather,
    parse_metadata,
    spread,
    take,
)
from fever_extract.tables.shards import JOB_FOLDER

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_NEEDED = ("path", "status")
_CACHED = re.compile(r"(\..+\.)?embeddings-[0-9a-f]{16}\.npy")


@dataclass(frozen=True, eq=False)
class Table:
    """A table of faces. Columns and embeddings of Parquet are read when they are used.

    Attributes:
        columns: by name, all but the embedding: texts as lists of str; numbers as arrays whose
            first axis is the row; see `fever_extract.tables.schema`. Columns that others added
            are there too.
        metadata: what made the table; empty if it was lost on the way.
        embeddings: to be read block by block; None if the table has none.
    """

    columns: Mapping[str, Column]
    metadata: Mapping[str, Any]
    embeddings: Embeddings | None
    _count: int

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        width = self.embeddings.width if self.embeddings is not None else 0
        return f"Table({len(self)} rows, {len(self.columns)} columns, embedding_dim={width})"

    @cached_property
    def X(self) -> npt.NDArray[np.float32]:
        """The embeddings, ``(n, d)`` float32; row *i* is the table's row *i*, NaN if it has none.

        Raises:
            ValueError: if the table was made without them.
        """
        return self._embeddings().load()

    def texts(self, name: str) -> list[str]:
        """A column as texts; empty ones if there is no such column."""
        return [str(value) for value in self.columns.get(name, [""] * len(self))]

    def numbers(self, name: str) -> npt.NDArray[Any] | None:
        """A column of numbers, or None if there is none of that name."""
        values = self.columns.get(name)
        return values if isinstance(values, np.ndarray) else None

    def where(self, **conditions: Any) -> Table:
        """The rows that meet all conditions, in their order.

        Args:
            conditions: ``COLUMN=value`` or a list of values; ``min_COLUMN`` and ``max_COLUMN``,
                both inclusive, of the angles (yaw, pitch, roll) the absolute value. NaN meets
                neither. Columns are named as in csv, ``p_happiness`` and ``bs_jawOpen``.

        Raises:
            ValueError: if there is no such column.
        """
        return self.take(filters.where(self.columns, self.metadata, conditions, len(self)))

    def like(self, condition: str) -> Table:
        """The rows that meet a condition in SQL, as ``happiness > 0.8 and bs_eyeBlinkLeft < 0.2``.

        Args:
            condition: on the columns as in csv; an expression may stand for its probability. It
                goes to DuckDB as it is: take none from strangers.

        Raises:
            ValueError: if it is not understood.
            ImportError: if DuckDB is missing.
        """
        return self.take(filters.like(self.columns, self.metadata, condition))

    def take(self, rows: npt.NDArray[np.int64]) -> Table:
        """Some rows, in rising order."""
        if isinstance(self.columns, ParquetColumns):
            columns: Mapping[str, Column] = self.columns.take(rows)
        else:
            columns = {name: take(values, rows) for name, values in self.columns.items()}
        embeddings = None if self.embeddings is None else self._embeddings().take(rows)
        return Table(columns, self.metadata, embeddings, len(rows))

    def nearest(
        self,
        x: npt.ArrayLike | Table,
        n: int = 10,
        *,
        metric: str = "cosine",
        leave_out_same: bool = False,
    ) -> search.Neighbors:
        """Find the rows whose embeddings are nearest, exactly: by comparison with all.

        Args:
            x: one embedding ``(d,)``, several ``(m, d)``, or another table made with the same
                weights.
            n: how many; fewer if the table has fewer embeddings.
            metric: ``cosine`` or ``euclidean``.
            leave_out_same: pass over embeddings that equal the one asked for, as that of the same
                picture does.

        Raises:
            ValueError: if the embeddings can't be compared, or there are none.
        """
        if isinstance(x, Table):
            self.check_weights(x.metadata, "the other table")
            x = x.X
        return search.nearest(self._embeddings(), x, n, metric, leave_out_same)

    def build_index(self, metric: str = "cosine") -> index.Index:
        """Build a FAISS index, for many more than a million embeddings; answers are nearly exact.

        Args:
            metric: ``cosine`` or ``euclidean``.

        Raises:
            ValueError: if there are no embeddings, or the metric is not known.
            ImportError: if FAISS is missing.
        """
        weights = {name: self.metadata.get(name) for name in ("weights", "weights_sha256")}
        return index.build(self._embeddings(), metric, weights)

    def check_weights(self, other: Mapping[str, Any], name: str) -> None:
        """Refuse to compare with embeddings from other weights.

        Args:
            other: ``weights`` and ``weights_sha256`` of the others.
            name: what these are called.

        Raises:
            ValueError: if both are known and differ.
        """
        ours, theirs = (
            (about.get("weights_sha256"), about.get("weights")) for about in (self.metadata, other)
        )
        if ours[0] and theirs[0] and ours[0] != theirs[0]:
            raise ValueError(
                f"the table was made with weights {ours[1]} (SHA-256 {ours[0][:12]}), {name} with "
                f"{theirs[1]} (SHA-256 {theirs[0][:12]}): they can't be compared; extract both "
                "with the same weights"
            )

    def to_arrow(self, *, embedding: bool = True) -> pa.Table:
        """As a `pyarrow.Table` with lists for box, landmarks, expressions and so on.

        Args:
            embedding: include the embeddings.
        """
        parquet.check_parquet()
        if isinstance(self.columns, ParquetColumns):
            return self.columns.arrow(None if embedding else list(self.columns))
        table = parquet.to_arrow(Columns(self._columns(embedding)))
        return table.replace_schema_metadata({METADATA_KEY: json.dumps(dict(self.metadata))})

    def to_pandas(self, *, embedding: bool = True) -> pd.DataFrame:
        """As a `pandas.DataFrame` with a column for each number: ``p_happiness``, ``bs_jawOpen``.

        Args:
            embedding: include the embeddings, as ``embedding_0`` and so on.
        """
        import pandas as pd

        return pd.DataFrame(spread(self._columns(embedding), self.metadata))

    def to_polars(self, *, embedding: bool = True) -> pl.DataFrame:
        """As a `polars.DataFrame` with a column for each number; see `to_pandas`."""
        import polars as pl

        flat = spread(self._columns(embedding), self.metadata)
        return pl.DataFrame(
            {
                k: np.ascontiguousarray(v) if isinstance(v, np.ndarray) else v
                for k, v in flat.items()
            }
        )

    def _columns(self, embedding: bool) -> dict[str, Column]:
        embeddings = {EMBEDDING: self.X} if embedding and self.embeddings is not None else {}
        return {**self.columns, **embeddings}

    def _embeddings(self) -> Embeddings:
        if self.embeddings is None:
            raise ValueError("the table has no embeddings: it was made with --no-embedding")
        if "X" in self.__dict__:
            return Embeddings.of(self.X)  # they are in memory already
        return self.embeddings


def read_table(path: str | os.PathLike[str], *, memory_map: bool = False) -> Table:
    """Read what `fever_extract.Extractor.extract_folder` wrote.

    Args:
        path: a ``.parquet``, ``.npz`` or ``.csv`` file, or a folder of Parquet files.
        memory_map: of Parquet, leave the embeddings on disk. They are written once, beside the
            shards, as an ``.npy`` file of their own, which is used again as long as the shards
            stay the same.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is damaged or no table of ours.
        ImportError: if the package that reads it is missing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; fever-extract extract writes tables")
    suffix = ".parquet" if path.is_dir() else path.suffix.lower()
    if suffix not in EXTENSIONS:
        raise ValueError(f"table {path}: the name must end in one of {', '.join(EXTENSIONS)}")
    try:
        table = _read(path, suffix)
    except (ImportError, OSError):
        raise
    except Exception as error:
        # Each format's reader has its own exceptions for a damaged file.
        raise ValueError(f"table {path} can't be read: {error}") from error
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise ValueError(
            f"table {path} has no column {', '.join(missing)}; is it from fever-extract extract?"
        )
    if memory_map and suffix == ".parquet" and table.embeddings is not None:
        assert isinstance(table.columns, ParquetColumns)
        mapped = Embeddings.of(_mapped(path, table.columns.files, table.embeddings))
        return replace(table, embeddings=mapped)
    return table


def load(
    path: str | os.PathLike[str], *, memory_map: bool = False
) -> tuple[npt.NDArray[np.float32], pa.Table]:
    """Load a table: embeddings ``(n, d)`` float32, and an Arrow table of all other columns.

    Short for `read_table`, its ``X`` and its ``to_arrow(embedding=False)``; see there for the
    arguments and errors.
    """
    table = read_table(path, memory_map=memory_map)
    return table.X, table.to_arrow(embedding=False)


def _read(path: Path, suffix: str) -> Table:
    if suffix == ".parquet":
        opened = parquet.read(path)
        metadata = parse_metadata(opened.metadata)
        if EMBEDDING in opened.schema.names or f"{EMBEDDING}_0" not in opened:
            return Table(opened, metadata, opened.embeddings(), opened.count)
        flat: dict[str, Column] = dict(opened)  # a data frame of `to_pandas` that was saved
    else:
        flat, text = npz.read(path) if suffix == ".npz" else csv.read(path)
        metadata = parse_metadata(text)
    columns, metadata = gather(flat, metadata)
    embedding = columns.pop(EMBEDDING, None)
    embeddings = None
    if isinstance(embedding, np.ndarray) and embedding.ndim == 2:
        embeddings = Embeddings.of(np.asarray(embedding, np.float32))
    count = len(next(iter(columns.values()), []))
    return Table(columns, metadata, embeddings, count)


def _mapped(path: Path, files: list[Path], embeddings: Embeddings) -> npt.NDArray[np.float32]:
    state = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    folder = path / JOB_FOLDER if path.is_dir() else path.parent
    stem = "" if path.is_dir() else f".{path.name}."
    cached = folder / f"{stem}embeddings-{digest}.npy"
    if not cached.exists():
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            if old.name.startswith(f"{stem}embeddings-") and _CACHED.fullmatch(old.name):
                old.unlink()
        with replace_atomically(cached, inside=True) as temporary:
            array = np.lib.format.open_memmap(
                temporary, mode="w+", dtype=np.float32, shape=(embeddings.count, embeddings.width)
            )
            embeddings.fill(array)
            array.flush()
            del array  # Windows renames no file that is mapped
    loaded: npt.NDArray[np.float32] = np.load(cached, mmap_mode="r")
    return loaded
