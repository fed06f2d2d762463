"""List a job's inputs from folders, lists, archives, globs and addresses, as one stream.

Nothing here holds all names at once: a job may have many millions.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import BinaryIO

from fever_extract._utils import hints
from fever_extract._utils.names import printable, redact, to_text
from fever_extract.folders import EXTENSIONS, list_images, looks_like_picture
from fever_extract.jobs import _archives as archives
from fever_extract.jobs import _lists as lists
from fever_extract.jobs import _remote as remote
from fever_extract.records import ExtractionError, Status, describe_passed_over
from fever_extract.video.stretch import Stretch

STDIN = "-"
_NAMED = 1000
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_ARCHIVES = (".zip", ".7z", ".rar")

Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One source, or several of them: see `find`."""

PassOver = Callable[[str], None]
"""Told of each file that is no picture."""


class NoImagesError(ValueError):
    """The sources hold no image."""


@dataclass
class PassedOver:
    """Count the files that are not images, and keep the first names.

    Attributes:
        count: how many there are.
        names: of the first 1000, as rows are called.
    """

    count: int = 0
    names: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.count += 1
        if self.count <= _NAMED:
            self.names.append(to_text(name))


@dataclass(frozen=True, slots=True)
class Input:
    """One image to be read: a file, a member of an archive, or an address.

    Attributes:
        name: what its row is called; names that are not UTF-8 as `os.fsdecode` gives them. An
            address is redacted.
        path: the file, or the tar archive that it is in, or an address such as ``s3://b/k``.
        offset: where its header begins in the archive, in bytes; -1 if it is a file of its own.
        size: in bytes; -1 if there is no such file (or it was not asked for).
        mtime_ns: when the file (or archive) was changed, in ns since 1970; -1 as above.
        problem: why it can't be read, if that is known already.
        status: what its row says then.
        stretch: of a clip, which part of it this is.
    """

    name: str
    path: str
    offset: int = -1
    size: int = -1
    mtime_ns: int = -1
    problem: str = ""
    status: Status = Status.NOT_FOUND
    stretch: Stretch | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What its rows are known by: the name, the file's size and time, and the stretch."""
        key = to_text(self.name), self.size, self.mtime_ns
        return key if self.stretch is None else (*key, self.stretch.start, self.stretch.end)

    def open(self) -> str | BinaryIO:
        """Return what `fever_extract.video.decoding.Clip` takes: a path, or an open remote file.

        Raises:
            ExtractionError: if a remote file can't be opened.
        """
        if not remote.is_remote(self.path):
            return self.path
        try:
            file: BinaryIO = remote.open_file(self.path)
            return file
        except Exception as error:  # a remote file system may raise anything
            reason = f"{self.path} can't be read: {error or type(error).__name__}"
            raise ExtractionError(Status.NOT_FOUND, reason) from None

    def load(self) -> str | bytes:
        """Load what `fever_extract.images.read` takes: a path, or the encoded bytes.

        Raises:
            ExtractionError: if it is known that it can't be read.
            OSError: if an archive or a remote file can't be read.
        """
        if self.problem:
            raise ExtractionError(self.status, self.problem)
        if self.offset >= 0:
            return archives.read(self.path, self.offset)
        return remote.read(self.path) if remote.is_remote(self.path) else self.path

    def load_or_error(self) -> str | bytes | ExtractionError:
        """Load what the pipeline takes: a path, bytes, or the reason why there are none."""
        try:
            return self.load()
        except ExtractionError as error:
            return error
        except Exception as error:  # a remote file system may raise anything
            reason = f"{self.path} can't be read: {error or type(error).__name__}"
            return ExtractionError(Status.NOT_FOUND, reason)


def find(
    sources: Sources,
    extensions: frozenset[str] = EXTENSIONS,
    passed_over: PassOver = lambda _: None,
) -> Iterator[Input]:
    """Yield every image of the sources, in order; a folder is sorted.

    Args:
        sources: each a folder (with all folders below it), an image, a glob, a tar archive
            (as WebDataset writes them; not compressed), a list of paths (``.txt`` with one
            a line, or separated by NUL as ``find -print0`` does; ``.csv``, ``.tsv`` or
            ``.parquet`` with a column ``path``), ``-`` for a list on
            standard input, or an address that pyarrow reads (``s3://``, ``gs://``, ``hdfs://``,
            ``file://``).
        extensions: of the files that are taken from a folder; others are if they begin like a
            picture.
        passed_over: called with the name of each file in a folder or archive that is none.

    Of a single folder or archive, names are relative to it; those of several begin with
    the source. Paths in a list are relative to the working directory.

    Raises:
        OSError, ValueError: at once, for a source that does not exist or can't be used.
    """
    listed = as_list(sources)
    for source in listed:
        check(source)
    return (
        item
        for source in listed
        for item in _of(source, "" if len(listed) == 1 else source, extensions, passed_over)
    )


def as_list(sources: Sources) -> list[str]:
    """Convert sources to a list of strings."""
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    hints.check_collection(sources)
    return [os.fspath(source) for source in sources]


def check(source: str) -> None:
    """Refuse a source that can't be used, before any work.

    Raises:
        OSError, ValueError: saying why.
    """
    if source == STDIN:
        return
    if remote.is_remote(source):
        remote.check(source)
        return
    if source.lower().endswith(_COMPRESSED):
        raise ValueError(
            f"{source} is compressed, so that its images can't be reached one by one; unpack it, "
            "or decompress it to a plain .tar"
        )
    if source.lower().endswith(_ARCHIVES) and not os.path.isdir(source):
        raise ValueError(
            f"{source} is an archive; unpack it and give its folder, or make it a .tar"
        )
    if not os.path.exists(source) and not glob.has_magic(source):
        raise FileNotFoundError(f"{source} does not exist; give a folder of images, or one image")


def describe_nothing(
    sources: Sources, passed_over: PassedOver | None = None, what: str = "images"
) -> NoImagesError:
    """Make the error for sources without an image, or without a clip."""
    others = passed_over and describe_passed_over(passed_over.count, passed_over.names)
    listed = as_list(sources)
    where = f"no {what} in {', '.join(listed)}"
    if all(os.path.isfile(source) for source in listed):  # lists and archives
        return NoImagesError(f"{where}{others or ''}")
    endings = ".mp4, .mov, .mkv" if what == "clips" else ".jpg, .png, .webp, .bmp, .tiff"
    return NoImagesError(
        f"{where} (looked in all folders below it for {endings} and the like{others or ''})"
    )


def _of(
    source: str, prefix: str, extensions: frozenset[str], passed_over: PassOver
) -> Iterator[Input]:
    def tell(name: str) -> None:
        passed_over(os.path.join(prefix, name))

    if source == STDIN:
        yield from _listed(lists.lines(_standard_input()))
    elif remote.is_remote(source):
        for name, path, size, mtime_ns in remote.walk(source, extensions, tell):
            yield Input(redact(os.path.join(prefix, name)), path, -1, size, mtime_ns)
    elif os.path.isdir(source):
        for name in list_images(source, extensions, tell):
            yield _file(os.path.join(prefix, name), os.path.join(source, name))
    elif not os.path.exists(source):
        yield from _globbed(source, extensions, passed_over)
    elif source.lower().endswith(".tar"):
        yield from _members(source, prefix, passed_over)
    elif source.lower().endswith(lists.LISTS) or stat.S_ISFIFO(os.stat(source).st_mode):
        yield from _listed(lists.read(source))
    else:
        yield _file(source if prefix else os.path.basename(source), source)


def _standard_input() -> BinaryIO:
    try:
        return sys.stdin.buffer
    except (AttributeError, ValueError):  # closed before Python began, or since
        raise ValueError("standard input is closed, so that there is no list to read") from None


def _file(name: str, path: str) -> Input:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # reported when the image is read
        return Input(name, path)
    return Input(name, path, -1, status.st_size, status.st_mtime_ns)


def _listed(paths: Iterable[str]) -> Iterator[Input]:
    for path in paths:
        if not path.strip():
            yield Input("", "", problem="the list has no path in this place")
        elif remote.is_remote(path):
            # It is not asked about: that would be a request for each of millions.
            yield Input(redact(lists.clean(path)), lists.clean(path))
        else:
            item = _file(path, path)
            if item.mtime_ns < 0 and (plain := lists.clean(path)) != path:
                # Blanks and quotes may be the name's own, but mostly are the list's.
                item = _file(plain, plain) if os.path.lexists(plain) else item
            yield item


def _members(path: str, prefix: str, passed_over: PassOver) -> Iterator[Input]:
    """Yield the images of a tar archive; a damaged archive is an input itself, to be reported."""
    try:
        mtime_ns = os.stat(path).st_mtime_ns
        for member in archives.members(path):
            name = f"{prefix}/{member.name}" if prefix else member.name
            base = os.path.basename(member.name)
            if base.startswith("."):
                continue
            if not _is_picture(base) and not looks_like_picture(member.beginning):
                passed_over(name)
            elif member.problem:
                yield Input(name, path, mtime_ns=mtime_ns, problem=member.problem)
            else:
                yield Input(name, path, member.offset, member.size, mtime_ns)
    except (archives.DamagedError, OSError) as error:
        problem = f"it is not a whole tar archive: {error}"
        if isinstance(error, OSError):
            problem = f"it can't be read: {error.strerror or error}"
        warnings.warn(printable(f"{path}: {problem}"), stacklevel=2)
        status = Status.NOT_FOUND if isinstance(error, OSError) else Status.DECODE_ERROR
        yield dataclasses.replace(_file(path, path), problem=problem, status=status)


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _globbed(pattern: str, extensions: frozenset[str], passed_over: PassOver) -> Iterator[Input]:
    """Yield matching images and tar archives: ``*`` within a name, ``**`` any folders."""

    def matches(name: str) -> bool:
        return _matches(name.replace(os.sep, "/").split("/"), parts[len(fixed) :])

    def tell(name: str) -> None:
        if matches(name):
            passed_over(root + name)

    parts = pattern.replace(os.sep, "/").split("/")
    fixed = list(takewhile(lambda part: not glob.has_magic(part), parts))
    root = "/".join(fixed) + ("/" if fixed else "")
    if os.path.isdir(root or "."):
        for name in list_images(root or ".", extensions | {".tar"}, tell):
            if matches(name):
                path = root + name
                if path.lower().endswith(".tar"):
                    yield from _members(path, path, passed_over)
                else:
                    yield _file(path, path)


def _matches(names: list[str], patterns: list[str]) -> bool:
    if not names or not patterns:
        return not names and not patterns
    if patterns[0] == "**":
        return len(patterns) == 1 or any(
            _matches(names[start:], patterns[1:]) for start in range(len(names))
        )
    return fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
