"""A table in several Parquet files of one folder: write them, look through them.

The files are named so that their order is the table's. Beside the columns of
`fever_extract.tables.schema` each row has ``file_size`` in bytes and ``mtime_ns``, the time of the
file's last change in nanoseconds since 1970: the image that the row was made of.

A clip's rows come in stretches, which the metadata lists under ``fever_extract_stretches``: which
rows each has (maybe none), where in the clip it begins and ends, and how its faces are followed.
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

_STRETCHES = "fever_extract_stretches"
_NAME = re.compile(r"part-\d{6,}\.parquet")
_SEEN = ["path", "status", "face_index", "file_size", "mtime_ns"]
STATUSES = tuple(Status)


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"part-{number:06}.parquet"


def shards_in(folder: Path) -> list[Path]:
    """The shards of a table, in its order."""
    return sorted(path for path in folder.glob("part-*.parquet") if _NAME.fullmatch(path.name))


def metadata_of(path: Path) -> dict[bytes, bytes]:
    """Read a shard's metadata; empty if the file is none, or not whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return {}


def is_shard(path: Path) -> bool:
    """Whether a file is a shard of a table, as its metadata says."""
    return METADATA_KEY.encode() in metadata_of(path)


@dataclass(frozen=True)
class StretchRows:
    """The rows of a clip's stretch in a shard.

    Attributes:
        row, rows: the first of them, and how many; maybe none.
        key: what it is known by: name, size, mtime, start, end.
        tracks: where the clip's ids of faces are at its end; opaque here.
    """

    row: int
    rows: int
    key: list[Any]
    tracks: Any


def write(
    path: Path,
    table: pa.Table,
    metadata: Mapping[str, object] | None = None,
    stretches: Sequence[StretchRows] = (),
) -> None:
    """Write one shard, which appears when it is whole and on the disk.

    Args:
        path: in a folder of the job's own.
        table: its rows; and its metadata, unless the table's are given.
        metadata: as `fever_extract.tables.schema.describe` gives it.
        stretches: of clips among the rows, in order.
    """
    import pyarrow.parquet as pq

    if metadata is not None:
        texts = {METADATA_KEY: json.dumps(metadata)}
        if stretches:
            texts[_STRETCHES] = json.dumps([list(vars(one).values()) for one in stretches])
        table = table.replace_schema_metadata(texts)
    columns = [name for name in TEXTS if name in table.column_names]
    with replace_atomically(path, inside=True) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=columns)


def identify(
    keys: Sequence[tuple[object, ...]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Hash inputs, to know them again within this process: Python's hashes differ between two.

    Args:
        keys: of n inputs the name, as in column ``path``, the size in bytes and the mtime in ns;
            of a stretch of a clip, its start and end, too.

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

    An input is a photograph, which is one image, or a stretch of a clip, whose frames are images.

    Attributes:
        files: where the rows are now.
        starts: ``(len(files) + 1,)``: where each file's inputs begin below.
        names, identities: ``(n,)`` int64, see `identify`.
        images: ``(n,)`` int32, images of that input.
        statuses: ``(images.sum(),)`` uint8, an index into `STATUSES`.
        faces: ``(n,)`` int32, embeddings of that input.
        stretches: those inputs that are stretches of clips, by their place.
    """

    files: list[Path]
    starts: npt.NDArray[np.int64]
    names: npt.NDArray[np.int64]
    identities: npt.NDArray[np.int64]
    images: npt.NDArray[np.int32]
    statuses: npt.NDArray[np.uint8]
    faces: npt.NDArray[np.int32]
    stretches: dict[int, StretchRows]

    @classmethod
    def scan(cls, files: Sequence[Path]) -> Done:
        """Look through shards; of each input, 33 bytes are kept.

        Raises:
            ValueError: if a file is no shard.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        codes = pa.array([status.value for status in STATUSES])
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        stretches: dict[int, StretchRows] = {}
        starts = [0]
        for path in files:
            try:
                table = pq.read_table(path, columns=_SEEN, partitioning=None)
                inputs = _Inputs(table)
            except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
                raise ValueError(f"{path} is not a shard of this job: {error}") from None
            stretches |= {starts[-1] + place: one for place, one in inputs.stretches.items()}
            starts.append(starts[-1] + len(inputs.first))
            parts.append(
                (
                    *identify(inputs.keys(table)),
                    inputs.sums(inputs.is_image),
                    pc.index_in(table.filter(pa.array(inputs.is_image))["status"], value_set=codes)
                    .to_numpy()
                    .astype(np.uint8),
                    inputs.sums(table["face_index"].to_numpy() >= 0),
                )
            )
        dtypes = (np.int64, np.int64, np.int32, np.uint8, np.int32)
        columns = zip(*parts) if parts else ([] for _ in dtypes)
        names, identities, images, statuses, faces = (
            np.concatenate([np.empty(0, dtype), *column]) for dtype, column in zip(dtypes, columns)
        )
        return cls(
            list(files),
            np.array(starts, np.int64),
            names,
            identities,
            images,
            statuses,
            faces,
            stretches,
        )

    def __len__(self) -> int:
        return len(self.names)

    def statuses_of(self, inputs: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Return the statuses of the images of some inputs."""
        some = np.zeros(len(self), bool)
        some[inputs] = True
        statuses: npt.NDArray[np.uint8] = self.statuses[np.repeat(some, self.images)]
        return statuses

    def failed(self, statuses: Sequence[Status]) -> npt.NDArray[np.bool_]:
        """Tell of each input whether an image of it has one of some statuses."""
        codes = [STATUSES.index(status) for status in statuses]
        inputs = np.repeat(np.arange(len(self)), self.images)
        failed = np.zeros(len(self), bool)
        failed[inputs[np.isin(self.statuses, codes)]] = True
        return failed

    def read(self, indices: npt.NDArray[np.int64]) -> pa.Table:
        """The rows of some inputs, in that order, each with its place in `indices`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = []
        where = np.searchsorted(self.starts, indices, side="right") - 1
        for file in np.unique(where).tolist():
            table = pq.read_table(self.files[file], partitioning=None)
            wanted = np.flatnonzero(where == file)
            found = _Inputs(table)
            inputs = indices[wanted] - self.starts[file]
            ranges = [np.arange(found.first[i], found.first[i] + found.counts[i]) for i in inputs]
            places = pa.array(np.repeat(wanted, found.counts[inputs]))
            taken = table.take(pa.array(np.concatenate(ranges)))
            tables.append(taken.add_column(0, INDEX, places))
        return in_order(tables)


class _Inputs:
    """Which rows of a shard are of which input.

    Attributes:
        first, counts: ``(n,)`` int64: each input's first row, and how many it has.
        is_image: ``(rows,)`` bool: face 0 of an image, or its row without a face (-1).
        stretches: those inputs that are stretches of clips, by their place.
    """

    def __init__(self, table: pa.Table) -> None:
        text = (table.schema.metadata or {}).get(_STRETCHES.encode(), b"[]")
        listed = [StretchRows(*values) for values in json.loads(text)]
        self.is_image = table["face_index"].to_numpy() <= 0
        alone = self.is_image.copy()
        for one in listed:
            alone[one.row : one.row + one.rows] = False
        photographs = np.flatnonzero(alone)
        first = np.concatenate([[one.row for one in listed], photographs]).astype(np.int64)
        # Before the input that begins at a row come those without any.
        empty = np.array([one.rows == 0 for one in listed] + [False] * len(photographs), bool)
        order = np.argsort(2 * first - empty, kind="stable")
        self.first = first[order]
        self.counts = np.diff(self.first, append=len(table))
        places = np.flatnonzero(order < len(listed)).tolist()
        self.stretches = {place: listed[order[place]] for place in places}

    def keys(self, table: pa.Table) -> list[tuple[object, ...]]:
        """Return the key of each input, see `identify`."""
        import pyarrow as pa

        keys: list[tuple[object, ...]] = [()] * len(self.first)
        if len(table):
            rows = np.minimum(self.first, len(table) - 1)  # a stretch without a row may be the last
            columns = table.select(["path", "file_size", "mtime_ns"]).take(pa.array(rows))
            keys = list(zip(*(column.to_pylist() for column in columns.columns)))
        for place, stretch in self.stretches.items():
            keys[place] = tuple(stretch.key)
        return keys

    def sums(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
        """Count the rows of each input that have a flag."""
        total = np.concatenate([[0], np.cumsum(flags)])
        sums = total[self.first + self.counts] - total[self.first]
        return np.asarray(sums, np.int32)


def in_order(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables as one, sorted by `INDEX`; rows with the same one keep their order."""
    import pyarrow as pa

    table = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    order = np.argsort(table[INDEX].to_numpy(), kind="stable")
    # One chunk a column first: to take rows out of hundreds of small ones is slow.
    return table.combine_chunks().take(pa.array(order))
