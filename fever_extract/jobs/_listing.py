"""The inputs of a job on disk: written once while they are found, then read in slices."""

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

from fever_extract._utils.names import printable, redact, to_text
from fever_extract.jobs.sources import Input
from fever_extract.records import Status

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

_BATCH = 10_000
_HIDDEN = "hidden://\0"  # no path and no address begins so


class Listing:
    """Inputs in their order, kept in an Arrow file; in memory, 16 bytes for each.

    Args:
        path: the file, which is replaced.
        inputs: what to write to it.

    Attributes:
        names: ``(n,)`` int64, a hash of each input's name.
        identities: ``(n,)`` int64, a hash of its name, size and time. Both are Python's own
            hashes, which differ from process to process.
        sha256: of all names, sizes and times, in hexadecimal.
    """

    def __init__(self, path: Path, inputs: Iterable[Input]) -> None:
        import pyarrow as pa

        digest = hashlib.sha256()
        names, identities = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        self._secrets: dict[str, int] = {}
        path.unlink(missing_ok=True)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            pa.OSFile(os.fspath(path), "wb") as file,
            pa.ipc.new_file(file, _schema(), options=options) as writer,
        ):
            for batch in _batches(inputs):
                keys = [(to_text(one.name), one.size, one.mtime_ns) for one in batch]
                names.append(np.array([hash(key[0]) for key in keys], np.int64))
                identities.append(np.array([hash(key) for key in keys], np.int64))
                digest.update(repr(keys).encode())
                writer.write_batch(to_arrow(list(map(self._hide, batch))))
        self.names, self.identities = np.concatenate(names), np.concatenate(identities)
        self.sha256 = digest.hexdigest()
        self._file = pa.ipc.open_file(pa.memory_map(os.fspath(path)))
        self._loaded: tuple[int, pa.RecordBatch] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def read(self, indices: npt.NDArray[np.int64]) -> list[Input]:
        """Some of the inputs; quickest where the indices are near each other and rise."""
        found: list[Input] = []
        for batch, first in _runs(indices):
            if self._loaded is None or self._loaded[0] != batch:
                self._loaded = batch, self._file.get_batch(batch)
            found += from_arrow(self._loaded[1].take(indices[first] - batch * _BATCH))
        return list(map(self._reveal, found)) if self._secrets else found

    def _hide(self, one: Input) -> Input:
        """An input whose address has no secrets, which don't belong on a disk."""
        if redact(one.path) == one.path:
            return one
        parts = urlsplit(one.path)
        secrets = urlunsplit(parts._replace(path=""))
        number = self._secrets.setdefault(secrets, len(self._secrets))
        return dataclasses.replace(one, path=f"{_HIDDEN}{number} {parts.path}")

    def _reveal(self, one: Input) -> Input:
        if not one.path.startswith(_HIDDEN):
            return one
        number, path = one.path.removeprefix(_HIDDEN).split(" ", 1)
        parts = urlsplit(list(self._secrets)[int(number)])
        return dataclasses.replace(one, path=urlunsplit(parts._replace(path=path)))


def _runs(indices: npt.NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Where the indices go on to another batch."""
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
        }
    )


def to_arrow(inputs: list[Input]) -> pa.RecordBatch:
    """A row an input; names and paths are binary, as they may be any bytes."""
    import pyarrow as pa

    columns = [
        [os.fsencode(one.name) for one in inputs],
        [os.fsencode(one.path) for one in inputs],
        [one.offset for one in inputs],
        [one.size for one in inputs],
        [one.mtime_ns for one in inputs],
        [printable(one.problem) for one in inputs],
        [one.status.value for one in inputs],
    ]
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, _schema())],
        schema=_schema(),
    )


def from_arrow(rows: pa.RecordBatch | pa.Table) -> list[Input]:
    """The inputs of `to_arrow`; other columns are passed over."""
    columns = (rows[name].to_pylist() for name in _schema().names)
    return [
        Input(os.fsdecode(name), os.fsdecode(path), offset, size, time, problem, Status(status))
        for name, path, offset, size, time, problem, status in zip(*columns)
    ]
