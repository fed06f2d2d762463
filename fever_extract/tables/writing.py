"""Write a table as one file, in the format given by its extension."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from fever_extract._utils.files import exclusive, replace_atomically
from fever_extract.tables.csv import CsvWriter, beside
from fever_extract.tables.npz import NpzWriter
from fever_extract.tables.parquet import ParquetWriter, check_parquet
from fever_extract.tables.schema import EXTENSIONS, Columns


class Writer(Protocol):
    """One output file being written."""

    def write(self, columns: Columns) -> None:
        """Append rows."""

    def finish(self) -> None:
        """All rows are there; not called if the job failed."""

    def close(self) -> None:
        """Let go of the file, whatever happened."""


def _writer(suffix: str, path: Path, metadata: str) -> Writer:
    if suffix == ".parquet":
        return ParquetWriter(path, metadata)
    return NpzWriter(path, metadata) if suffix == ".npz" else CsvWriter(path, metadata)


@contextmanager
def open_table(path: Path, metadata: Mapping[str, object]) -> Iterator[Writer]:
    """Write a table that appears at ``path`` when it is whole; see `check_output` first.

    Raises:
        OSError: at once, if another run writes it.
    """
    with exclusive(path):
        yield from _open_table(path, metadata)


def _open_table(path: Path, metadata: Mapping[str, object]) -> Iterator[Writer]:
    with replace_atomically(path) as temporary:
        writer = _writer(path.suffix.lower(), temporary, json.dumps(metadata))
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
        if path.suffix.lower() == ".csv":
            beside(path).unlink(missing_ok=True)
    if path.suffix.lower() == ".csv":
        # csv has no place for metadata: it lies beside the table, and never beside another.
        with replace_atomically(beside(path)) as temporary:
            temporary.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _is_ours(path: Path) -> bool:
    """Whether a file is the metadata of a table, or there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "weights_sha256" in found


def is_shard_folder(output: str | os.PathLike[str]) -> bool:
    """Whether an output is a folder for shards rather than one table."""
    text = os.fspath(output)
    return text.endswith(("/", os.sep)) or os.path.isdir(text) or not os.path.splitext(text)[1]


def check_output(path: Path) -> None:
    """Refuse an output that can't be written, before any work is done.

    Raises:
        ValueError: if the extension is not known, the path is a folder, or the file beside a csv
            table, for its metadata, is another's.
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
    if path.suffix.lower() == ".csv" and not _is_ours(beside(path)):
        raise ValueError(
            f"output {path}: its settings go to {beside(path).name}, and a file of that name "
            "is there that is not of this package; move it, or give another name"
        )
    if path.suffix.lower() == ".parquet":
        check_parquet(otherwise="or write .npz or .csv")
