"""Pillow's settings and plug-ins hold on every path: one call, one table, worker processes."""

import io
import subprocess
import sys

import numpy as np
import pillow_heif
import pytest
import toy_plugin
from helpers import cosine, in_process
from PIL import Image, ImageFile

import fever_extract
from fever_extract import Status, images
from fever_extract._pillow import PillowSettings


@pytest.fixture(scope="module")
def heic(tmp_path_factory, astronaut):
    path = tmp_path_factory.mktemp("heic") / "face.heic"
    pillow_heif.from_pillow(astronaut).save(path, quality=90)
    return path


@pytest.fixture
def toy():
    with toy_plugin.registered():
        yield


@pytest.mark.parametrize("as_bytes", [False, True])
def test_heif_is_read_and_pillow_stays_as_it_was(extractor, astronaut, heic, as_bytes):
    Image.init()
    before = set(Image.OPEN)
    vector = extractor.extract(heic.read_bytes() if as_bytes else heic)
    assert cosine(vector, extractor.extract(astronaut)) > 0.99
    assert set(Image.OPEN) == before


def test_a_turned_heif_is_upright(extractor, astronaut, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = pillow_heif.from_pillow(astronaut.transpose(Image.Transpose.ROTATE_90))
    turned[0].info["exif"] = exif.tobytes()
    turned.save(tmp_path / "turned.heic")
    vector = extractor.extract(tmp_path / "turned.heic")
    assert cosine(vector, extractor.extract(astronaut)) > 0.99


def test_an_embedded_thumbnail_is_not_the_picture(heic, tmp_path):
    larger = pillow_heif.open_heif(heic).to_pillow().resize((800, 800))
    pillow_heif.from_pillow(larger).save(tmp_path / "t.heic", thumbnails=[500])
    assert pillow_heif.open_heif(tmp_path / "t.heic").info["thumbnails"]
    pixels, reduction = images.read_reduced(tmp_path / "t.heic", 200)
    assert (pixels.shape, reduction) == ((800, 800, 3), 1)


def test_a_damaged_heif_is_a_decode_error(extractor, heic):
    data = heic.read_bytes()
    for cut in (data[:40], data[: len(data) // 2], b"\0\0\0\x1cftypheic" + bytes(99)):
        (record,) = extractor.extract_records(cut)
        assert record.status is Status.DECODE_ERROR


def test_without_pillow_heif_it_says_what_to_install(heic):
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"  # as if it were not installed
        "from fever_extract import images\n"
        "try: images.read(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", code, heic], capture_output=True, text=True, check=True
    )
    assert "pip install 'fever-extract[heif]'" in output.stdout


@pytest.mark.usefixtures("toy")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_settings_and_plugins_reach_workers(extractor, astronaut, heic, tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "heif.heic").write_bytes(heic.read_bytes())
    (folder / "toy.tga").write_bytes(toy_plugin.encode(astronaut.resize((256, 256))))
    jpeg = io.BytesIO()
    astronaut.save(jpeg, "JPEG", quality=90)
    (folder / "cut.jpg").write_bytes(jpeg.getvalue()[: -len(jpeg.getvalue()) // 8])
    astronaut.resize((700, 700)).save(folder / "large.png")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600 * 600)
    expected = [Status.OK, Status.OK, Status.DECODE_ERROR, Status.OK]  # cut, heif, large, toy
    extractor.extract_folder(folder, tmp_path / "table.parquet")
    x, table = fever_extract.load(tmp_path / "table.parquet")
    assert table["status"].to_pylist() == expected
    extractor.extract_folder(folder, tmp_path / "shards", workers=1)
    y, table = fever_extract.load(tmp_path / "shards")
    assert table["status"].to_pylist() == expected
    np.testing.assert_allclose(x, y, atol=1e-4)


def test_the_command_reads_heif(heic, tmp_path, capsys):
    output = tmp_path / "t.parquet"
    assert in_process(capsys, "extract", heic, "-o", output, "--device", "cpu")[0] == 0
    assert fever_extract.load(output)[1]["status"].to_pylist() == ["ok"]


def test_a_plugin_that_cannot_be_sent_is_named(toy):
    class Local(toy_plugin.ToyImageFile):
        pass

    Image.register_open("TOY", Local, toy_plugin.accept)
    sent = PillowSettings.of_this_process()
    with pytest.warns(UserWarning, match="plug-in for TOY files can't be sent"):
        sent.warn()
    assert "TOY" not in dict(sent.plugins)


def test_a_plugin_that_is_missing_there_costs_its_own_images_only(caplog):
    before = set(Image.OPEN)
    PillowSettings(Image.MAX_IMAGE_PIXELS, False, (("X", b"cno_such_module\nX\n."),)).apply()
    assert set(Image.OPEN) == before
    assert "plug-in for X files is not here" in caplog.text
