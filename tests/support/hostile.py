"""Files that decoders choke on, made from real ones; the same seed gives the same files."""

import io
import random
import struct
from pathlib import Path

import numpy as np
from PIL import Image

HUGE = (1, 30_000, 65_535, 2**31 - 1, 2**32 - 1)


def whole_files(picture: Image.Image) -> list[tuple[str, bytes]]:
    """One picture in every format and layout that is likely: (extension, content)."""
    rgb = picture.convert("RGB").resize((160, 160))
    grey16 = Image.fromarray(np.asarray(rgb.convert("L"), np.uint16) * 257)
    frames = [rgb.rotate(angle) for angle in (90, 180)]
    exif = Image.Exif()
    exif[0x0112] = 6
    variants = [
        (".jpg", rgb, {}),
        (".jpg", rgb, {"progressive": True, "exif": exif}),
        (".jpg", rgb.convert("CMYK"), {}),
        (".png", rgb, {}),
        (".png", grey16, {}),
        (".png", rgb.convert("P"), {"transparency": 3}),
        (".webp", rgb, {}),
        (".webp", rgb, {"lossless": True, "save_all": True, "append_images": frames}),
        (".gif", rgb, {"save_all": True, "append_images": frames}),
        (".tiff", rgb, {"compression": "tiff_lzw"}),
        (".tiff", rgb, {"compression": "tiff_adobe_deflate", "save_all": True}),
        (".tiff", rgb, {"compression": "jpeg"}),
        (".bmp", rgb, {}),
    ]
    files = []
    for extension, image, options in variants:
        buffer = io.BytesIO()
        format_ = {"jpg": "JPEG", "tiff": "TIFF"}.get(extension[1:], extension[1:].upper())
        image.save(buffer, format_, **options)
        files.append((extension, buffer.getvalue()))
    return files


def write(folder: Path, count: int, seed: int, picture: Image.Image) -> list[str]:
    """Write ``count`` hostile files into a folder; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    files = whole_files(picture)
    names = []
    for number in range(count):
        extension, data = rng.choice(files)
        damage = rng.choice(DAMAGES)
        for _ in range(rng.randint(1, 3)):
            data = damage(data, rng, files)
        name = f"{number:05}_{damage.__name__}{rng.choice([extension] * 9 + ['.png', '.gif'])}"
        (folder / name).write_bytes(data)
        names.append(name)
    return names


def hanging_jpeg(scans: int = 40_000, side: int = 3000) -> bytes:
    """A valid progressive JPEG that takes minutes: its last scan comes again and again."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def large_png(side: int = 9000) -> bytes:
    """A small file that becomes more than a gigabyte: 81 megapixels with transparency."""
    buffer = io.BytesIO()
    Image.new("RGBA", (side, side), (200, 150, 100, 128)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def cut(data: bytes, rng: random.Random, files: list[tuple[str, bytes]]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flip(data: bytes, rng: random.Random, files: list[tuple[str, bytes]]) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 4, 64)) if damaged else 0):
        # Half of them in the header, which is where the trouble is.
        place = rng.randrange(min(len(damaged), rng.choice((64, len(damaged)))))
        damaged[place] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def splice(data: bytes, rng: random.Random, files: list[tuple[str, bytes]]) -> bytes:
    _, other = rng.choice(files)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


def nest(data: bytes, rng: random.Random, files: list[tuple[str, bytes]]) -> bytes:
    _, other = rng.choice(files)
    place = rng.randrange(len(data) + 1)
    return data[:place] + other + data[place:]


def enlarge(data: bytes, rng: random.Random, files: list[tuple[str, bytes]]) -> bytes:
    """Huge dimensions where the format keeps them, and elsewhere if it is another."""
    damaged = bytearray(data)
    value = rng.choice(HUGE)
    if data[:4] == b"\x89PNG":
        places, order = (16, 20), ">I"
    elif data[:2] == b"BM":
        places, order = (18, 22), "<I"
    elif data[:3] == b"GIF":
        places, order, value = (6, 8), "<H", value & 0xFFFF
    elif data[:2] == b"\xff\xd8":
        start = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        places, order, value = (start + 5, start + 7), ">H", value & 0xFFFF
    else:
        places, order = (rng.randrange(max(1, len(data) - 4)),), "<I"
    for place in places:
        if 0 <= place <= len(damaged) - struct.calcsize(order):
            struct.pack_into(order, damaged, place, value)
    return bytes(damaged)


def empty(data: bytes, rng: random.Random, files: list[tuple[str, bytes]]) -> bytes:
    return b"\0" * rng.choice((0, 0, 1, 512))


def noise(data: bytes, rng: random.Random, files: list[tuple[str, bytes]]) -> bytes:
    return data[: rng.choice((4, 16, 64))] + rng.randbytes(2000)


DAMAGES = (cut, flip, flip, splice, nest, enlarge, empty, noise)
