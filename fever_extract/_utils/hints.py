"""One-line advice for inputs that are not images: archives, URLs, base64, data frames."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from fever_extract._utils.names import shortened

# Columns that probably hold the images, best first.
_LIKELY = ("image", "images", "path", "paths", "file", "filename", "file_name", "filepath", "img")
_PICTURES = tuple(".jpg .jpeg .png .webp .bmp .gif .tif .tiff .heic .heif .avif".split())
_LONGEST_PATH = 4096  # bytes: what Linux takes at most

_ARCHIVE = "unpack it and give its folder to extract_folder"
_BASE64 = "base64 text; pass base64.b64decode(text), of what follows a comma"
# How base64 of data: URLs, JPEG, PNG, GIF and WebP begins.
_ENCODED = (b"data:", b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR")
_CLIP = "a clip; extract_video takes those"
_MAGIC = (
    (b"PK\x03\x04", f"a zip archive; {_ARCHIVE}"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_ARCHIVE}"),
    (b"Rar!", f"a rar archive; {_ARCHIVE}"),
    (b"\x1f\x8b", f"compressed by gzip; {_ARCHIVE}"),
    (b"BZh", f"compressed by bzip2; {_ARCHIVE}"),
    (b"\xfd7zXZ", f"compressed by xz; {_ARCHIVE}"),
    (b"\x28\xb5\x2f\xfd", f"compressed by zstd; {_ARCHIVE}"),
    (b"\x1aE\xdf\xa3", _CLIP),
    (b"\x00\x00\x01\xba", _CLIP),
    (b"FLV\x01", _CLIP),
    (b"%PDF", "a PDF; render its pages to pictures first"),
    (b"\x93NUMPY", "a NumPy file; pass numpy.load(path)"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file; run `git lfs pull`"),
    (b"<svg", "an SVG drawing; render it first"),
    (b"<!DOCTYPE", "a web page and no image"),
    (b"<!doctype", "a web page and no image"),
    (b"<html", "a web page and no image"),
    *((magic, _BASE64) for magic in _ENCODED),
)
_BY_ATTRIBUTE = (
    ("read", "; pass what its read() returns"),
    ("as_py", "; pass column.to_pylist()"),
    ("detach", "; pass tensor.permute(1, 2, 0).byte().cpu().numpy() of values from 0 to 255"),
)
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
HEAD = 512
"""Bytes of a file that `of_content` looks at."""


def check_collection(inputs: object) -> None:
    """Refuse tables, mappings and sets, whose iteration yields columns, keys or an arbitrary order.

    Raises:
        TypeError: saying what to pass instead.
    """
    name = type(inputs).__name__
    if isinstance(inputs, AbstractSet) and not isinstance(inputs, Mapping):
        if hasattr(inputs, "mapping"):  # a dict's keys or items are ordered
            return
        raise TypeError(f"a {name} has no order, so that no row has its image; pass a list")
    if isinstance(inputs, np.ndarray) and inputs.dtype.names is None:
        if inputs.dtype.kind == "S":
            raise TypeError(
                f"got an array of bytes (dtype {inputs.dtype}); for paths pass array.astype(str)"
            )
        if inputs.dtype.kind in "OUT" and inputs.ndim != 1:
            raise TypeError(
                f"got an array of shape {inputs.shape}, dtype {inputs.dtype}; for a list of images "
                "pass array.ravel()"
            )
        return
    columns = _columns(inputs)
    if columns is None:
        return
    what = "keys" if isinstance(inputs, Mapping) else "columns"
    likely = [name for name in _LIKELY if name in columns] or columns[:1]
    shown = ", ".join(repr(name) for name in columns[:10]) + (", ..." if len(columns) > 10 else "")
    example = f", such as x[{likely[0]!r}]" if likely else ""
    raise TypeError(
        f"got a {name} with the {what} {shown or '(none)'}, and no list of images; pass the one "
        f"that holds the images{example}"
    )


def _columns(inputs: Any) -> list[Any] | None:
    """List a table's column names or a mapping's keys; None for anything else."""
    if isinstance(inputs, Mapping):
        return list(inputs)
    if isinstance(inputs, np.ndarray):
        return list(inputs.dtype.names or ())
    if isinstance(inputs, (str, bytes, os.PathLike, list, tuple)):
        return None
    if hasattr(inputs, "collect_schema"):  # polars, whose lazy tables warn when asked for columns
        return list(inputs.collect_schema().names())
    # pandas and most others; pyarrow and datasets; astropy.
    for attribute in ("columns", "column_names", "colnames"):
        names = getattr(type(inputs), attribute, None) and getattr(inputs, attribute)
        if names is not None:
            names = names() if callable(names) else names
            # pyarrow's batches have the columns themselves here.
            texts = isinstance(names, Iterable) and all(isinstance(name, str) for name in names)
            if texts or not hasattr(inputs, "column_names"):
                return list(names)
    return None


def of_object(image: object) -> str:
    """Advise what to pass in place of an object of the wrong type; empty if unknown."""
    if isinstance(image, (bytearray, memoryview)):
        return "; pass bytes(...) of it"
    if isinstance(image, Mapping):
        return "; pass the value that holds the image"
    if isinstance(image, float) and math.isnan(image):
        return " (NaN: a missing value?)"
    return next((hint for name, hint in _BY_ATTRIBUTE if hasattr(image, name)), "")


def of_path(text: str) -> str | None:
    """Explain a string that is not an image's path, and what to do; None if unknown."""
    if not text:
        return "an empty text is no path"
    start = text.lstrip()[:HEAD].encode("utf-8", "replace")
    scheme, is_address, _ = text.partition("://")
    hint = None
    if start.startswith(_ENCODED):
        hint = f"{shortened(text, 40)} is {of_content(start)}"
    elif "\0" in text:
        hint = "a path has no NUL character in it; for a file's content pass bytes"
    elif len(os.fsencode(text)) > _LONGEST_PATH:
        hint = (
            f"a text of {len(text)} characters is no path; for base64 pass base64.b64decode(text)"
        )
    elif is_address and scheme.isalnum():
        # Not quoted: an address may hold a password.
        hint = f"an address ({scheme}://) is no path; download it and pass the path or the bytes"
    elif any(sign in text for sign in "*?["):
        hint = f"{shortened(text)} does not exist; globs are for extract_folder, or glob.glob(...)"
    elif text.startswith("~"):
        hint = f"{shortened(text)} does not exist; for a home folder pass os.path.expanduser(...)"
    return hint


def of_content(head: bytes, *, is_file: bool = True) -> str | None:
    """Explain a file that is not an image by its first bytes, and what to do; None if unknown.

    Args:
        head: its first `HEAD` bytes.
        is_file: False for bytes that were given themselves, which may be a path.
    """
    stripped = head.lstrip(b" \t\r\n\xef\xbb\xbf")
    hint = next((hint for magic, hint in _MAGIC if stripped.startswith(magic)), None)
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in _HEIC:
            hint = "HEIC, which needs pillow-heif, registered with Pillow"
        else:
            hint = "AVIF, which this Pillow can't read" if brand in (b"avif", b"avis") else _CLIP
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        hint = _CLIP
    elif head[257:262] == b"ustar":
        hint = "a tar archive; extract_folder takes those"
    elif hint is None and not is_file and head.isascii() and b"\0" not in head:
        text = os.fsdecode(head)
        if text.lower().endswith(_PICTURES) or os.path.exists(text):
            hint = "a path as bytes; pass os.fsdecode(path)"
    return hint
