"""Every kind of picture, good and bad, with the record that it gives."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from helpers import cosine
from PIL import Image, ImageCms

from fever_extract import ExtractionError, Status, images
from fever_extract.folders import list_images


def encoded(image: Image.Image, format_: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def rotated_by_exif(image: Image.Image) -> bytes:
    """Stored on its side, with the tag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def sixteen_bits(image: Image.Image) -> bytes:
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


def animated(image: Image.Image) -> bytes:
    black = Image.new("RGB", image.size)
    return encoded(image, "WEBP", save_all=True, append_images=[black, black], quality=95)


def on_transparency(image: Image.Image) -> bytes:
    result = image.convert("RGBA")
    result.putalpha(255)
    result.paste((0, 0, 0, 0), (0, 0, 60, 512))
    return encoded(result, "PNG")


GOOD = {
    "exif": rotated_by_exif,
    "grey": lambda image: encoded(image.convert("L"), "JPEG", quality=95),
    "grey_alpha": lambda image: encoded(image.convert("LA"), "PNG"),
    "palette": lambda image: encoded(image.quantize(256), "PNG"),
    "palette_transparent": lambda image: encoded(image.quantize(256), "GIF", transparency=0),
    "cmyk": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95),
    "16_bit": sixteen_bits,
    "float": lambda image: encoded(image.convert("F"), "TIFF"),
    "rgba": on_transparency,
    "animated": animated,
    "webp": lambda image: encoded(image, "WEBP", quality=95),
    "bmp": lambda image: encoded(image, "BMP"),
    "tiff": lambda image: encoded(image, "TIFF"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_it_works(extractor, astronaut, kind):
    """Nearly the vector of the plain picture: the network sees grey, and codecs lose a little."""
    plain = extractor.extract(astronaut)
    vector = extractor.extract(GOOD[kind](astronaut), on_error="raise")
    assert cosine(vector, plain) > 0.97


def test_exif_gives_the_upright_vector(extractor, astronaut):
    upright = encoded(astronaut, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(astronaut.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    a, b = extractor.extract([upright, turned])
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_pil_image_is_turned_as_well(extractor, astronaut):
    a = extractor.extract(rotated_by_exif(astronaut))
    b = extractor.extract(Image.open(io.BytesIO(rotated_by_exif(astronaut))))
    np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_every_orientation_of_exif(format_, options, orientation):
    """A picture with a bright corner, stored as the tag says; a viewer shows it upper left."""
    shown = np.full((40, 60, 3), 40, np.uint8)
    shown[:16, :16] = 200
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.swapaxes(0, 1),
        6: np.rot90(shown),
        7: shown[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(shown, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), format_, exif=exif, **options)
    pixels = images.read(data)
    assert pixels.shape == shown.shape
    assert np.abs(pixels.astype(int) - shown).mean() < 3


def tiff_block(entries: list[tuple[int, int, int, int]]) -> bytes:
    """An EXIF block with these entries (tag, type, count, value), whatever they point to."""
    fields = b"".join(struct.pack(">HHII", *entry) for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + fields + b"\0" * 4


ORIENTATION = (0x0112, 3, 1, 6 << 16)
UNREADABLE = {
    "noise": b"Exif\0\0" + np.random.default_rng(0).bytes(300),
    "no header": b"Exif\0\0",
    "cut": tiff_block([ORIENTATION])[:20],
    "beyond the end": b"Exif\0\0MM\0*\xff\xff\xff\xf0",
    "unknown types": tiff_block([(0x0112, 99, 1, 6)]),
    "a text for an orientation": tiff_block([(0x0112, 2, 1, 0x61000000)]),
    "orientation 77": tiff_block([(0x0112, 3, 1, 77 << 16)]),
    "far values": tiff_block([(0x011A, 5, 1, 0xFFFFFFF0), (0x8769, 4, 1, 0xFFFFFFF0)]),
}


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("block", UNREADABLE)
def test_exif_that_can_not_be_read_is_no_damage(format_, block):
    picture = Image.new("RGB", (60, 40), (200, 100, 50))
    pixels = images.read(encoded(picture, format_, exif=UNREADABLE[block]))
    assert pixels.shape == (40, 60, 3)


def test_an_orientation_beside_damage_counts(astronaut):
    """A block of which one value can't be read, or written again, still turns the picture."""
    block = tiff_block([ORIENTATION, (0x8769, 4, 1, 0xFFFFFFF0)])
    assert images.read(encoded(Image.new("RGB", (60, 40)), "JPEG", exif=block)).shape == (60, 40, 3)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
def test_unequal_densities_are_ignored_as_viewers_ignore_them(astronaut, format_):
    data = encoded(astronaut, format_, dpi=(300, 150))
    with Image.open(io.BytesIO(data)) as file:
        assert file.info["dpi"][0] > 1.9 * file.info["dpi"][1]
    assert images.read(data).shape == (512, 512, 3)


# Grey pictures that store 0 to white otherwise than as 0 to 255.
GREY = {
    "16-bit file of 8 bits": lambda grey: Image.fromarray(grey.astype(np.uint16)),
    "of 10 bits": lambda grey: Image.fromarray((grey * (1023 / 255)).astype(np.uint16)),
    "of 12 bits": lambda grey: Image.fromarray((grey * (4095 / 255)).astype(np.uint16)),
    "of 14 bits": lambda grey: Image.fromarray((grey * (16383 / 255)).astype(np.uint16)),
    "of 16 bits": lambda grey: Image.fromarray((grey * 257).astype(np.uint16)),
    "int32 to 255": lambda grey: Image.fromarray(grey.astype(np.int32)),
    "int32 to 4095": lambda grey: Image.fromarray((grey * (4095 / 255)).astype(np.int32)),
    "int32 to 65535": lambda grey: Image.fromarray((grey * 257).astype(np.int32)),
    "float to 1": lambda grey: Image.fromarray((grey / 255).astype(np.float32)),
    "float to 255": lambda grey: Image.fromarray(grey.astype(np.float32)),
    "float to 65535": lambda grey: Image.fromarray((grey * 257).astype(np.float32)),
    "float and a little beyond": lambda grey: Image.fromarray(
        (grey * (1.1 / 255) - 0.05).astype(np.float32)
    ),
}


@pytest.mark.parametrize("kind", GREY)
def test_grey_of_any_range(astronaut, kind):
    grey = np.asarray(astronaut.convert("L"), np.float64)
    for picture in (GREY[kind](grey), encoded(GREY[kind](grey), "TIFF")):
        assert np.abs(images.read(picture)[:, :, 0] - grey).mean() < 6


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 1e30])
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_a_few_values_that_are_none(astronaut, odd, white):
    grey = np.asarray(astronaut.convert("L"), np.float32)
    values = grey * (white / 255)
    values[0, :40] = odd
    pixels = images.read(Image.fromarray(values))[:, :, 0]
    assert np.abs(pixels[1:] - grey[1:]).mean() < 1
    assert set(pixels[0, :40]) == {255 if odd > 0 else 0}


def test_a_hot_pixel(astronaut):
    grey = np.asarray(astronaut.convert("L"), np.float64)
    values = (grey * (4095 / 255)).astype(np.uint16)
    values[100, 100] = 65535
    assert np.abs(images.read(Image.fromarray(values))[:, :, 0] - grey).mean() < 2


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (-1, 1, np.float32),
        (-1024, 3071, np.int32),
        (0, 1e6, np.float32),
        (0, 2**31 - 1, np.int32),
        (0, 1e-6, np.float32),
        (1e-4, 3e-3, np.float32),
    ],
)
def test_a_range_without_a_rule_is_told(low, high, kind):
    values = np.linspace(low, high, 10_000).astype(kind).reshape(100, 100)
    with pytest.raises(ExtractionError, match="its grey values reach from") as caught:
        images.read(Image.fromarray(values))
    assert caught.value.status is Status.DECODE_ERROR


def test_no_finite_value_is_told():
    picture = Image.fromarray(np.full((100, 100), np.nan, np.float32))
    with pytest.raises(ExtractionError, match="none of its grey values is a finite number"):
        images.read(picture)
    assert not images.read(Image.fromarray(np.zeros((100, 100), np.float32))).any()


def test_colours_of_16_bits_of_which_12_are_used(astronaut):
    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    def png(values: np.ndarray) -> bytes:
        height, width = values.shape[:2]
        header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

    pixels = np.asarray(astronaut, np.uint16)
    np.testing.assert_array_equal(images.read(png(pixels * 257)), pixels)
    with pytest.raises(ExtractionError, match="end below 4096; scale them to 65535"):
        images.read(png(pixels * 16))


def test_an_unusual_colour_mode(astronaut):
    lab = ImageCms.applyTransform(
        astronaut,
        ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        ),
    )
    assert images.read(lab).shape == (512, 512, 3)


def png_with_wrong_checksum(image: Image.Image) -> bytes:
    data = bytearray(encoded(image, "PNG"))
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    data[start + 4 + length] ^= 0xFF
    return bytes(data)


BROKEN = {
    "empty": lambda image: b"",
    "text": lambda image: b"This is no picture.\n" * 40,
    "half a jpeg": lambda image: encoded(image, "JPEG")[: len(encoded(image, "JPEG")) // 2],
    "wrong checksum": png_with_wrong_checksum,
    "random": lambda image: np.random.default_rng(0).bytes(20_000),
    "pdf": lambda image: encoded(image, "PDF"),
    "eps": lambda image: encoded(image, "EPS"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("from_file", [True, False])
def test_a_broken_file_is_a_record_and_the_run_goes_on(
    extractor, astronaut, tmp_path, kind, from_file
):
    broken = BROKEN[kind](astronaut)
    if from_file:
        path = tmp_path / "broken.jpg"
        path.write_bytes(broken)
        broken = path
    first, last = extractor.extract_records([broken, astronaut])
    assert first.status is Status.DECODE_ERROR
    assert first.error.startswith("could not be decoded: ")
    assert len(first.error) > len("could not be decoded: ")
    assert last.status is Status.OK


def test_reasons_are_pillows(astronaut):
    with pytest.raises(ExtractionError, match="truncated"):
        images.read(BROKEN["half a jpeg"](astronaut))
    with pytest.raises(ExtractionError, match="IDAT"):
        images.read(png_with_wrong_checksum(astronaut))


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(extractor, tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc")
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    tracemalloc.start()
    (record,) = extractor.extract_records(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert record.status is Status.DECODE_ERROR
    assert "exceeds limit" in record.error
    assert peak < 20_000_000


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_just_over_the_limit_is_refused_too(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000)).save(path)
    with pytest.raises(ExtractionError, match="MAX_IMAGE_PIXELS"):
        images.read(path)


def test_what_does_not_exist(extractor, tmp_path):
    missing, folder = extractor.extract_records([tmp_path / "missing.jpg", str(tmp_path)])
    assert missing.status is Status.NOT_FOUND
    assert "does not exist" in missing.error
    assert folder.status is Status.NOT_FOUND
    assert "is a folder" in folder.error


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path, astronaut):
    path = tmp_path / "secret.png"
    astronaut.save(path)
    path.chmod(0)
    with pytest.raises(ExtractionError, match=r"[Pp]ermission"):
        images.read(path)


@pytest.mark.parametrize("size", [(1, 1), (5, 400), (400, 5), (12, 12), (19, 300)])
def test_tiny_pictures(extractor, size):
    (record,) = extractor.extract_records(Image.new("RGB", size, "grey"))
    assert record.status is Status.TOO_SMALL
    assert f"{size[0]}x{size[1]}" in record.error


@pytest.mark.parametrize("size", [(6000, 7), (7, 6000), (3000, 1)])
@pytest.mark.parametrize("detect_size", [None, 12, 640])
def test_strips(extractor, size, detect_size):
    strip = encoded(Image.new("RGB", size, "grey"), "JPEG")
    (record,) = extractor.extract_records(strip, detect_size=detect_size)
    assert record.status is Status.TOO_SMALL


@pytest.mark.parametrize("size", [(20, 20), (21, 400), (48, 48), (640, 480), (37, 2000)])
@pytest.mark.parametrize("color", ["black", "white"])
def test_blank_pictures_have_no_face(extractor, size, color):
    assert extractor.extract_records(Image.new("RGB", size, color))[0].status is Status.NO_FACE


def test_noise_of_any_size_is_no_error(extractor):
    random = np.random.default_rng(0)
    sizes = random.integers(1, 200, (40, 2))
    noise = [random.integers(0, 256, (h, w, 3), np.uint8) for h, w in sizes]
    statuses = {record.status for record in extractor.extract_records(noise)}
    assert statuses <= {Status.NO_FACE, Status.TOO_SMALL, Status.OK}


def test_a_tiny_aligned_picture_is_too_small(extractor):
    (record,) = extractor.extract_records(Image.new("RGB", (1, 1)), aligned=True)
    assert record.status is Status.TOO_SMALL


WRONG = {
    "float": (np.zeros((50, 50, 3)), TypeError, "float64"),
    "chw": (np.zeros((3, 50, 50), np.uint8), ValueError, "transpose"),
    "empty": (np.zeros((0, 50, 3), np.uint8), ValueError, r"\(0, 50, 3\)"),
    "batch": (np.zeros((2, 50, 50, 3), np.uint8), ValueError, r"list\(array\)"),
    "five channels": (np.zeros((50, 50, 5), np.uint8), ValueError, r"\(50, 50, 5\)"),
    "none": (None, TypeError, "NoneType"),
    "number": (7, TypeError, "int"),
    "open file": (io.BytesIO(b"..."), TypeError, "BytesIO"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("in_a_list", [True, False])
def test_what_can_be_no_image_is_a_mistake(extractor, astronaut, kind, in_a_list):
    value, error, message = WRONG[kind]
    with pytest.raises(error, match=message) as caught:
        extractor.extract([astronaut, value] if in_a_list else value)
    assert "expected a path" in str(caught.value)
    assert ("image 1: " in str(caught.value)) == in_a_list


def test_arrays_of_two_and_four_channels(astronaut):
    grey = np.array(astronaut.convert("L"))
    assert images.read(grey).shape == (512, 512, 3)
    clear = np.zeros((30, 30, 4), np.uint8)
    assert (images.read(clear) == 255).all(), "transparent is white"


def test_a_read_only_or_mirrored_array_is_fine(extractor, astronaut):
    pixels = np.array(astronaut)
    pixels.setflags(write=False)
    extractor.extract(pixels[:, ::-1], on_error="raise")


def test_listing_a_folder(tmp_path):
    for name in ["b.JPG", "a.png", "note.txt", ".hidden.jpg", "sub/c.webp", ".git/d.jpg", "é.tiff"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    names = list(list_images(tmp_path))
    assert names == ["a.png", "b.JPG", "é.tiff", os.path.join("sub", "c.webp")]


def test_a_folder_that_can_not_be_read(tmp_path, monkeypatch):
    """The one asked for is an error; one below it is left out, and said so."""
    with pytest.raises(FileNotFoundError):
        list(list_images(str(tmp_path / "missing")))
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.jpg").touch()
    scandir = os.scandir

    def refuse(path):  # root may read everything, so the refusal is made here
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match=r"locked \(Permission denied\)"):
        assert list(list_images(tmp_path)) == ["a.jpg"]


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ExtractionError, match="no regular file"):
        images.read(tmp_path / "pipe.jpg")
