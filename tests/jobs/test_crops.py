"""Aligned crops on disk: a picture for each row, and nowhere else."""

import io
import re
import tarfile
from pathlib import PurePath

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import cosine, in_process
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fever_extract.jobs.crops import Crops, crop_path
from fever_extract.jobs.sources import Input


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut, landscape):
    root = tmp_path_factory.mktemp("photos")
    (root / "sub").mkdir()
    astronaut.save(root / "a.jpg")
    side_by_side = Image.new("RGB", (1024, 512))
    side_by_side.paste(astronaut, (0, 0))
    side_by_side.paste(astronaut.rotate(20), (512, 0))
    side_by_side.save(root / "sub" / "two faces.png")
    Image.fromarray(landscape).save(root / "none.jpg")
    (root / "broken.jpg").write_bytes(b"broken")
    return root


def test_a_crop_for_every_row_with_a_face(photos, extractor, tmp_path, capsys):
    table, crops = tmp_path / "f.parquet", tmp_path / "new" / "crops"
    arguments = [photos, "-o", table, "--all-faces", "--save-crops", crops]
    assert in_process(capsys, "extract", *arguments)[0] == 0
    rows = [row for row in pq.read_table(table).to_pylist() if row["status"] == "ok"]
    assert len(rows) == 3
    expected = {crops / crop_path(row["path"], row["face_index"]) for row in rows}
    assert {file for file in crops.rglob("*") if file.is_file()} == expected
    for row in rows:
        file = crops / crop_path(row["path"], row["face_index"])
        assert Image.open(file).size == (224, 224)
        # It is the face that the vector is of, framed as the network sees it.
        again = extractor.extract(file, aligned=True)
        assert cosine(again, np.array(row["embedding"])) > 0.97


def test_whole_pictures_are_their_own_crops(extractor, astronaut, tmp_path):
    (tmp_path / "photos").mkdir()
    astronaut.save(tmp_path / "photos" / "a.png")
    extractor.extract_folder(
        tmp_path / "photos", tmp_path / "f.npz", aligned=True, save_crops=tmp_path / "crops"
    )
    crop = np.asarray(Image.open(tmp_path / "crops" / "a.png.0.jpg"), float)
    expected = np.asarray(astronaut.resize((224, 224), Image.Resampling.BOX), float)
    assert np.abs(crop - expected).mean() < 5


@pytest.mark.parametrize("where", [".", "crops"])
def test_crops_among_the_photographs_are_refused(photos, extractor, tmp_path, where):
    with pytest.raises(ValueError, match="give a folder elsewhere"):
        extractor.extract_folder(photos, tmp_path / "f.npz", save_crops=photos / where)
    assert not (photos / "crops").exists()
    assert not (tmp_path / "f.npz").exists()


def test_a_file_is_no_folder_of_crops(photos, extractor, tmp_path):
    (tmp_path / "crops").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        extractor.extract_folder(photos, tmp_path / "f.npz", save_crops=tmp_path / "crops")


@pytest.mark.parametrize(
    ("path", "crop"),
    [
        ("a.jpg", "a.jpg.0.jpg"),
        ("sub/a.jpg", "sub/a.jpg.0.jpg"),
        ("/etc/a.jpg", "%2Fetc/a.jpg.0.jpg"),
        ("../../a.jpg", "%2E%2E/%2E%2E/a.jpg.0.jpg"),
        ("%2E%2E/a.jpg", "%252E%252E/a.jpg.0.jpg"),
        ("..", "%2E%2E.0.jpg"),
    ],
)
def test_names(path, crop):
    assert crop_path(path, 0) == PurePath(crop)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(NAMES, NAMES)
def test_names_stay_inside_and_differ(one, other):
    crop = crop_path(one, 0)
    assert not crop.is_absolute()
    assert ".." not in crop.parts
    if PurePath(one) != PurePath(other):
        assert crop != crop_path(other, 0)


def test_long_and_odd_names_are_written(extractor, astronaut, tmp_path):
    (tmp_path / "photos").mkdir()
    names = [b"odd \xff.png".decode("utf-8", "surrogateescape"), "x" * 251 + ".png", "ß.png"]
    for name in names:
        astronaut.save(tmp_path / "photos" / name)
    extractor.extract_folder(
        tmp_path / "photos", tmp_path / "f.npz", save_crops=tmp_path / "crops", aligned=True
    )
    with np.load(tmp_path / "f.npz") as table:
        paths = table["path"].tolist()
    assert r"odd \xff.png" in paths
    assert {file.name for file in (tmp_path / "crops").iterdir()} == {
        crop_path(path, 0).name for path in paths
    }
    assert re.fullmatch(r"x+-[0-9a-f]{64}\.0\.jpg", crop_path("x" * 251, 0).name)


def crops(extractor, folder):
    return Crops(folder, extractor.config.preprocessing)


def test_names_that_no_file_can_have_and_names_that_meet(extractor, astronaut, tmp_path):
    """From archives, where anything goes: a crop for each row, or a message."""
    buffer = io.BytesIO()
    astronaut.resize((100, 100)).save(buffer, "JPEG")
    names = [
        "nul\0.jpg",
        "/".join(["n" * 100] * 60) + ".jpg",  # 6,000 bytes
        "a.jpg.0.jpg/b.jpg",
        "a.jpg",
        "a.jpg",
        "./a.jpg",
        "a.jpg.0-2.jpg/c.jpg",
        "a.jpg.0-2",
        "../up.jpg",
        "line\nbreak.jpg",
    ]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in names:
            info = tarfile.TarInfo("x.jpg")
            info.size, info.pax_headers = len(buffer.getvalue()), {"path": name}
            archive.addfile(info, io.BytesIO(buffer.getvalue()))
    folder = tmp_path / "crops"
    summary = extractor.extract_folder(
        tmp_path / "a.tar", tmp_path / "f.npz", aligned=True, save_crops=folder
    )
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert summary.faces == len(files) == len(names)
    repeated = {path: names[: index + 1].count(path) for index, path in enumerate(names)}
    assert folder / crop_path("nul\0.jpg", 0) in files
    assert folder / crop_path("a.jpg", 0) in files
    assert folder / crop_path("a.jpg", 0, repeated["a.jpg"]) in files
    assert folder / crop_path("a.jpg", 0, 3) in files, "for ./a.jpg"


def test_a_crop_that_can_not_be_written_is_a_message(extractor, astronaut, tmp_path, recwarn):
    """Here since a folder is in its place, or a file in its folder's."""
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name in ("a\x1b[31m.jpg", "sub/b.jpg", "c.jpg"):
        astronaut.resize((100, 100)).save(tmp_path / "photos" / name)
    (tmp_path / "crops" / crop_path("a\x1b[31m.jpg", 0)).mkdir(parents=True)
    (tmp_path / "crops" / "sub").write_text("mine")
    summary = extractor.extract_folder(
        tmp_path / "photos", tmp_path / "f.npz", aligned=True, save_crops=tmp_path / "crops"
    )
    assert summary.faces == 3
    assert (tmp_path / "f.npz").exists()
    told = [str(one.message) for one in recwarn if "no crop of" in str(one.message)]
    assert [line.split(":")[0] for line in told] == [
        r"no crop of 'a\x1b[31m.jpg'",
        "no crop of 'sub/b.jpg'",
    ]
    assert (tmp_path / "crops" / "sub").read_text() == "mine"
    assert (tmp_path / "crops" / crop_path("c.jpg", 0)).is_file()
    leftover = [file.name for file in (tmp_path / "crops").rglob("*.tmp")]
    assert not leftover


def test_many_crops_that_can_not_be_written_are_counted(extractor, astronaut, tmp_path, recwarn):
    saved = crops(extractor, tmp_path)
    (record,) = extractor.extract_records(astronaut)
    for number in range(13):
        saved.save(Input(f"{number}.jpg", str(tmp_path / "gone.jpg")), record)
    saved.close()
    told = [str(one.message) for one in recwarn]
    assert len(told) == 11
    assert told[-1] == "no crop of 3 more photographs"


def test_a_photograph_that_is_gone(extractor, astronaut, tmp_path):
    (record,) = extractor.extract_records(astronaut)
    with pytest.warns(UserWarning, match=r"no crop of 'a\.jpg': .*does not exist"):
        crops(extractor, tmp_path).save(Input("a.jpg", str(tmp_path / "a.jpg")), record)
