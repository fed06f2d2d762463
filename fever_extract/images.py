"""Anything that a user has, as RGB pixels; and the pictures in a folder."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard, Union

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fever_extract import plugins
from fever_extract.records import ExtractionError, Status

if TYPE_CHECKING:
    import numpy.typing as npt

ImageLike = Union[str, "os.PathLike[str]", bytes, Image.Image, "npt.NDArray[np.uint8]"]
"""A path, an encoded file's bytes, a PIL image, or an ``(h, w[, 3 or 4])`` uint8 array."""

EXTENSIONS = frozenset(
    ".avif .bmp .dib .gif .heic .heif .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm "
    ".tga .tif .tiff .webp".split()
)
"""What counts as a picture in a folder, in any case of letters."""

_EXPECTED = (
    "expected a path, an encoded image's bytes, a PIL image, or a uint8 RGB array of shape "
    "(height, width, 3)"
)


def check(image: object) -> None:
    """Refuse what can't be an image, whatever it holds.

    Raises:
        TypeError, ValueError: saying what was expected and what came.
    """
    if isinstance(image, np.ndarray):
        _check_array(image)
    elif not isinstance(image, (str, os.PathLike, bytes, Image.Image)):
        raise TypeError(f"{_EXPECTED}; got {type(image).__name__}")


def is_single(images: ImageLike | Iterable[ImageLike]) -> TypeGuard[ImageLike]:
    """Whether this is one image rather than a collection of them."""
    if isinstance(images, np.ndarray):
        # An array of texts or objects is a column of paths or images.
        return images.dtype.kind not in "OU" or images.ndim == 0
    # An open file is one thing too, which `check` refuses, and not a collection of lines.
    return (
        not isinstance(images, Iterable)
        or isinstance(images, (str, os.PathLike, bytes, Image.Image))
        or hasattr(images, "read")
    )


def read(image: ImageLike) -> npt.NDArray[np.uint8]:
    """Decode one image: upright, first frame, 8 bits, on white where it is transparent.

    Returns:
        ``(h, w, 3)`` uint8 RGB, C-contiguous and writable.

    Raises:
        as `read_reduced`.
    """
    return read_reduced(image, None)[0]


def read_reduced(image: ImageLike, longest: int | None) -> tuple[npt.NDArray[np.uint8], int]:
    """Decode one image, a large JPEG to a half, a quarter or an eighth of its size.

    Args:
        image: JPEG files are decoded smaller, others in full.
        longest: the longer side keeps at least so many pixels; None decodes in full.

    Returns:
        Pixels as in `read`, and the number of the image's pixels to one of them, a side.

    Raises:
        ExtractionError: ``not_found`` or ``decode_error``, with the decoder's reason.
        TypeError, ValueError: if it can't be an image at all; see `check`.
    """
    check(image)
    if isinstance(image, np.ndarray):
        pixels = image if image.shape[2:] == (3,) else _to_rgb(Image.fromarray(image))
        return np.require(pixels, requirements=["C", "W"]), 1  # as torch wants it
    try:
        if isinstance(image, Image.Image):
            return _decode(image), 1
        source = _file(image)
        with _open(source) as file:
            if file.format != "PNG":
                reduction = _draft(file, longest) if longest else 1
                return _decode(file), reduction
            # Pillow checks a PNG's checksums only when asked, and can't decode after that.
            file.verify()
        with Image.open(source, formats=["PNG"]) as file:
            return _decode(file), 1
    except ExtractionError:
        raise
    except Exception as error:
        # Decoders raise nearly anything on a damaged file; none of it may end a run.
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "not an image in a known format, or its header is damaged"
        raise ExtractionError(Status.DECODE_ERROR, f"could not be decoded: {reason}") from error


def list_images(
    folder: str | os.PathLike[str], extensions: Container[str] = EXTENSIONS
) -> Iterator[str]:
    """Paths of the pictures in a folder and below it, relative to it, in sorted order.

    Names that begin with a dot are passed over, and links to folders are not followed. A
    folder below that can't be read is left out with a warning.

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
                    elif os.path.splitext(entry.name)[1].lower() in extensions:
                        pictures.add(entry.name)
        except OSError as error:
            if not below:
                raise
            warnings.warn(
                f"left out, can't be read: {error.filename} ({error.strerror})", stacklevel=2
            )
        yield from (os.path.join(below, name) for name in pictures)
        waiting += [os.path.join(below, name) for name in sorted(folders, reverse=True)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


class _SortedNames:
    """The names in one folder, of which there may be millions: packed, 20 to 40 bytes each."""

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


def _check_array(image: npt.NDArray[np.generic]) -> None:
    came = f"got shape {image.shape}, dtype {image.dtype}"
    if image.dtype != np.uint8:
        raise TypeError(f"{_EXPECTED}; {came}. Values from 0 to 255 need .astype('uint8') first")
    if image.ndim == 4:
        raise ValueError(f"{_EXPECTED}; {came}. For a batch, pass list(array)")
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (3, 4):
        raise ValueError(f"{_EXPECTED}; {came}. Channels come last: array.transpose(1, 2, 0)")
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)) or image.size == 0:
        raise ValueError(f"{_EXPECTED}; {came}")


def _file(image: str | os.PathLike[str] | bytes) -> Path | io.BytesIO:
    if isinstance(image, bytes):
        return io.BytesIO(image)
    path = Path(image)
    if path.is_dir():
        raise ExtractionError(
            Status.NOT_FOUND, f"{path} is a folder; extract_folder takes whole folders"
        )
    if not path.exists():
        raise ExtractionError(Status.NOT_FOUND, f"{path} does not exist")
    if not path.is_file():
        raise ExtractionError(Status.NOT_FOUND, f"{path} is no regular file")
    return path


def _open(source: Path | io.BytesIO) -> Image.Image:
    try:
        return Image.open(source, formats=plugins.formats())
    except UnidentifiedImageError:
        heif = plugins.open_heif(source)
        if heif is None:
            raise
        return heif


def _check_size(image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit and image.width * image.height > limit:
        raise ExtractionError(
            Status.DECODE_ERROR,
            f"{image.width}x{image.height} pixels are over Pillow's limit of {limit}, as in a "
            "decompression bomb; raise PIL.Image.MAX_IMAGE_PIXELS if it is a real picture",
        )


def _draft(file: Image.Image, longest: int) -> int:
    """Ask the decoder for a smaller picture; returns how much smaller a side it will be."""
    _check_size(file)
    if file.format not in ("JPEG", "MPO"):  # a plug-in may offer a thumbnail of another shape
        return 1
    width, height = file.size
    factor = min(8, 2 ** int(math.log2(max(1, max(width, height) / longest))))
    # Does nothing where the decoder can't.
    file.draft(file.mode, (width // factor, height // factor))
    return round(width / file.width)


def _decode(image: Image.Image) -> npt.NDArray[np.uint8]:
    _check_size(image)
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # it would copy the others too
        image = ImageOps.exif_transpose(image)
    return _to_rgb(image)


def _to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating-point grey to 0 to 255; Pillow itself would clip."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top = values.max()
    if image.mode.startswith("I") and (image.mode != "I" or top > 255):
        values = values / 257
    elif image.mode == "F" and top <= 1:
        values = values * 255
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
