"""List the images in a folder and its subfolders, recognised by file name or content."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._utils.names import printable

if TYPE_CHECKING:
    import numpy.typing as npt

EXTENSIONS = frozenset(
    ".avif .bmp .dib .gif .heic .heif .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm "
    ".tga .tif .tiff .webp".split()
)
"""What counts as a picture in a folder, in any case of letters."""

# What a file begins with; a dot stands for any byte.
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]|BM....\0\0\0\0"
    rb"|P[1-7]\s+[#\dW]|P[Ff]\s+\d|\0\0\0\x0c(?:jP  |JXL )\r\n|\xff\x4f\xff\x51|\xff\x0a"
    rb"|....ftyp(?:avi[fs]|he[iv][cfmsx]|mif1|msf1)",
    re.DOTALL,
)
# Not looked into: their own formats, though some hold pictures (a raw file's is a thumbnail).
_NO_PICTURES = frozenset(
    ".3fr .arw .bak .cr2 .cr3 .csv .dng .doc .docx .gz .html .ini .json .jsonl .md .mat .mp3 "
    ".nef .npy .npz .nrw .orf .parquet .pdf .pef .pkl .psd .py .raf .rar .rw2 .safetensors .sr2 "
    ".srw .svg .tar .tsv .txt .wav .xml .xmp .yaml .yml .zip".split()
)


def list_images(
    folder: str | os.PathLike[str],
    extensions: Container[str] = EXTENSIONS,
    passed_over: Callable[[str], None] = lambda _: None,
) -> Iterator[str]:
    """List the images in a folder and below it: relative paths, sorted.

    A file with another extension or none is a picture if it begins like one. Names that begin
    with a dot are not looked at, and links to folders are not followed. A folder below that
    can't be read is left out with a warning.

    Args:
        folder: where to look.
        extensions: of what counts as a picture by its name.
        passed_over: called with the path of every file that is none.

    Raises:
        OSError: if the folder itself can't be read.
    """
    waiting = [""]
    while waiting:
        below = waiting.pop()
        pictures = _SortedNames()
        folders = []
        try:
            with os.scandir(os.path.join(folder, below)) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        if not entry.is_symlink():
                            folders.append(entry.name)
                    elif _is_picture(entry, extensions):
                        pictures.add(entry.name)
                    else:
                        passed_over(os.path.join(below, entry.name))
        except OSError as error:
            if not below:
                raise
            warnings.warn(
                f"left out, can't be read: {printable(str(error.filename))} ({error.strerror})",
                stacklevel=2,
            )
        yield from (os.path.join(below, name) for name in pictures)
        waiting += [os.path.join(below, name) for name in sorted(folders, reverse=True)]


def looks_like_picture(beginning: bytes) -> bool:
    """Recognise an image file by its first bytes; 32 are enough."""
    return _BEGINNINGS.match(beginning) is not None


def _is_picture(entry: os.DirEntry[str], extensions: Container[str]) -> bool:
    extension = os.path.splitext(entry.name)[1].lower()
    if extension in extensions:
        return True
    if extension in _NO_PICTURES:
        return False
    try:
        # Only a file: to open a pipe would wait for its other end.
        if not entry.is_file():
            return False
        with open(entry.path, "rb") as file:
            return looks_like_picture(file.read(32))
    except OSError:
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


class _SortedNames:
    """Sorted names of one folder, packed to 20 to 40 bytes each: there may be millions."""

    def __init__(self) -> None:
        self._packed: list[npt.NDArray[np.bytes_]] = []
        self._new: list[bytes] = []

    def add(self, name: str) -> None:
        self._new.append(os.fsencode(name))
        if len(self._new) == 65536:
            self._pack()

    def __iter__(self) -> Iterator[str]:
        self._pack()
        names = np.concatenate(self._packed)
        self._packed.clear()
        names.sort()
        for name in names:
            yield os.fsdecode(name)

    def _pack(self) -> None:
        self._packed.append(np.array(self._new, np.bytes_))
        self._new.clear()
