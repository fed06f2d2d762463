"""Read tar archives: the offset of each member, links resolved, damage reported."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

MAX_SPARSE = 1 << 30
"""Bytes of a sparse member at most: a small archive may hold one of any size."""

_DEPTH = 40  # links that lead to links: as many as Linux follows


class DamagedError(ValueError):
    """Not a complete tar archive; the message says why."""


@dataclass(frozen=True)
class Member:
    """A member that is not a folder.

    Attributes:
        name: as it stands in the archive; odd bytes as `os.fsdecode` gives them.
        offset: where the header of its content begins, in bytes; a link's is its target's.
        size: in bytes.
        beginning: its first bytes.
        problem: why it has no content; empty if it has.
    """

    name: str
    offset: int = -1
    size: int = -1
    beginning: bytes = b""
    problem: str = ""


def members(path: str) -> Iterator[Member]:
    """Yield the members of an archive in order, duplicates included.

    Hard and symbolic links have the content of the member that they lead to.

    Raises:
        DamagedError: after the last member that can be read.
        OSError: if it can't be opened.
    """
    links: _Links | None = None
    for info, file in _headers(path):
        if info.issym() or info.islnk():
            links = links or _Links(path)
            target = links.target(info)
            if isinstance(target, str):
                yield Member(info.name, problem=target)
                continue
            yield _member(info.name, target, file)
        elif info.isreg():
            yield _member(info.name, info, file)
        elif not info.isdir():
            yield Member(info.name, problem="it is a device, a pipe or the like, and no file")


def read(path: str, offset: int) -> bytes:
    """Read the content of a member, by `Member.offset`.

    Raises:
        OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                info = archive.next()
                content = info and archive.extractfile(info)
                data = content.read() if content else b""
        except tarfile.TarError as error:
            raise OSError(f"the archive has changed since it was listed: {error}") from None
    if info is None or len(data) != info.size:
        raise OSError("the archive has changed since it was listed")
    return data


def _headers(path: str) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """Yield every header, with the archive's file."""
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                end = -1
                # Not `for member in archive`: that keeps all members in memory.
                while (info := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]
                    if info.size < 0 or archive.offset <= end:
                        raise DamagedError(f"{info.name} has a size of {info.size} bytes")
                    size = info.pax_headers.get("size", "0")
                    if not size.isdecimal():  # tarfile takes it for 0
                        raise DamagedError(
                            f"{info.name} has a size of {size!r}, which is no number"
                        )
                    if archive.offset >= length + tarfile.BLOCKSIZE:
                        raise DamagedError(f"{info.name} is cut short")
                    end = archive.offset
                    yield info, file
                # tarfile takes damage for the end, which has a mark of its own.
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise DamagedError("it has no end")
        except DamagedError:
            raise
        except Exception as error:
            # tarfile raises nearly anything on a damaged header.
            raise DamagedError(str(error) or type(error).__name__) from error


def _member(name: str, info: tarfile.TarInfo, file: BinaryIO) -> Member:
    if info.issparse():
        parts: list[tuple[int, int]] = getattr(info, "sparse", None) or []
        if info.size > MAX_SPARSE or any(number < 0 for part in parts for number in part):
            return Member(name, problem=f"it is sparse and {info.size} bytes long")
        return Member(name, info.offset, info.size)
    place = file.tell()
    file.seek(info.offset_data)
    beginning = file.read(min(info.size, 64))
    file.seek(place)
    return Member(name, info.offset, info.size, beginning)


class _Links:
    """Resolve an archive's links; only links and their targets are kept in memory."""

    def __init__(self, path: str) -> None:
        self._links: dict[str, str] = {}
        with suppress(DamagedError):
            for info, _ in _headers(path):
                if info.issym() or info.islnk():
                    self._links[_plain(info.name)] = _target(info)
        targets = set(map(self._follow, self._links.values()))
        self._files: dict[str | None, list[tarfile.TarInfo]] = {}
        with suppress(DamagedError):
            for info, _ in _headers(path):
                if info.isreg() and _plain(info.name) in targets:
                    self._files.setdefault(_plain(info.name), []).append(info)

    def target(self, link: tarfile.TarInfo) -> tarfile.TarInfo | str:
        """Resolve a link to its file, or say why it has none."""
        name = self._follow(_target(link))
        if name is None:
            return "it is a link that leads to itself"
        files = self._files.get(name)
        if not files:
            return f"it is a link to {link.linkname}, which is no file of the archive"
        # As when the archive is unpacked, where a later member replaces one of its name.
        before = [file for file in files if link.islnk() and file.offset < link.offset]
        return (before or files)[-1]

    def _follow(self, name: str) -> str | None:
        """Resolve all links in a name, those of its folders too."""
        for _ in range(_DEPTH):
            parts = name.split("/")
            heads = ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
            head = next((head for head in heads if head in self._links), None)
            if head is None:
                return name
            name = posixpath.normpath(self._links[head] + name[len(head) :])
        return None


def _plain(name: str) -> str:
    return posixpath.normpath(name.lstrip("/"))


def _target(link: tarfile.TarInfo) -> str:
    """Return a link's target, as a name from the archive's root."""
    if link.islnk() or link.linkname.startswith("/"):
        return _plain(link.linkname)
    return posixpath.normpath(posixpath.join(posixpath.dirname(_plain(link.name)), link.linkname))
