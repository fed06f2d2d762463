"""List of a job's inputs, kept on disk and read in slices: there may be millions."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from fever_extract._utils.names import printable, redact
from fever_extract.jobs.sources import Input
from fever_extract.records import Status
from fever_extract.tables.shards import identify
from fever_extract.video.stretch import Stretch

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

_BATCH = 10_000
_HIDDEN = "hidden://\0"  # no path and no address begins so


class Listing:
    """Inputs in order, kept in an Arrow file; 24 bytes each in memory.

    Args:
        path: the file, which is replaced.
        inputs: what to write to it.

    Attributes:
        names, identities: ``(n,)`` int64, see `fever_extract.tables.shards.identify`.
        numbers: ``(n,)`` int32: of a clip's stretch, which it is, from 0; of a photograph, -1.
        rows: ``(n,)`` int32: 1, or how many frames a stretch has, about.
        sha256: of all names, sizes and times, in hexadecimal.
    """

    def __init__(self, path: Path, inputs: Iterable[Input]) -> None:
        import pyarrow as pa

        digest = hashlib.sha256()
        names, identities = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        numbers, rows = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        self._secrets: dict[str, int] = {}
        path.unlink(missing_ok=True)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            pa.OSFile(os.fspath(path), "wb") as file,
            pa.ipc.new_file(file, _schema(), options=options) as writer,
        ):
            for batch in _batches(inputs):
                keys = [item.key for item in batch]
                stretches = [item.stretch for item in batch]
                numbers.append(
                    np.array([-1 if s is None else s.number for s in stretches], np.int32)
                )
                rows.append(np.array([1 if s is None else s.frames for s in stretches], np.int32))
                hashed = identify(keys)
                names.append(hashed[0])
                identities.append(hashed[1])
                digest.update(repr(keys).encode())
                writer.write_batch(to_arrow(list(map(self._hide, batch))))
        self.names, self.identities = np.concatenate(names), np.concatenate(identities)
        self.numbers, self.rows = np.concatenate(numbers), np.concatenate(rows)
        self.sha256 = digest.hexdigest()
        self._file = pa.ipc.open_file(pa.memory_map(os.fspath(path)))
        self._loaded: tuple[int, pa.RecordBatch] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def read(self, indices: npt.NDArray[np.int64]) -> list[Input]:
        """Read some inputs; fastest for rising indices that are close together."""
        inputs: list[Input] = []
        for batch, first in _runs(indices):
            if self._loaded is None or self._loaded[0] != batch:
                self._loaded = batch, self._file.get_batch(batch)
            inputs += from_arrow(self._loaded[1].take(indices[first] - batch * _BATCH))
        return list(map(self._reveal, inputs)) if self._secrets else inputs

    def _hide(self, item: Input) -> Input:
        """Replace the secrets in an input's address, which must not be written to disk."""
        if redact(item.path) == item.path:
            return item
        parts = urlsplit(item.path)
        secrets = urlunsplit(parts._replace(path=""))
        number = self._secrets.setdefault(secrets, len(self._secrets))
        return dataclasses.replace(item, path=f"{_HIDDEN}{number} {parts.path}")

    def _reveal(self, item: Input) -> Input:
        if not item.path.startswith(_HIDDEN):
            return item
        number, path = item.path.removeprefix(_HIDDEN).split(" ", 1)
        parts = urlsplit(list(self._secrets)[int(number)])
        return dataclasses.replace(item, path=urlunsplit(parts._replace(path=path)))


def _runs(indices: npt.NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Split indices into runs within one batch."""
    batches = indices // _BATCH
    starts = np.flatnonzero(np.diff(batches, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(indices)]):
        yield int(batches[start]), slice(start, stop)


def _batches(inputs: Iterable[Input]) -> Iterator[list[Input]]:
    iterator = iter(inputs)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        {
            "name": pa.binary(),
            "path": pa.binary(),
            "offset": pa.int64(),
            "size": pa.int64(),
            "mtime_ns": pa.int64(),
            "problem": pa.string(),
            "status": pa.string(),
            "stretch": pa.struct(
                {
                    "start": pa.float64(),
                    "end": pa.float64(),
                    "number": pa.int32(),
                    "last": pa.bool_(),
                    "frames": pa.int32(),
                }
            ),
        }
    )


def to_arrow(inputs: list[Input]) -> pa.RecordBatch:
    """Convert inputs to rows; names and paths are binary, as they may be any bytes."""
    import pyarrow as pa

    columns = [
        [os.fsencode(item.name) for item in inputs],
        [os.fsencode(item.path) for item in inputs],
        [item.offset for item in inputs],
        [item.size for item in inputs],
        [item.mtime_ns for item in inputs],
        [printable(item.problem) for item in inputs],
        [item.status.value for item in inputs],
        [None if item.stretch is None else dataclasses.asdict(item.stretch) for item in inputs],
    ]
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, _schema())],
        schema=_schema(),
    )


def from_arrow(rows: pa.RecordBatch | pa.Table) -> list[Input]:
    """Convert rows of `to_arrow` back to inputs; other columns are ignored."""
    columns = (rows[name].to_pylist() for name in _schema().names)
    return [
        Input(
            os.fsdecode(name),
            os.fsdecode(path),
            offset,
            size,
            time,
            problem,
            Status(status),
            None if stretch is None else Stretch(**stretch),
        )
        for name, path, offset, size, time, problem, status, stretch in zip(*columns)
    ]
