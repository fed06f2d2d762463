"""Images on any file system that pyarrow reads: S3, Google Cloud, HDFS and so on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from fever_extract._utils.names import redact
from fever_extract.images import EXTENSIONS


def is_remote(path: str) -> bool:
    """Whether this is an address such as ``s3://bucket/photo.jpg`` rather than a path."""
    return "://" in path


def read(address: str) -> bytes:
    """The content of a file.

    Raises:
        OSError: if it can't be read.
    """
    filesystem, path = _locate(address)
    with filesystem.open_input_file(path) as file:
        return bytes(file.read())


def walk(
    address: str, passed_over: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[str, str, int, int]]:
    """The pictures below an address by their extensions, sorted per folder.

    Args:
        address: of a file or a folder.
        passed_over: called with the name of every other file.

    Yields:
        (name relative to the address, its own address, size in bytes, mtime in ns).

    Raises:
        FileNotFoundError: if there is nothing.
    """
    from pyarrow import fs

    filesystem, root = _locate(address)
    info = filesystem.get_file_info(root)
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"{redact(address)} does not exist")
    if info.is_file:
        yield info.base_name, address, info.size, info.mtime_ns or -1
        return
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folder = f"{root.rstrip('/')}/{below}".rstrip("/") or "/"
        found = filesystem.get_file_info(fs.FileSelector(folder))
        folders = []
        for info in sorted(found, key=lambda info: info.base_name):
            name = f"{below}/{info.base_name}".lstrip("/")
            if info.base_name.startswith("."):
                continue
            if not info.is_file:
                folders.append(name)
            elif os.path.splitext(info.base_name)[1].lower() in EXTENSIONS:
                yield name, _below(address, name), info.size, info.mtime_ns or -1
            else:
                passed_over(name)
        waiting += reversed(folders)


def _below(address: str, name: str) -> str:
    """The address of what lies below another, which may say how to reach it (``?region=...``)."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def _locate(address: str) -> tuple[Any, str]:
    parts = urlsplit(address)
    filesystem, base = _filesystem(parts.scheme, parts.netloc, parts.query)
    return filesystem, base.rstrip("/") + unquote(parts.path)


@lru_cache(maxsize=16)
def _filesystem(scheme: str, place: str, query: str) -> tuple[Any, str]:
    """Made once, not per file: some ask the network where a bucket is."""
    try:
        from pyarrow import fs
    except ImportError:
        raise ImportError(
            f"{redact(f'{scheme}://{place}')} needs pyarrow: pip install 'fever-extract[parquet]'"
        ) from None
    found = fs.FileSystem.from_uri(f"{scheme}://{place}/" + (f"?{query}" if query else ""))
    return found[0], str(found[1])
