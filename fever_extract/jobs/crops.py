"""Aligned faces as pictures on disk: what the network sees, large enough to look at."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import warnings
from collections import Counter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from PIL import Image

from fever_extract import images
from fever_extract._utils.files import remove_dead, replace_atomically
from fever_extract._utils.names import printable, to_text
from fever_extract.records import ExtractionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from fever_extract.jobs.sources import Input
    from fever_extract.models.config import Preprocessing
    from fever_extract.records import Face, Record

SIZE = 224
"""Side of a saved crop, in pixels; the framing is the network's, the size is for people."""

_LONGEST = 200  # bytes of a file's name: most file systems take 255
_LONGEST_PATH = 2000  # most take 4096, with the folder in front
_TOLD = 10
_LIKE_A_CROP = re.compile(r"\.(\d+(?:-\d+)?\.jpg)$", re.IGNORECASE)


def crop_path(path: str, face_index: int, repeated: int = 1) -> PurePath:
    """Where a row's crop lies in the folder of crops: ``a/b.jpg``, face 0, in ``a/b.jpg.0.jpg``.

    Args:
        path: as in the table.
        face_index: as in the table.
        repeated: 2 for the second input of that name, and so on: ``a/b.jpg.0-2.jpg``.

    Returns:
        A relative path that never leaves its folder, another for every row: a leading ``/``
        becomes ``%2F``, ``..`` becomes ``%2E%2E``, ``%`` becomes ``%25``, NUL ``%00``; a folder
        that is named like a crop gets ``%2E`` for its dot; a name that is too long is cut, and
        its SHA-256 follows.
    """
    pure = PurePath(path)
    parts = [part.replace("%", "%25") for part in pure.relative_to(pure.anchor).parts]
    parts = [part.replace("\0", "%00") for part in parts]
    parts = ["%2E%2E" if part == ".." else part for part in parts] or ["%2E"]
    if pure.anchor:
        outside = pure.anchor.replace("%", "%25")
        for sign, code in (("/", "%2F"), ("\\", "%5C"), (":", "%3A")):
            outside = outside.replace(sign, code)
        parts[0] = outside + parts[0]
    if sum(len(os.fsencode(part)) + 1 for part in parts) > _LONGEST_PATH:
        parts = [_shortened("%2F".join(parts))]
    *folders, name = parts
    folders = [_LIKE_A_CROP.sub(r"%2E\1", folder) for folder in map(_shortened, folders)]
    number = str(face_index) if repeated == 1 else f"{face_index}-{repeated}"
    return PurePath(*folders, f"{_shortened(name)}.{number}.jpg")


class Crops:
    """Saves the faces of photographs as JPEGs of 224x224 pixels, at `crop_path`.

    Each photograph is read a second time, so that pictures need not be kept for those who want
    no crops. A crop that can't be written is a warning, and no more.

    Args:
        folder: made if it does not exist.
        preprocessing: of the weights; gives the framing.

    Attributes:
        failed: photographs whose crops could not be written.
    """

    def __init__(self, folder: Path, preprocessing: Preprocessing) -> None:
        self._folder = folder
        self._framing = dataclasses.replace(preprocessing, size=SIZE)
        self._times: Counter[PurePath] = Counter()
        self._cleaned: set[Path] = set()
        self.failed = 0

    def save(self, one: Input, record: Record) -> None:
        """Write each face of an input; to be called for all inputs, in the order of the table."""
        name = to_text(one.name)
        place = crop_path(name, 0)
        self._times[place] += 1
        if not record.faces:
            return
        try:
            pixels = images.read(one.load())
            for index, face in enumerate(record.faces):
                self._write(crop_path(name, index, self._times[place]), pixels, face)
        except (ExtractionError, OSError, ValueError) as error:
            self.failed += 1
            if self.failed <= _TOLD:
                reason = printable(str(error))
                warnings.warn(f"no crop of '{printable(name)}': {reason}", stacklevel=2)

    def close(self) -> None:
        """Say how many there were that were not told of one by one."""
        if self.failed > _TOLD:
            warnings.warn(f"no crop of {self.failed - _TOLD} more photographs", stacklevel=2)

    def _write(self, place: PurePath, pixels: npt.NDArray[np.uint8], face: Face) -> None:
        from fever_extract import alignment  # it imports torch

        if face.detected:
            crop = alignment.align(pixels, face.landmarks[None], self._framing)[0]
        else:
            crop = alignment.whole(pixels, self._framing)[0]
        picture = Image.fromarray(crop.round().clamp(0, 255).byte().permute(1, 2, 0).numpy())
        output = self._folder / place
        if output.parent not in self._cleaned:
            output.parent.mkdir(parents=True, exist_ok=True)
            remove_dead(output.parent)
            self._cleaned.add(output.parent)
        with replace_atomically(output, inside=True) as temporary:
            picture.save(temporary, "JPEG", quality=95)


def check_folder(folder: str | os.PathLike[str], sources: Iterable[str]) -> Path:
    """Refuse a folder of crops that can't be used, before any work is done.

    Raises:
        ValueError: if it is a file, or lies among the photographs, where the next run would
            take crops for photographs.
    """
    crops = Path(folder)
    if crops.exists() and not crops.is_dir():
        raise ValueError(f"crops: {crops} is a file; give a folder")
    for root in map(Path, sources):
        if root.is_dir() and crops.resolve().is_relative_to(root.resolve()):
            raise ValueError(
                f"crops: {crops} lies in {root}, whose pictures are extracted; give a folder "
                "elsewhere"
            )
    return crops


def _shortened(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST:
        return name
    digest = hashlib.sha256(encoded).hexdigest()
    return encoded[: _LONGEST - len(digest) - 1].decode("utf-8", "ignore") + "-" + digest
