"""Read and list images on remote file systems: S3, Google Cloud, HDFS (by pyarrow)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from fever_extract._utils.extras import require
from fever_extract._utils.names import redact
from fever_extract.folders import EXTENSIONS

_WEB = ("http", "https", "ftp", "ftps", "sftp")  # a server does not list its files


def is_remote(path: str) -> bool:
    """Tell an address such as ``s3://bucket/photo.jpg`` from a path."""
    return "://" in path


def check(address: str) -> None:
    """Refuse an address that no file system has, without asking the network.

    Raises:
        ValueError: saying what to do instead.
    """
    scheme = urlsplit(address).scheme
    if scheme.lower() in _WEB:
        raise ValueError(_advice(scheme))


def open_file(address: str) -> Any:
    """Open a file for reading at any place.

    Raises:
        OSError: if it can't be read.
    """
    filesystem, path = _locate(address)
    return filesystem.open_input_file(path)


def read(address: str) -> bytes:
    """Read a file.

    Raises:
        OSError, ValueError: if it can't be read.
    """
    with open_file(address) as file:
        return bytes(file.read())


def walk(
    address: str,
    extensions: frozenset[str] = EXTENSIONS,
    passed_over: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[str, str, int, int]]:
    """List the images below an address by their extensions, sorted per folder.

    Args:
        address: of a file or a folder.
        extensions: of what is taken.
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
        entries = filesystem.get_file_info(fs.FileSelector(folder))
        folders = []
        for info in sorted(entries, key=lambda info: info.base_name):
            name = f"{below}/{info.base_name}".lstrip("/")
            if info.base_name.startswith("."):
                continue
            if not info.is_file:
                folders.append(name)
            elif os.path.splitext(info.base_name)[1].lower() in extensions:
                yield name, _below(address, name), info.size, info.mtime_ns or -1
            else:
                passed_over(name)
        waiting += reversed(folders)


def _below(address: str, name: str) -> str:
    """Join a name to an address, keeping its query (``?region=...``)."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def _locate(address: str) -> tuple[Any, str]:
    parts = urlsplit(address)
    filesystem, base = _filesystem(parts.scheme, parts.netloc, parts.query)
    return filesystem, base.rstrip("/") + unquote(parts.path)


def _advice(scheme: str) -> str:
    return (
        f"{scheme}:// addresses can't be read, only those of s3://, gs://, hdfs:// and file://; "
        "download the images and give their folder"
    )


@lru_cache(maxsize=16)
def _filesystem(scheme: str, place: str, query: str) -> tuple[Any, str]:
    """Open a file system; cached, as some ask the network where a bucket is."""
    if scheme in ("s3", "gs") and not place:
        raise ValueError(f"{scheme}:// names no bucket: write {scheme}://BUCKET/FOLDER")
    require("pyarrow", extra="parquet", needed_by=redact(f"{scheme}://{place}"))
    import pyarrow as pa
    from pyarrow import fs

    try:
        filesystem, path = fs.FileSystem.from_uri(
            f"{scheme}://{place}/" + (f"?{query}" if query else "")
        )
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem" not in str(error):
            raise
        raise ValueError(_advice(scheme)) from None
    return filesystem, str(path)
