"""A table in several Parquet files of one folder: write them, look through them.

The files are named so that their order is the table's. Beside the columns of
`fever_extract.tables.schema` each row has ``file_size`` in bytes and ``mtime_ns``, the time of the
file's last change in nanoseconds since 1970: the image that the row was made of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils.files import replace_atomically
from fever_extract.records import Status
from fever_extract.tables.schema import METADATA_KEY, TEXTS

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

JOB_FOLDER = "_job"
"""What belongs to the job and not to the table; readers pass over names with ``_``."""

INDEX = "index"
"""The column that says which input a row is of; on its way to a shard only."""

_NAME = re.compile(r"part-\d{6,}\.parquet")
_SEEN = ["path", "status", "face_index", "file_size", "mtime_ns"]
STATUSES = tuple(Status)


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"part-{number:06}.parquet"


def shards_in(folder: Path) -> list[Path]:
    """The shards of a table, in its order."""
    return sorted(path for path in folder.glob("part-*.parquet") if _NAME.fullmatch(path.name))


def is_shard(path: Path) -> bool:
    """Whether a file was written by `write`, as its metadata says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return METADATA_KEY.encode() in found


def write(path: Path, table: pa.Table, metadata: Mapping[str, object]) -> None:
    """Write one shard, which appears when it is whole and on the disk."""
    import pyarrow.parquet as pq

    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
    with replace_atomically(path, inside=True) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=list(TEXTS))


def identify(
    keys: Sequence[tuple[str, int, int]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Hash inputs, to know them again within this process: Python's hashes differ between two.

    Args:
        keys: of n inputs the name, as in column ``path``, the size in bytes and the mtime in ns.

    Returns:
        ``(n,)`` int64 hashes of the names, and ``(n,)`` int64 of the whole keys.
    """
    return (
        np.array([hash(name) for name, *_ in keys], np.int64),
        np.array([hash(key) for key in keys], np.int64),
    )


@dataclass
class Done:
    """The inputs whose rows are on disk, in the order of the files.

    Attributes:
        files: where the rows are now.
        starts: ``(len(files) + 1,)``: where each file's inputs begin below.
        names, identities: ``(n,)`` int64, see `identify`.
        statuses: ``(n,)`` uint8, an index into `STATUSES`.
        faces: ``(n,)`` int32, embeddings of that input.
    """

    files: list[Path]
    starts: npt.NDArray[np.int64]
    names: npt.NDArray[np.int64]
    identities: npt.NDArray[np.int64]
    statuses: npt.NDArray[np.uint8]
    faces: npt.NDArray[np.int32]

    @classmethod
    def scan(cls, files: Sequence[Path]) -> Done:
        """Look through shards; of each input, 29 bytes are kept.

        Raises:
            ValueError: if a file is no shard.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        codes = pa.array([status.value for status in STATUSES])
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        for path in files:
            try:
                table = pq.read_table(path, columns=_SEEN, partitioning=None)
            except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
                raise ValueError(f"{path} is not a shard of this job: {error}") from None
            first = _first_rows(table)
            rows = table.take(pa.array(first))
            paths, sizes, times = (
                rows[name].to_pylist() for name in ("path", "file_size", "mtime_ns")
            )
            faces = np.diff(first, append=len(table)) * (rows["face_index"].to_numpy() >= 0)
            parts.append(
                (
                    *identify(list(zip(paths, sizes, times))),
                    pc.index_in(rows["status"], value_set=codes).to_numpy().astype(np.uint8),
                    faces.astype(np.int32),
                )
            )
        lengths = np.array([0, *(len(part[0]) for part in parts)], np.int64)
        dtypes = (np.int64, np.int64, np.uint8, np.int32)
        columns = zip(*parts) if parts else ([] for _ in dtypes)
        joined = (
            np.concatenate([np.empty(0, dtype), *column]) for dtype, column in zip(dtypes, columns)
        )
        return cls(list(files), np.cumsum(lengths), *joined)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, indices: npt.NDArray[np.int64]) -> pa.Table:
        """The rows of some inputs, in that order, each with its place in `indices`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = []
        where = np.searchsorted(self.starts, indices, side="right") - 1
        for file in np.unique(where).tolist():
            table = pq.read_table(self.files[file], partitioning=None)
            wanted = np.flatnonzero(where == file)
            first = _first_rows(table)
            counts = np.diff(first, append=len(table))
            inputs = indices[wanted] - self.starts[file]
            rows = np.concatenate([np.arange(first[i], first[i] + counts[i]) for i in inputs])
            places = pa.array(np.repeat(wanted, counts[inputs]))
            tables.append(table.take(pa.array(rows)).add_column(0, INDEX, places))
        return in_order(tables)


def in_order(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables as one, sorted by `INDEX`; rows with the same one keep their order."""
    import pyarrow as pa

    table = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    order = np.argsort(table[INDEX].to_numpy(), kind="stable")
    # One chunk a column first: to take rows out of hundreds of small ones is slow.
    return table.combine_chunks().take(pa.array(order))


def _first_rows(table: pa.Table) -> npt.NDArray[np.int64]:
    """The row at which each input begins: face 0, or the row without one (-1)."""
    return np.flatnonzero(table["face_index"].to_numpy() <= 0)
