"""Tables of faces on disk: Parquet, npz or csv, chosen by the file's extension.

The columns are the same in each:

========================  ==========================================================
path                      relative to the folder, or as it was given; odd bytes in it as in
                          `fever_extract.names`
time                      of a clip's frame, in seconds; NaN for a photograph
status, error             what became of the image; error is empty if it is ok
face_index                0 for the image's first face; -1 for an image without one
track                     in a clip, which face it is from frame to frame; -1 for none
detected                  false where the whole picture was taken as the face
box                       x1, y1, x2, y2 in pixels of the upright picture
score                     the detector's confidence, 0 to 1
landmarks                 x, y of left eye, right eye, nose, left and right mouth corner
face_size                 side of a square as large as the box, in pixels
expression, probability   the most probable expression, and how probable it is
expressions               how probable each expression is; their names are in the metadata
embedding                 the vector
========================  ==========================================================

Numbers that don't exist are NaN. Parquet and npz keep box, landmarks, expressions and
embedding as one column each; csv numbers them (``embedding_0`` and so on). Weights
without a head for expressions leave ``expressions`` out.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fever_extract.files import replace_atomically
from fever_extract.names import to_text
from fever_extract.records import Face, Record

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from fever_extract.config import Config

EXTENSIONS = (".parquet", ".npz", ".csv")
METADATA_KEY = "fever_extract"
"""Where Parquet's schema metadata and the npz file keep the metadata, as JSON."""
NO_CROPS = "crops are saved beside one table: give a .parquet, .npz or .csv file as output"


@dataclass(frozen=True)
class Widths:
    """Numbers in a row of the columns whose length depends on the weights.

    Attributes:
        embedding: length of a vector.
        expressions: how many the weights tell apart; 0 leaves the column out.
    """

    embedding: int
    expressions: int = 0

    @classmethod
    def of(cls, config: Config) -> Widths:
        """Those of weights."""
        return cls(config.embedding_dim, len(config.expressions))


@dataclass(frozen=True)
class Columns:
    """Some rows of a table, by column.

    Texts are lists of str; numbers are arrays whose first axis is the row: ``box``
    ``(n, 4)``, ``landmarks`` ``(n, 10)``, ``expressions`` ``(n, classes)``, ``embedding``
    ``(n, d)``, all float32; ``time`` ``(n,)`` float64.
    """

    values: dict[str, list[str] | npt.NDArray[Any]]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Record]], widths: Widths) -> Columns:
        """A row per face of each (path, record), or one row if it has no face."""
        flat: list[tuple[str, Record, int, Face | None]] = []
        for path, record in rows:
            flat += [(path, record, index, face) for index, face in enumerate(record.faces)]
            if not record.faces:
                flat.append((path, record, -1, None))
        faces = [face for *_, face in flat]

        def numbers(width: int, values: list[Any]) -> npt.NDArray[np.float32]:
            rows = np.full((len(flat), width), np.nan, np.float32)
            for row, value in zip(rows, values):
                if value is not None:
                    row[:] = value
            return rows

        expressions = {}
        if widths.expressions:
            found = [(face and list(face.expressions.values())) or None for face in faces]
            expressions["expressions"] = numbers(widths.expressions, found)
        return cls(
            {
                "path": [to_text(path) for path, *_ in flat],
                "time": np.array([getattr(record, "time", np.nan) for _, record, *_ in flat]),
                "status": [record.status.value for _, record, *_ in flat],
                "error": [printable(record.error or "") for _, record, *_ in flat],
                "face_index": np.array([index for *_, index, _ in flat], np.int32),
                "track": np.array(
                    [-1 if face is None or face.track is None else face.track for face in faces],
                    np.int32,
                ),
                "detected": np.array([face is not None and face.detected for face in faces], bool),
                "box": numbers(4, [face and face.box for face in faces]),
                "score": numbers(1, [face and face.score for face in faces])[:, 0],
                "landmarks": numbers(10, [face and face.landmarks.reshape(-1) for face in faces]),
                "face_size": numbers(1, [face and face.size for face in faces])[:, 0],
                "expression": [(face and face.expression) or "" for face in faces],
                "probability": numbers(1, [face and face.probability for face in faces])[:, 0],
                **expressions,
                "embedding": numbers(widths.embedding, [face and face.vector for face in faces]),
            }
        )


def printable(text: str) -> str:
    """A message that may quote a name that is not UTF-8; its odd bytes become ``\\xNN``."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


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


class _Writer(ABC):
    """One output file being written."""

    @abstractmethod
    def __init__(self, path: Path, metadata: str) -> None: ...

    @abstractmethod
    def write(self, columns: Columns) -> None:
        """Append rows."""

    def finish(self) -> None:  # noqa: B027
        """All rows are there; not called if the job failed."""

    def close(self) -> None:  # noqa: B027
        """Let go of the file, whatever happened."""


@contextmanager
def open_table(path: Path, metadata: Mapping[str, object]) -> Iterator[_Writer]:
    """Write a table that appears at ``path`` when it is whole; see `check_output` first."""
    with replace_atomically(path) as temporary:
        temporary.touch()  # what can't be written fails here, not after the work
        writer: _Writer = _WRITERS[path.suffix.lower()](temporary, json.dumps(metadata))
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
        if path.suffix.lower() == ".csv":
            path.with_name(path.name + ".json").unlink(missing_ok=True)
    if path.suffix.lower() == ".csv":
        # csv has no place for metadata: it lies beside the table, and never beside another.
        with replace_atomically(path.with_name(path.name + ".json")) as temporary:
            temporary.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def is_shard_folder(output: str | os.PathLike[str]) -> bool:
    """Whether an output is a folder for shards rather than one table."""
    text = os.fspath(output)
    return text.endswith(("/", os.sep)) or os.path.isdir(text) or not os.path.splitext(text)[1]


def check_output(path: Path) -> None:
    """Refuse an output that can't be written, before any work is done.

    Raises:
        ValueError: if the extension is not known, or the path is a folder.
        FileNotFoundError: if its folder does not exist.
        ImportError: if the package that writes it is missing.
    """
    if path.suffix.lower() not in EXTENSIONS:
        raise ValueError(
            f"output {path}: the name must end in one of {', '.join(EXTENSIONS)}, or in / for a "
            "folder of shards"
        )
    if path.is_dir():
        raise ValueError(f"output {path} is a folder; give a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"output {path}: the folder {path.parent} does not exist")
    if path.suffix.lower() == ".parquet":
        check_parquet("or write .npz or .csv")


def check_parquet(otherwise: str = "") -> None:
    """Refuse to begin without pyarrow.

    Args:
        otherwise: what else the user may do.

    Raises:
        ImportError: if it is missing.
    """
    if importlib.util.find_spec("pyarrow") is None:
        install = "Parquet needs pyarrow: pip install 'fever-extract[parquet]'"
        raise ImportError(f"{install}, {otherwise}" if otherwise else install)


class _ParquetWriter(_Writer):
    """Row groups as they come, so that memory doesn't grow with the folder."""

    def __init__(self, path: Path, metadata: str) -> None:
        self._path, self._metadata = path, metadata
        self._writer: Any = None
        self._file: IO[bytes] | None = None

    def write(self, columns: Columns) -> None:
        import pyarrow.parquet as pq

        table = to_arrow(columns).replace_schema_metadata({METADATA_KEY: self._metadata})
        if self._writer is None:
            # pyarrow itself takes no name that is not UTF-8.
            self._file = open(self._path, "wb")  # noqa: SIM115
            self._writer = pq.ParquetWriter(self._file, table.schema, compression="zstd")
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._file is not None:
            self._file.close()


class _NpzWriter(_Writer):
    """All rows in memory until the end: the format can't be appended to."""

    def __init__(self, path: Path, metadata: str) -> None:
        self._path, self._metadata = path, metadata
        self._parts: list[Columns] = []

    def write(self, columns: Columns) -> None:
        self._parts.append(columns)

    def finish(self) -> None:
        arrays: dict[str, Any] = {
            name: np.concatenate([np.asarray(part.values[name]) for part in self._parts])
            for name in self._parts[0].values
        }
        arrays["landmarks"] = arrays["landmarks"].reshape(-1, 5, 2)
        arrays[METADATA_KEY] = np.array(self._metadata)
        with open(self._path, "wb") as file:
            np.savez_compressed(file, **arrays)


class _CsvWriter(_Writer):
    """Lines as they come."""

    def __init__(self, path: Path, metadata: str) -> None:
        del metadata  # in a file of its own
        self._file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._csv = csv.writer(self._file)
        self._header = True

    def write(self, columns: Columns) -> None:
        names: list[str] = []
        cells: list[list[Any]] = []
        for name, values in columns.values.items():
            if isinstance(values, np.ndarray) and values.ndim == 2:
                names += [f"{name}_{index}" for index in range(values.shape[1])]
                cells += values.T.tolist()
            else:
                names.append(name)
                cells.append(list(values))
        if self._header:
            self._csv.writerow(names)
            self._header = False
        self._csv.writerows(zip(*cells))

    def close(self) -> None:
        self._file.close()


_WRITERS: dict[str, type[_Writer]] = {
    ".parquet": _ParquetWriter,
    ".npz": _NpzWriter,
    ".csv": _CsvWriter,
}
