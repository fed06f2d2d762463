"""Decode any supported input to RGB."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Union

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from fever_extract import _pillow as plugins
from fever_extract._utils import hints
from fever_extract._utils.names import shortened
from fever_extract.kernels.pixels import to_array
from fever_extract.records import ExtractionError, Status

if TYPE_CHECKING:
    import numpy.typing as npt

ImageLike = Union[str, "os.PathLike[str]", bytes, Image.Image, "npt.NDArray[np.uint8]"]
"""A path, an encoded file's bytes, a PIL image, or an ``(h, w[, 3 or 4])`` uint8 array."""

_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")  # of more than 8 bits
_WHITES = (1, 255, 1023, 4095, 16383, 65535)
_FEW = 0.001  # of the values may lie beyond white or black: hot pixels, and what is not finite
_OVERSHOOT = 1.1  # resampling goes a little beyond black and white
_DARK = 16  # of 255; below, a colour of 16 bits has its values in the lower 12

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to show a picture upright, by the orientation in EXIF."""

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
        raise TypeError(f"{_EXPECTED}; got {type(image).__name__}{hints.of_object(image)}")


def checked(images: Iterable[ImageLike]) -> Iterator[ImageLike]:
    """Yield images as they are, each checked; those of a list all before the first.

    Others are checked as they are used: a generator may yield more than fits in memory.

    Raises:
        TypeError, ValueError: as `check`, with the image's place if it is not the only one.
    """
    alone = isinstance(images, Sized) and len(images) == 1

    def each() -> Iterator[ImageLike]:
        for index, image in enumerate(images):
            try:
                check(image)
            except (TypeError, ValueError) as error:
                raise type(error)(error if alone else f"image {index}: {error}") from None
            yield image

    if isinstance(images, (list, tuple)):
        for _ in each():
            pass
    yield from each()


def is_single(images: ImageLike | Iterable[ImageLike]) -> TypeGuard[ImageLike]:
    """Tell one image from a collection of images."""
    if isinstance(images, np.ndarray):
        # An array of texts or objects is a column of paths or images.
        return images.dtype.kind not in "OUT" or images.ndim == 0
    # An open file is one thing too, which `check` refuses, and not a collection of lines.
    return (
        not isinstance(images, Iterable)
        or isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image))
        or hasattr(images, "read")
    )


def read(image: ImageLike) -> npt.NDArray[np.uint8]:
    """Decode one image to RGB: upright, first frame, 8 bits, transparency on white.

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
        Pixels as in `read`, and the downscaling factor per side.

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
        if isinstance(error, UnidentifiedImageError) and not isinstance(image, Image.Image):
            hint = hints.of_content(_head(image), is_file=not isinstance(image, bytes))
            reason = "not an image in a known format" + (
                f": {hint}" if hint else ", or its header is damaged"
            )
        raise ExtractionError(Status.DECODE_ERROR, f"could not be decoded: {reason}") from error


def _check_array(image: npt.NDArray[np.generic]) -> None:
    came = f"got shape {image.shape}, dtype {image.dtype}"
    if image.dtype != np.uint8:
        raise TypeError(f"{_EXPECTED}; {came}. Values from 0 to 255 need .astype('uint8') first")
    if image.ndim == 1:
        raise ValueError(f"{_EXPECTED}; {came}. For a file's content, pass array.tobytes()")
    if image.ndim == 4:
        raise ValueError(f"{_EXPECTED}; {came}. For a batch, pass list(array)")
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (3, 4):
        raise ValueError(f"{_EXPECTED}; {came}. Channels come last: array.transpose(1, 2, 0)")
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)) or image.size == 0:
        raise ValueError(f"{_EXPECTED}; {came}")


def _file(image: str | os.PathLike[str] | bytes) -> Path | io.BytesIO:
    if isinstance(image, bytes):
        return io.BytesIO(image)
    text = os.fsdecode(image)
    path = Path(text)
    try:
        exists, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
    except ValueError:  # with a NUL
        exists = is_folder = is_file = False
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        exists = is_folder = is_file = False
    if not text or not exists:
        hint = hints.of_path(text) or f"{shortened(str(path))} does not exist"
        raise ExtractionError(Status.NOT_FOUND, hint)
    if is_folder:
        raise ExtractionError(
            Status.NOT_FOUND, f"{path} is a folder; extract_folder takes whole folders"
        )
    if not is_file:
        raise ExtractionError(Status.NOT_FOUND, f"{path} is no regular file")
    return path


def _head(image: str | os.PathLike[str] | bytes) -> bytes:
    """Read the first bytes of a file."""
    if isinstance(image, bytes):
        return image[: hints.HEAD]
    with contextlib.suppress(OSError), open(os.fspath(image), "rb") as file:
        return file.read(hints.HEAD)
    return b""


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
    """Ask the decoder for a smaller image; return the downscaling factor per side."""
    _check_size(file)
    if file.format not in ("JPEG", "MPO"):  # a plug-in may offer a thumbnail of another shape
        return 1
    width, height = file.size
    factor = min(8, 2 ** int(math.log2(max(1, max(width, height) / longest))))
    # Does nothing where the decoder can't.
    file.draft(file.mode, (max(1, width // factor), max(1, height // factor)))
    return round(max(width, height) / max(file.size))


def _decode(image: Image.Image) -> npt.NDArray[np.uint8]:
    _check_size(image)
    # Pillow reads the upper 8 bits of a colour of 16.
    fine = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    image.load()  # of some formats, the orientation is known or applied only then
    turn = _TURNS.get(orientation(image))
    if fine and image.mode not in _GREY:
        extrema: Any = image.getextrema()  # a pair, or of several bands a pair each
        bands = zip(image.getbands(), np.reshape(extrema, (-1, 2)).tolist())
        highest = max(ends[1] for name, ends in bands if name != "A")
        if 0 < highest < _DARK:
            raise ExtractionError(
                Status.DECODE_ERROR,
                f"its colours of 16 bits end below {256 * (highest + 1)}; scale them to 65535",
            )
    return _to_rgb(image if turn is None else image.transpose(turn))


def orientation(image: Image.Image) -> int:
    """Read the EXIF orientation; 1 (upright) if it can't be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises nearly anything, as on damaged files
        return 1


def _to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode in _GREY:
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return to_array(image if image.mode == "RGB" else image.convert("RGB"))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating-point grey to 0 to 255; Pillow itself would clip.

    White is 1 (floating-point only), 255, 1023, 4095, 16383 or 65535: the least below which, or
    nearly so, 99.9 % of the values lie. What is not finite is black or white.

    Raises:
        ExtractionError: ``decode_error``, for values below 0 or beyond these, for floating-point
            ones that would all be black though they differ, and if none is finite.
    """
    values = np.asarray(image, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ExtractionError(Status.DECODE_ERROR, "none of its grey values is a finite number")
    low, high = np.quantile(finite, (_FEW, 1 - _FEW))
    black = image.mode == "F" and finite.min() < finite.max() < 1 / 255
    whites = _WHITES[0 if image.mode == "F" else 1 :]
    white = next((white for white in whites if high <= _OVERSHOOT * white), None)
    if white is None or low < (1 - _OVERSHOOT) * white or black:
        raise ExtractionError(
            Status.DECODE_ERROR,
            f"its grey values reach from {finite.min():.6g} to {finite.max():.6g}; scale them to "
            "0 to 255",
        )
    scaled = np.nan_to_num(values * (255 / white), nan=0.0, posinf=255.0, neginf=0.0)
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))
