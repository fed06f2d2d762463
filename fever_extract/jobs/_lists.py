"""Read lists of paths: text, CSV, Parquet.

Every line is a path, and an empty one is an empty path, so that row *i* of the table stays line
*i* of the list. Only blank lines at the end of a list are none.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO

from fever_extract._utils.extras import require
from fever_extract._utils.names import from_text
from fever_extract.folders import EXTENSIONS

LISTS = (".txt", ".lst", ".list", ".csv", ".tsv", ".parquet")
"""The extensions of a list."""

_COLUMN = "path"
_BLOCK = 1 << 20
_DELIMITERS = ",;\t|"
_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read(path: str) -> Iterator[str]:
    """Yield the paths of a list file; its extension gives the format.

    Raises:
        OSError, ValueError, ImportError: if it can't be read as one, saying what was found.
    """
    extension = os.path.splitext(path)[1].lower()
    with _named(path):
        if extension in (".csv", ".tsv"):
            yield from _csv_column(path, "," if extension == ".csv" else "\t")
        elif extension == ".parquet":
            yield from _parquet_column(path)
        else:
            with open(path, "rb") as file:
                yield from lines(file)


def lines(file: BinaryIO) -> Iterator[str]:
    """Yield paths, one per line; or separated by NUL, if there is one."""
    return _without_blank_end(os.fsdecode(line) if line.strip() else None for line in _lines(file))


def clean(path: str) -> str:
    """Strip blanks and quotes from a path."""
    path = path.strip()
    if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'":
        path = path[1:-1]
    return path


def _lines(file: BinaryIO) -> Iterator[bytes]:
    separator, rest = b"", b""
    for block in _blocks(file):
        if not separator:
            separator = _separator(block)
        *whole, rest = (rest + block).split(separator)
        yield from (line.removesuffix(b"\r") for line in whole) if separator == b"\n" else whole
    yield rest.removesuffix(b"\r") if separator == b"\n" else rest


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content in blocks of UTF-8, whatever Unicode encoding it is in."""
    block = file.read(_BLOCK)
    encoding = _encoding(block)
    if encoding == "utf-8-sig":
        block = block.removeprefix(codecs.BOM_UTF8)
        while block:
            yield block
            block = file.read(_BLOCK)
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    while block:
        yield decoder.decode(block).encode("utf-8", "surrogatepass")
        block = file.read(_BLOCK)
    decoder.decode(b"", final=True)


def _encoding(beginning: bytes) -> str:
    """Detect the encoding by its byte order mark.

    Raises:
        ValueError: if it is UTF-16 without a mark.
    """
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    start = beginning[: 2 * (len(beginning[:64]) // 2)][:64]
    if len(start) > 3 and b"\0" in start and not (any(start[::2]) and any(start[1::2])):
        raise ValueError("UTF-16 without a mark in front was found; save it as UTF-8")
    return "utf-8-sig"


def _separator(block: bytes) -> bytes:
    if b"\0" in block:
        return b"\0"
    return b"\r" if b"\r" in block and b"\n" not in block else b"\n"


def _csv_column(path: str, delimiter: str) -> Iterator[str]:
    with open(path, "rb") as binary:
        encoding = _encoding(binary.read(64))
    # Odd bytes are names' own.
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    with open(path, newline="", encoding=encoding, errors=errors) as file:
        first = file.readline()
        if said := re.fullmatch(r"sep=(.)\s*", first):  # as Excel has it
            delimiter, first = str(said[1]), file.readline()
        else:
            delimiter = _delimiter(first, delimiter)
        rows = csv.reader(chain([first] if first else [], file), delimiter=delimiter)
        yield from _without_blank_end(_column(rows))


def _delimiter(header: str, usual: str) -> str:
    """Choose the delimiter that yields a column ``path``, or else the usual one if plausible."""
    delimiters: list[str] = [usual, *_DELIMITERS]
    for delimiter in delimiters:
        if _index(next(csv.reader([header], delimiter=delimiter), [])) is not None:
            return delimiter
    if usual in header or _is_picture(header.strip()):
        return usual
    counts = {delimiter: header.count(delimiter) for delimiter in _DELIMITERS}
    return max(counts, key=counts.__getitem__)


def _column(rows: Iterator[list[str]]) -> Iterator[str | None]:
    header = next(rows, [])
    index = _index(header)
    if index is None:
        if len(header) > 1:
            raise ValueError(f"it has no column {_COLUMN!r}, but {', '.join(header)}")
        index = 0
        if header and _is_picture(clean(from_text(header[0]))):  # there is no header
            yield from_text(header[0])
    for row in rows:
        if row:
            yield from_text(row[index]) if len(row) > index else ""
        else:
            yield None


def _index(header: list[str]) -> int | None:
    """Find the index of the column ``path``, ignoring case if need be."""
    for names in (header, [clean(name).lower() for name in header]):
        if _COLUMN in names:
            return names.index(_COLUMN)
    return None


def _parquet_column(path: str) -> Iterator[str]:
    require("pyarrow", extra="parquet", needed_by=path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        index = 0 if len(names) == 1 else _index(names)
        if index is None:
            raise ValueError(f"it has no column {_COLUMN!r}, but {', '.join(names)}")
        dtype = file.schema_arrow.types[index]
        dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
        is_text = pa.types.is_string(dtype) or pa.types.is_large_string(dtype)
        if not is_text and not pa.types.is_binary(dtype) and not pa.types.is_null(dtype):
            raise ValueError(f"its column {names[index]!r} holds {dtype}, and not paths")
        for batch in file.iter_batches(columns=[names[index]]):
            for value in batch[0].to_pylist():
                yield os.fsdecode(value) if isinstance(value, bytes) else from_text(value or "")


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _without_blank_end(paths: Iterable[str | None]) -> Iterator[str]:
    """Yield paths, dropping blank lines (None) at the end; those before are empty paths."""
    blank = 0
    for path in paths:
        if path is None:
            blank += 1
            continue
        yield from [""] * blank
        blank = 0
        yield path


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Add the list's name to errors."""
    try:
        yield
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} can't be read as a list: {error}") from None
