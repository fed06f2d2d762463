"""What a job is given (folders, lists, archives, globs) as one stream of inputs.

Nothing here holds all names at once: a job may have many millions.
"""

from __future__ import annotations

import codecs
import csv
import fnmatch
import glob
import os
import stat
import sys
import tarfile
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import BinaryIO

from fever_extract.images import EXTENSIONS, list_images
from fever_extract.jobs import _remote as remote
from fever_extract.tables.names import from_text

STDIN = "-"
_COLUMN = "path"
_LISTS = (".txt", ".lst", ".list", ".csv", ".tsv", ".parquet")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_BLOCK = 1 << 20

Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One source, or several of them: see `find`."""


class NoImagesError(ValueError):
    """There is nothing to work on."""


@dataclass(frozen=True, slots=True)
class Input:
    """One image to be read.

    Attributes:
        name: what its row is called; names that are not UTF-8 as `os.fsdecode` gives them.
        path: the file, or the tar archive that it is in, or an address such as ``s3://b/k``.
        offset: where it begins in the archive, in bytes; -1 if it is a file of its own.
        size: in bytes; -1 if there is no such file (or it was not asked for).
        mtime_ns: when the file (or archive) was changed, in ns since 1970; -1 as above.
    """

    name: str
    path: str
    offset: int = -1
    size: int = -1
    mtime_ns: int = -1

    def load(self) -> str | bytes:
        """What `fever_extract.images.read` takes: a path, or the encoded bytes.

        Raises:
            OSError: if an archive or a remote file can't be read.
        """
        if self.offset >= 0:
            with open(self.path, "rb") as archive:
                archive.seek(self.offset)
                return archive.read(self.size)
        return remote.read(self.path) if remote.is_remote(self.path) else self.path


def find(sources: Sources, extensions: Container[str] = EXTENSIONS) -> Iterator[Input]:
    """Every image of the sources, in their order; a folder's in sorted order.

    Args:
        sources: each a folder (with all folders below it), an image, a glob, a tar archive
            (as WebDataset writes them; not compressed), a list of paths (``.txt`` with one
            a line, or separated by NUL as ``find -print0`` does; ``.csv``, ``.tsv`` or
            ``.parquet`` with a column ``path``), ``-`` for a list on standard input, or an
            address that pyarrow reads (``s3://``, ``gs://``, ``hdfs://``, ``file://``).
        extensions: of the files that are taken from a folder.

    Of a single folder or archive, names are relative to it; those of several begin with
    the source. Paths in a list are relative to the working directory.

    Raises:
        OSError, ValueError: at once, for a source that does not exist or can't be used.
    """
    listed = as_list(sources)
    for source in listed:
        check(source)
    return (
        found
        for source in listed
        for found in _of(source, "" if len(listed) == 1 else source, extensions)
    )


def as_list(sources: Sources) -> list[str]:
    """The sources as texts."""
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    return [os.fspath(source) for source in sources]


def check(source: str) -> None:
    """Refuse a source that can't be used, before any work.

    Raises:
        OSError, ValueError: saying why.
    """
    if source == STDIN or remote.is_remote(source):
        return
    if source.lower().endswith(_COMPRESSED):
        raise ValueError(
            f"{source} is compressed, so that its images can't be reached one by one; unpack it, "
            "or decompress it to a plain .tar"
        )
    if not os.path.exists(source) and not glob.has_magic(source):
        raise FileNotFoundError(f"{source} does not exist; give a folder of images, or one image")


def describe_nothing(sources: Sources) -> NoImagesError:
    """The error for sources in which no image was found."""
    return NoImagesError(
        f"no images in {', '.join(as_list(sources))} (looked in all folders below it for .jpg, "
        ".png, .webp, .bmp, .tiff and the like)"
    )


def _of(source: str, prefix: str, extensions: Container[str]) -> Iterator[Input]:
    if source == STDIN:
        yield from _files(_lines(sys.stdin.buffer))
    elif remote.is_remote(source):
        for name, path, size, mtime_ns in remote.walk(source):
            yield Input(os.path.join(prefix, name), path, -1, size, mtime_ns)
    elif os.path.isdir(source):
        for name in list_images(source, extensions):
            yield _file(os.path.join(prefix, name), os.path.join(source, name))
    elif not os.path.exists(source):
        yield from _globbed(source)
    elif source.lower().endswith(".tar"):
        yield from _members(source, prefix)
    elif source.lower().endswith(_LISTS) or stat.S_ISFIFO(os.stat(source).st_mode):
        yield from _files(_listed(source))
    else:
        yield _file(source if prefix else os.path.basename(source), source)


def _file(name: str, path: str) -> Input:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # it will be told of when its turn comes
        return Input(name, path)
    return Input(name, path, -1, found.st_size, found.st_mtime_ns)


def _files(paths: Iterable[str]) -> Iterator[Input]:
    for path in paths:
        # A remote file is not asked about: that would be a request for each of millions.
        yield Input(path, path) if remote.is_remote(path) else _file(path, path)


def _listed(path: str) -> Iterator[str]:
    extension = os.path.splitext(path)[1].lower()
    if extension in (".csv", ".tsv"):
        yield from _csv_column(path, "," if extension == ".csv" else "\t")
    elif extension == ".parquet":
        yield from _parquet_column(path)
    else:
        with open(path, "rb") as file:
            yield from _lines(file)


def _lines(file: BinaryIO) -> Iterator[str]:
    """Paths, one a line; or separated by NUL, if there is one."""
    separator, rest = b"", b""
    block = file.read(_BLOCK).removeprefix(codecs.BOM_UTF8)  # as Windows' tools begin a file
    while block:
        if not separator:
            separator = b"\0" if b"\0" in block else b"\n"
        *lines, rest = (rest + block).split(separator)
        for line in lines:
            yield from _line(line)
        block = file.read(_BLOCK)
    yield from _line(rest)


def _line(line: bytes) -> Iterator[str]:
    line = line.removesuffix(b"\r")
    if line.strip():
        yield os.fsdecode(line)


def _csv_column(path: str, delimiter: str) -> Iterator[str]:
    # utf-8-sig: spreadsheets put a byte order mark in front.
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        rows = csv.reader(file, delimiter=delimiter)
        header = next(rows, [])
        if _COLUMN in header:
            index = header.index(_COLUMN)
        elif len(header) > 1:
            raise ValueError(f"{path} has no column {_COLUMN!r}, but {', '.join(header)}")
        else:
            index = 0
            if header and _is_picture(from_text(header[0])):  # there is no header
                yield from_text(header[0])
        for row in rows:
            if len(row) > index and row[index]:
                yield from_text(row[index])


def _parquet_column(path: str) -> Iterator[str]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError(f"{path} needs pyarrow: pip install 'fever-extract[parquet]'") from None

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if _COLUMN not in names and len(names) > 1:
            raise ValueError(f"{path} has no column {_COLUMN!r}, but {', '.join(names)}")
        column = _COLUMN if _COLUMN in names else names[0]
        for batch in file.iter_batches(columns=[column]):
            yield from (from_text(str(value)) for value in batch[0].to_pylist() if value)


def _members(path: str, prefix: str) -> Iterator[Input]:
    """The pictures in a tar archive, in its order; a damaged one is an input itself, to be told."""
    mtime_ns = os.stat(path).st_mtime_ns
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            # Not `for member in archive`: that keeps all members in memory.
            for member in iter(archive.next, None):
                archive.members = []  # type: ignore[attr-defined]
                if member.isreg() and _is_picture(member.name):
                    name = os.path.join(prefix, member.name)
                    yield Input(name, path, member.offset_data, member.size, mtime_ns)
            # tarfile takes damage for the end, which has a mark of its own.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it has no end")
    except tarfile.TarError as error:
        warnings.warn(f"{path} is not a whole tar archive ({error})", stacklevel=2)
        yield _file(path, path)


def _is_picture(name: str) -> bool:
    base = os.path.basename(name)
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in EXTENSIONS


def _globbed(pattern: str) -> Iterator[Input]:
    """Pictures and tar archives that match: ``*`` within a name, ``**`` any folders."""
    parts = pattern.replace(os.sep, "/").split("/")
    fixed = list(takewhile(lambda part: not glob.has_magic(part), parts))
    root = "/".join(fixed) + ("/" if fixed else "")
    if os.path.isdir(root or "."):
        for name in list_images(root or ".", EXTENSIONS | {".tar"}):
            if _matches(name.replace(os.sep, "/").split("/"), parts[len(fixed) :]):
                path = root + name
                yield from _members(path, path) if path.endswith(".tar") else [_file(path, path)]


def _matches(names: list[str], patterns: list[str]) -> bool:
    if not names or not patterns:
        return not names and not patterns
    if patterns[0] == "**":
        return len(patterns) == 1 or any(
            _matches(names[start:], patterns[1:]) for start in range(len(names))
        )
    return fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
