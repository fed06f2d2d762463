"""Small pictures of faces, cut out of their photographs and laid out on a few large sheets.

A page with thousands of pictures loads slowly; with ten sheets of a thousand it does not.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fever_extract import images
from fever_extract._utils import progress
from fever_extract._utils.names import from_text
from fever_extract.records import ExtractionError

if TYPE_CHECKING:
    import numpy.typing as npt

PER_SHEET = 1024
"""Thumbnails of one sheet."""
ACROSS = 32
"""Thumbnails of one row of a sheet."""

_MARGIN = 1.3  # of the box: hair and chin make a face a face
_SIDES = ((500, 96), (3000, 64))  # pixels a side, up to that many faces
_SMALLEST_SIDE = 48
_QUALITY = 70


@dataclass(frozen=True)
class Thumbnails:
    """Faces on sheets, `PER_SHEET` each, `ACROSS` a row.

    Attributes:
        side: side of one thumbnail, in pixels.
        slots: ``(n,)``: each face's place, counted over all sheets; -1 if there is none.
        sheets: JPEG files as data URIs.
    """

    side: int
    slots: npt.NDArray[np.int64]
    sheets: tuple[str, ...]


def cut(
    pixels: npt.NDArray[np.uint8], box: npt.NDArray[np.floating], side: int
) -> npt.NDArray[np.uint8]:
    """A square picture of one face with some of its surroundings.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB, the whole upright picture.
        box: ``(4,)``: x1, y1, x2, y2 in its pixels.
        side: of the result, in pixels.

    Returns:
        ``(side, side, 3)`` uint8.
    """
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = (float(value) for value in box)
    extent = min(_MARGIN * max(x2 - x1, y2 - y1, 1), width, height)
    # Where the square would reach beyond the picture, it is moved inside.
    left = min(max((x1 + x2 - extent) / 2, 0), width - extent)
    top = min(max((y1 + y2 - extent) / 2, 0), height - extent)
    square = (left, top, left + extent, top + extent)
    picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=square)
    return np.asarray(picture)


def make(
    folder: Path,
    paths: Sequence[str],
    times: npt.NDArray[np.floating],
    boxes: npt.NDArray[np.floating],
    show_progress: bool | None,
) -> Thumbnails:
    """Thumbnails of n faces; a file that can't be read leaves its faces without one.

    Args:
        folder: what the paths are relative to.
        paths: each face's photograph or clip.
        times: ``(n,)``: in seconds from the clip's beginning; NaN for a photograph.
        boxes: ``(n, 4)``, in pixels of the upright picture.
        show_progress: as in `fever_extract.Options`.

    Raises:
        ImportError: if there are clips and the extra ``video`` is not installed.
    """
    side = next((side for most, side in _SIDES if len(paths) <= most), _SMALLEST_SIDE)
    faces_of: dict[str, list[int]] = {}
    for face, path in enumerate(paths):
        faces_of.setdefault(path, []).append(face)

    def tiles_of(path: str) -> list[tuple[int, npt.NDArray[np.uint8]]]:
        faces = faces_of[path]
        pictures = _frames(folder / from_text(path), times[faces])
        return [
            (face, cut(pixels, boxes[face], side))
            for time, pixels in pictures
            for face in faces
            if times[face] == time or math.isnan(time)
        ]

    tiles: dict[int, npt.NDArray[np.uint8]] = {}
    # Threads are enough: Pillow's decoders let other threads run.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(tiles_of, faces_of)
        for found in progress.bar(
            work, show_progress, desc="thumbnails", total=len(faces_of), unit="image"
        ):
            tiles.update(found)
    slots = np.full(len(paths), -1, np.int64)
    shown = sorted(tiles)
    slots[shown] = np.arange(len(shown))
    sheets = [
        _sheet([tiles[face] for face in shown[start : start + PER_SHEET]], side)
        for start in range(0, len(shown), PER_SHEET)
    ]
    return Thumbnails(side, slots, tuple(sheets))


def _frames(
    path: Path, times: npt.NDArray[np.floating]
) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    """A photograph, with NaN for its time; or a clip's frames at those times, in their order."""
    if np.isnan(times).all():
        with contextlib.suppress(ExtractionError):
            yield math.nan, images.read(path)
        return
    from fever_extract.video.decoding import Clip, upright  # it needs PyAV

    waiting = sorted(set(times.tolist()))
    with contextlib.suppress(ExtractionError), Clip(path) as clip:
        for time, frame in clip.frames(max(0.0, waiting[0] - 1e-3)):
            while waiting and time > waiting[0] - 1e-3:
                yield waiting.pop(0), upright(frame, clip.pixel_aspect)
            if not waiting:
                return


def _sheet(tiles: Sequence[npt.NDArray[np.uint8]], side: int) -> str:
    rows = -(-len(tiles) // ACROSS)
    sheet = np.zeros((rows * side, min(len(tiles), ACROSS) * side, 3), np.uint8)
    for slot, tile in enumerate(tiles):
        row, column = divmod(slot, ACROSS)
        sheet[row * side :, column * side :][:side, :side] = tile
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
