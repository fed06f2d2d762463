"""Pillow's settings and plug-ins, carried over to worker processes as the caller set them."""

from __future__ import annotations

import io
import logging
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFile

from fever_extract._utils.extras import install
from fever_extract.records import ExtractionError, Status

_logger = logging.getLogger(__name__)

# Raster formats only: others run programs (EPS calls Ghostscript) or are not photographs.
_FORMATS = "JPEG PNG WEBP MPO BMP DIB GIF TIFF PPM JPEG2000 AVIF HEIF".split()


def formats() -> list[str]:
    """List the formats to open: raster formats of Pillow's, and all of registered plug-ins."""
    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]
    plugins = [name for name in list(Image.OPEN) if name not in known and _is_plugin(name)]
    return [*known, *plugins, "TGA"]  # the last has no signature


def open_heif(source: Path | io.BytesIO) -> Image.Image | None:
    """Open a HEIF image (such as HEIC) with pillow-heif, without registering it with Pillow.

    Returns:
        None if it is not a HEIF image, or damaged.

    Raises:
        ExtractionError: if it is one, and pillow-heif is not installed.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            beginning = file.read(12)
    else:
        beginning = source.getvalue()[:12]
        source.seek(0)
    if beginning[4:8] != b"ftyp":
        return None
    try:
        import pillow_heif
    except ImportError:
        raise ExtractionError(
            Status.DECODE_ERROR,
            f"could not be decoded: HEIF (HEIC) needs pillow-heif: {install('heif')}",
        ) from None
    try:
        image: Image.Image = pillow_heif.HeifImageFile(source)  # type: ignore[no-untyped-call]
        return image
    except SyntaxError:  # how Pillow reports another format
        return None


@dataclass(frozen=True)
class PillowSettings:
    """Pillow settings of this process, to be applied in another.

    Attributes:
        max_pixels: ``PIL.Image.MAX_IMAGE_PIXELS``.
        load_truncated: ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES``.
        plugins: by format, what each registered plug-in opens and recognises its files with,
            pickled one by one: the other process may lack one of them.
        problems: why a plug-in can't be sent, one line for each.
    """

    max_pixels: int | None
    load_truncated: bool
    plugins: tuple[tuple[str, bytes], ...]
    problems: tuple[str, ...] = ()

    @classmethod
    def of_this_process(cls) -> PillowSettings:
        """Collect the settings."""
        Image.init()
        plugins, problems = [], []
        for name in filter(_is_plugin, list(Image.OPEN)):
            try:
                if Image.OPEN[name][0].__module__ == "__main__":
                    raise pickle.PicklingError("it is defined in the main script")
                plugins.append((name, pickle.dumps(Image.OPEN[name])))
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                problems.append(
                    f"Pillow's plug-in for {name} files can't be sent to other processes: {error}"
                )
        truncated = bool(ImageFile.LOAD_TRUNCATED_IMAGES)
        return cls(Image.MAX_IMAGE_PIXELS, truncated, tuple(plugins), tuple(problems))

    def warn(self) -> None:
        """Warn about the plug-ins that can't be sent."""
        for problem in self.problems:
            warnings.warn(problem, stacklevel=2)

    def apply(self) -> None:
        """Set them in this process."""
        Image.MAX_IMAGE_PIXELS = self.max_pixels
        ImageFile.LOAD_TRUNCATED_IMAGES = self.load_truncated
        for name, pickled in self.plugins:
            try:
                Image.register_open(name, *pickle.loads(pickled))
            except Exception as error:  # imports a third-party module
                _logger.warning("Pillow's plug-in for %s files is not here: %s", name, error)


def _is_plugin(name: str) -> bool:
    """Tell whether a plug-in, rather than Pillow itself, opens a format."""
    module = getattr(Image.OPEN[name][0], "__module__", "")
    return not module.startswith("PIL.")
