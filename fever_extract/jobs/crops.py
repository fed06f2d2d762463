"""Aligned faces as pictures on disk: what the network sees, large enough to look at."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import warnings
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from PIL import Image

from fever_extract import images
from fever_extract._files import replace_atomically
from fever_extract.records import ExtractionError
from fever_extract.tables.names import to_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fever_extract.jobs.sources import Input
    from fever_extract.models.config import Preprocessing
    from fever_extract.records import Record

SIZE = 224
"""Side of a saved crop, in pixels; the framing is the network's, the size is for people."""

_LONGEST = 200  # bytes of a file's name: most file systems take 255, the temporary one included


def crop_path(path: str, face_index: int) -> PurePath:
    """Where a row's crop lies in the folder of crops: ``a/b.jpg``, face 0, in ``a/b.jpg.0.jpg``.

    Args:
        path: as in the table.
        face_index: as in the table.

    Returns:
        A relative path that never leaves its folder, another for every row: a leading ``/``
        becomes ``%2F``, ``..`` becomes ``%2E%2E`` and ``%`` becomes ``%25``; a name that is too
        long is cut, and its SHA-256 follows.
    """
    pure = PurePath(path)
    parts = [part.replace("%", "%25") for part in pure.relative_to(pure.anchor).parts]
    parts = ["%2E%2E" if part == ".." else part for part in parts] or ["%2E"]
    if pure.anchor:
        outside = pure.anchor.replace("%", "%25")
        for sign, code in (("/", "%2F"), ("\\", "%5C"), (":", "%3A")):
            outside = outside.replace(sign, code)
        parts[0] = outside + parts[0]
    *folders, name = parts
    return PurePath(*map(_shortened, folders), f"{_shortened(name)}.{face_index}.jpg")


def save_crops(folder: Path, one: Input, record: Record, preprocessing: Preprocessing) -> None:
    """Write each face of one photograph as a JPEG of 224x224 pixels, at `crop_path`.

    The photograph is read a second time, so that pictures need not be kept for those who want
    no crops. If it can't be read any more, a warning says so.

    Args:
        folder: made if it does not exist.
        one: the photograph.
        record: what was found in it.
        preprocessing: of the weights; gives the framing.

    Raises:
        OSError: if a file can't be written.
    """
    from fever_extract import alignment  # it imports torch

    try:
        pixels = images.read(one.load())
    except (ExtractionError, OSError) as error:
        warnings.warn(f"no crop of {one.name!r}: {error}", stacklevel=2)
        return
    framing = dataclasses.replace(preprocessing, size=SIZE)
    for index, face in enumerate(record.faces):
        if face.detected:
            crop = alignment.align(pixels, face.landmarks[None], framing)[0]
        else:
            crop = alignment.whole(pixels, framing)[0]
        picture = Image.fromarray(crop.round().clamp(0, 255).byte().permute(1, 2, 0).numpy())
        output = folder / crop_path(to_text(one.name), index)
        output.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(output) as temporary:
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
