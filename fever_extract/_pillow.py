"""Pillow's settings and plug-ins: used as the caller has set them, here and in worker processes."""

from __future__ import annotations

import io
import pickle
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFile

from fever_extract.records import ExtractionError, Status

# Raster formats only: others run programs (EPS calls Ghostscript) or are no photographs.
_FORMATS = "JPEG PNG WEBP MPO BMP DIB GIF TIFF PPM JPEG2000 AVIF TGA HEIF".split()

_INSTALL = "pip install 'fever-extract[heif]'"


def formats() -> list[str]:
    """Names of the formats to open: raster formats of Pillow's, and all of registered plug-ins."""
    Image.init()
    return [name for name in Image.OPEN if name in _FORMATS or _is_plugin(name)]


def open_heif(source: Path | io.BytesIO) -> Image.Image | None:
    """Open a HEIF image (HEIC, say) with pillow-heif, without registering it with Pillow.

    Returns:
        None if it is no HEIF image, or is damaged.

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
            Status.DECODE_ERROR, f"could not be decoded: HEIF (HEIC) needs pillow-heif: {_INSTALL}"
        ) from None
    try:
        image: Image.Image = pillow_heif.HeifImageFile(source)  # type: ignore[no-untyped-call]
        return image
    except SyntaxError:  # Pillow's sign for another format
        return None


@dataclass(frozen=True)
class PillowSettings:
    """What the caller has set in Pillow, for another process.

    Attributes:
        max_pixels: ``PIL.Image.MAX_IMAGE_PIXELS``.
        load_truncated: ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES``.
        plugins: by format, what each registered plug-in opens and recognises its files with,
            pickled one by one: the other process may lack one of them.
    """

    max_pixels: int | None
    load_truncated: bool
    plugins: tuple[tuple[str, bytes], ...]

    @classmethod
    def of_this_process(cls) -> PillowSettings:
        """Collect the settings; warns of a plug-in that can't be sent."""
        Image.init()
        plugins = []
        for name in filter(_is_plugin, Image.OPEN):
            try:
                if Image.OPEN[name][0].__module__ == "__main__":
                    raise pickle.PicklingError("it is defined in the main script")
                plugins.append((name, pickle.dumps(Image.OPEN[name])))
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                warnings.warn(
                    f"Pillow's plug-in for {name} files can't be sent to other processes: {error}",
                    stacklevel=2,
                )
        return cls(Image.MAX_IMAGE_PIXELS, bool(ImageFile.LOAD_TRUNCATED_IMAGES), tuple(plugins))

    def apply(self) -> None:
        """Set them in this process."""
        Image.MAX_IMAGE_PIXELS = self.max_pixels
        ImageFile.LOAD_TRUNCATED_IMAGES = self.load_truncated
        for name, pickled in self.plugins:
            try:
                Image.register_open(name, *pickle.loads(pickled))
            except Exception as error:  # a module of someone else's is imported
                print(f"Pillow's plug-in for {name} files is not here: {error}", file=sys.stderr)


def _is_plugin(name: str) -> bool:
    """Whether what opens a format is not Pillow's own."""
    module = getattr(Image.OPEN[name][0], "__module__", "")
    return not module.startswith("PIL.")
