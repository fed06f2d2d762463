"""Data sets in their owners' formats, small, to tables, and the tables to arrays."""

import hashlib
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import write_csv
from PIL import Image
from skimage.data import lfw_subset

from fever_extract import alignment
from fever_extract.detection.detector import Detector
from fever_extract.models.config import EXPRESSIONS
from fever_extract.training import __main__ as command
from fever_extract.training.data import prepare as stage
from fever_extract.training.data.faces import majority, read, read_ferplus, read_triplets
from fever_extract.training.data.portrait import cut_out
from fever_extract.training.data.prepare import prepare
from fever_extract.training.data.readers import affectnet, rafdb
from fever_extract.training.data.readers.sample import Sample

TRIPLET_TYPE = "ONE_CLASS_TRIPLET"


def face(number: int, side: int = 48) -> Image.Image:
    """A face of skimage's lfw_subset, grey and cut tight."""
    grey = Image.fromarray((lfw_subset()[number] * 255).astype(np.uint8))
    return grey.resize((side, side), Image.Resampling.BICUBIC)


def eyes_are_level_and_inside(landmarks: np.ndarray, side: int) -> bool:
    left, right, nose, *mouth = landmarks
    return bool(
        0 < left[0] < nose[0] < right[0] < side
        and max(left[1], right[1]) < nose[1] < min(y for _, y in mouth) < side
    )


# FER+: two CSV files whose rows belong together


def write_ferplus(folder: Path, pictures: str = "fer2013.csv") -> list[Image.Image]:
    votes = "neutral happiness surprise sadness anger disgust fear contempt unknown NF".split()
    labels = [
        ["Usage", "Image name", *votes],
        ["Training", "fer0000000.png", 4, 0, 0, 1, 3, 2, 0, 0, 0, 0],
        ["Training", "", 0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
        ["PublicTest", "fer0028639.png", 0, 0, 0, 0, 0, 0, 0, 6, 4, 0],
        ["PrivateTest", "fer0032220.png", 0, 10, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    faces = [face(number) for number in range(4)]
    pixels = [" ".join(map(str, np.asarray(picture).ravel())) for picture in faces]
    usages = [row[0] for row in labels[1:]]
    if pictures == "icml_face_data.csv":
        rows = [["emotion", " Usage", " pixels"], *([0, u, p] for u, p in zip(usages, pixels))]
    else:
        rows = [["emotion", "pixels", "Usage"], *([0, p, u] for u, p in zip(usages, pixels))]
    write_csv(folder / "fer2013new.csv", labels)
    write_csv(folder / pictures, rows)
    return faces


@pytest.mark.parametrize("pictures", ["fer2013.csv", "icml_face_data.csv"])
def test_ferplus_from_its_csv_files(tmp_path, pictures):
    originals = write_ferplus(tmp_path / "sets", pictures)
    prepare("ferplus", [tmp_path / "sets"], tmp_path / "ferplus.parquet", device="cpu")
    train = read_ferplus(tmp_path, "train")
    assert train.names.tolist() == ["fer0000000.png"], "what FER+ removed is left out"
    assert np.array_equal(train.images[0], np.asarray(originals[0])), "not a pixel is changed"
    assert train.expression[0].tolist() == pytest.approx([4 / 9, 0, 0, 0, 3 / 9, 2 / 9, 0, 0])
    valid, test = read_ferplus(tmp_path, "valid"), read_ferplus(tmp_path, "test")
    assert np.array_equal(valid.images[0], np.asarray(originals[2]))
    assert valid.expression[0].tolist() == pytest.approx([*[0] * 7, 0.6])
    assert majority(test.expression).tolist() == [EXPRESSIONS.index("happiness")]
    assert eyes_are_level_and_inside(test.landmarks[0], 48)
    assert test.blendshapes.shape == (1, 0)


def test_ferplus_as_our_table_has_it(data, tmp_path):
    """The first rows of our table, taken apart into the owners' files, come back the same."""
    columns = [
        "split",
        "name",
        *(f"votes_{name}" for name in (*EXPRESSIONS, "unknown", "not_face")),
    ]
    table = pq.ParquetFile(data / "ferplus.parquet")
    few = next(table.iter_batches(4, columns=[*columns, "image", "landmarks"]))
    usages = {"train": "Training", "valid": "PublicTest", "test": "PrivateTest"}
    votes = "neutral happiness surprise sadness anger disgust fear contempt unknown NF".split()
    labels, pictures = [["Usage", "Image name", *votes]], [["emotion", "pixels", "Usage"]]
    for row in few.to_pylist():
        usage = usages[row["split"]]
        labels.append([usage, *(row[name] for name in columns[1:])])
        pixels = np.asarray(Image.open(io.BytesIO(row["image"]))).ravel()
        pictures.append([0, " ".join(map(str, pixels)), usage])
    write_csv(tmp_path / "fer2013new.csv", labels)
    write_csv(tmp_path / "fer2013.csv", pictures)
    prepare("ferplus", [tmp_path], tmp_path / "ferplus.parquet", device="cpu")
    pq.write_table(pa.Table.from_batches([few]), tmp_path / "ours.parquet")
    theirs = read_ferplus(tmp_path, "train")
    ours = read(tmp_path / "ours.parquet", "train", size=48)
    assert np.array_equal(theirs.names, ours.names)
    assert np.array_equal(theirs.images, ours.images)
    assert np.array_equal(theirs.expression, ours.expression)
    assert np.nanmedian(np.abs(theirs.landmarks - ours.landmarks)) < 1


def test_ferplus_files_that_do_not_belong_together(tmp_path):
    write_ferplus(tmp_path)
    lines = (tmp_path / "fer2013.csv").read_text().splitlines(keepends=True)
    (tmp_path / "fer2013.csv").write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match="one ends before line 5"):
        prepare("ferplus", [tmp_path], tmp_path / "a.parquet")
    (tmp_path / "fer2013.csv").write_text("".join([*lines[:3], lines[4], lines[3]]))
    with pytest.raises(ValueError, match=r"line 4: Usage is 'PublicTest' .* 'PrivateTest'"):
        prepare("ferplus", [tmp_path], tmp_path / "a.parquet")
    (tmp_path / "fer2013.csv").write_text("emotion,pixels\n" + lines[1])
    with pytest.raises(ValueError, match="no column Usage"):
        prepare("ferplus", [tmp_path], tmp_path / "a.parquet")
    (tmp_path / "fer2013.csv").write_text("".join([*lines[:2], lines[2][:20]]))
    with pytest.raises(ValueError, match="line 3 has 2 columns, not 3"):
        prepare("ferplus", [tmp_path], tmp_path / "a.parquet")


# AffectNet: lists in CSV, or a file a number


def write_affectnet_lists(folder: Path, astronaut: Image.Image) -> None:
    header = (
        "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression "
        "valence arousal"
    ).split()
    box, points = [170, 50, 110, 130], "195.5;110.2;200.1;118.0"
    lists = folder / "Manually_Annotated_file_lists"
    write_csv(
        lists / "training.csv",
        [
            header,
            ["689/a.jpg", *box, points, 3, 0.25, 0.75],
            ["689/b.jpg", *box, points, 7, -0.5, 0.5],
            ["689/c.jpg", *box, points, 8, 0.1, 0.2],
            ["689/d.jpg", *box, points, 9, -2, -2],
            ["689/e.jpg", *["NULL"] * 5, 10, -2, -2],
        ],
    )
    # Its owner's validation list has no header.
    write_csv(lists / "validation.csv", [["1/f.jpg", *box, points, 6, -2, -2]])
    for name in ("689/a.jpg", "689/b.jpg", "689/c.jpg", "1/f.jpg"):
        path = folder / "Manually_Annotated_Images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        astronaut.save(path)


def test_affectnet_from_its_lists(tmp_path, astronaut, capsys):
    write_affectnet_lists(tmp_path, astronaut)
    table = prepare("affectnet", [tmp_path], tmp_path / "affectnet.parquet", device="cpu")
    assert "2 faces left out" in capsys.readouterr().out
    train, valid = read(table, "train"), read(table, "valid")
    assert train.names.tolist() == ["689/a.jpg", "689/b.jpg", "689/c.jpg"]
    classes = [EXPRESSIONS[row.argmax()] if row.any() else None for row in train.expression]
    assert classes == ["surprise", "contempt", None], "none of the eight has no label"
    assert train.valence_arousal.tolist() == [
        pytest.approx([0.25, 0.75]),
        pytest.approx([-0.5, 0.5]),
        pytest.approx([0.1, 0.2]),
    ]
    assert EXPRESSIONS[valid.expression[0].argmax()] == "anger"
    assert np.isnan(valid.valence_arousal).all(), "-2 is no valence"
    assert all(eyes_are_level_and_inside(points, 96) for points in train.landmarks)


def test_affectnet_with_seven_classes(tmp_path, astronaut):
    write_affectnet_lists(tmp_path, astronaut)
    found = list(affectnet.samples([tmp_path], classes=7))
    assert [sample.name for sample in found] == ["689/a.jpg", "689/c.jpg", "1/f.jpg"]


def test_affectnet_from_its_npy_files(tmp_path, astronaut):
    for part, label, valence in (("train_set", 1, 0.5), ("val_set", 0, -2.0)):
        for folder in ("images", "annotations"):
            (tmp_path / part / folder).mkdir(parents=True)
        astronaut.crop((150, 30, 300, 180)).resize((224, 224)).save(
            tmp_path / part / "images" / "10.jpg"
        )
        # As they are distributed: numbers, saved as text.
        for name, value in (("exp", label), ("val", valence), ("aro", 0.25)):
            np.save(tmp_path / part / "annotations" / f"10_{name}.npy", np.array(str(value)))
    table = prepare("affectnet", [tmp_path], tmp_path / "affectnet.parquet", device="cpu")
    train, valid = read(table, "train"), read(table, "valid")
    assert (train.names[0], valid.names[0]) == ("train_set/10.jpg", "val_set/10.jpg")
    assert EXPRESSIONS[train.expression[0].argmax()] == "happiness"
    assert train.valence_arousal[0].tolist() == [0.5, 0.25]
    assert np.isnan(valid.valence_arousal[0]).tolist() == [True, False]
    assert eyes_are_level_and_inside(train.landmarks[0], 96)


def test_each_class_keeps_its_name():
    assert [EXPRESSIONS[affectnet.CLASSES[number]] for number in range(8)] == (
        "neutral happiness sadness surprise fear disgust anger contempt".split()
    )
    assert [EXPRESSIONS[rafdb.CLASSES[number]] for number in range(1, 8)] == (
        "surprise fear disgust happiness sadness anger neutral".split()
    )


# RAF-DB: a list of labels, aligned or original pictures


def write_rafdb(folder: Path, astronaut: Image.Image) -> None:
    for part in ("EmoLabel", "Image/aligned", "Image/original", "Annotation/boundingbox"):
        (folder / part).mkdir(parents=True)
    labels = "train_00001.jpg 5\ntest_0001.jpg 4\n"
    (folder / "EmoLabel" / "list_patition_label.txt").write_text(labels)
    for name in ("train_00001", "test_0001"):
        face(5, 100).convert("RGB").save(folder / "Image/aligned" / f"{name}_aligned.jpg")
        two = Image.new("RGB", (900, 512))
        two.paste(astronaut, (0, 0))
        two.paste(astronaut.crop((170, 50, 280, 180)), (700, 300))
        two.save(folder / "Image/original" / f"{name}.jpg")
        box = folder / "Annotation/boundingbox" / f"{name}_boundingbox.txt"
        box.write_text("715.0 310.0 795.0 420.0 \n")


def test_rafdb_aligned(tmp_path, astronaut):
    write_rafdb(tmp_path / "basic", astronaut)
    table = prepare("rafdb", [tmp_path], tmp_path / "rafdb.parquet", device="cpu")
    train, test = read(table, "train", size=100), read(table, "test")
    assert EXPRESSIONS[train.expression[0].argmax()] == "sadness"
    assert EXPRESSIONS[test.expression[0].argmax()] == "happiness"
    own = (tmp_path / "basic/Image/aligned/train_00001_aligned.jpg").read_bytes()
    assert pq.read_table(table)["image"][0].as_py() == own, "small pictures stay as they are"
    assert eyes_are_level_and_inside(train.landmarks[0], 100)


def test_rafdb_original_has_the_face_in_its_box(tmp_path, astronaut):
    write_rafdb(tmp_path / "basic", astronaut)
    shutil.rmtree(tmp_path / "basic" / "Image" / "aligned")
    table = prepare("rafdb", [tmp_path / "basic"], tmp_path / "rafdb.parquet", device="cpu")
    picture = Image.open(io.BytesIO(pq.read_table(table)["image"][0].as_py()))
    assert picture.width == picture.height <= 192
    faces = read(table, "test", size=192)
    # The pasted face has black about it, the astronaut's own has not.
    assert eyes_are_level_and_inside(faces.landmarks[0], 192)
    assert np.abs(faces.landmarks[0].mean(axis=0) - 96).max() < 30
    assert (faces.images[0][:5] < 20).all()


# Google's FEC: triplets of addresses and boxes


def fec_row(urls: list[str], votes: list[int], kind: str = TRIPLET_TYPE) -> list:
    box = [0.33, 0.55, 0.1, 0.36]  # left, right, top, bottom
    cells = [cell for url in urls for cell in (url, *box)]
    return [*cells, kind, *(x for i, vote in enumerate(votes) for x in (f"annotator_{i}", vote))]


@pytest.fixture
def fec_folder(tmp_path, astronaut):
    urls = [f"http://farm1.example/{number}_o.jpg" for number in range(5)]
    rows = [
        fec_row(urls[:3], [2, 2, 2, 1, 2, 3]),
        fec_row(urls[1:4], [1, 1, 3, 3, 2, 2]),  # no majority
        fec_row([urls[0], urls[2], urls[4]], [3] * 6),  # 4 can't be fetched any more
        ["http://torn.example/row"],
    ]
    folder = tmp_path / "fec"
    write_csv(folder / "faceexp-comparison-data-train-public.csv", rows)
    write_csv(
        folder / "faceexp-comparison-data-test-public.csv", [fec_row(urls[:3][::-1], [1] * 5)]
    )
    (folder / "images").mkdir()
    for url in urls[:3]:
        name = hashlib.sha1(url.encode()).hexdigest() + ".jpg"
        astronaut.save(folder / "images" / name)
    return folder


def test_fec_triplets_over_local_images(fec_folder, tmp_path, capsys):
    table = prepare("fec", [fec_folder], tmp_path / "fec.parquet", device="cpu")
    said = capsys.readouterr().out
    assert "1 of 4 faces have no photograph" in said
    assert "1 triplets of faceexp-comparison-data-train-public.csv left out: no face" in said
    assert "1 triplets of faceexp-comparison-data-train-public.csv left out: not in" in said
    faces = read(table)
    assert len(faces) == 3
    assert all(eyes_are_level_and_inside(points, 96) for points in faces.landmarks)
    triplets = read_triplets(tmp_path / "fec.triplets.parquet", faces)
    assert triplets.indices.tolist() == [[0, 1, 2], [2, 1, 0]], "the one without a face is not here"
    assert triplets.odd.tolist() == [1, 0]
    assert pq.read_table(tmp_path / "fec.triplets.parquet").num_rows == 3
    with pytest.raises(ValueError, match="is no table of triplets"):
        read_triplets(table, faces)


def test_fec_files_may_be_listed(fec_folder, tmp_path, astronaut):
    shutil.rmtree(fec_folder / "images")
    astronaut.save(fec_folder / "any name.jpg")
    url = "http://farm1.example/0_o.jpg"
    write_csv(fec_folder / "files.csv", [["url", "file"], [url, "any name.jpg"]])
    faces = read(prepare("fec", [fec_folder], tmp_path / "fec.parquet", device="cpu"))
    assert len(faces) == 1
    (fec_folder / "any name.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"none of the 4 photographs .*SHA-1"):
        prepare("fec", [fec_folder], tmp_path / "fec.parquet")


# Folders


def test_class_folders(tmp_path, astronaut, landscape, capsys):
    for folder in ("train/Happy", "train/sadness", "val/neutral"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    astronaut.save(tmp_path / "set" / "train/Happy/a.jpg")
    Image.fromarray(landscape).save(tmp_path / "set" / "train/Happy/b.jpg")
    astronaut.save(tmp_path / "set" / "train/sadness/a.png")
    (tmp_path / "set" / "train/sadness/torn.jpg").write_bytes(b"no picture")
    turned = astronaut.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned back by whoever shows it
    turned.save(tmp_path / "set" / "val/neutral/c.jpg", exif=exif)
    table = prepare("class-folders", [tmp_path / "set"], tmp_path / "set.parquet", device="cpu")
    said = capsys.readouterr().out
    assert "left out: train/Happy/b.jpg: no face was found" in said
    assert "left out: train/sadness/torn.jpg: could not be decoded" in said
    left_out = json.loads(pq.read_schema(table).metadata[b"left_out"])
    assert sorted(left_out) == ["train/Happy/b.jpg", "train/sadness/torn.jpg"]
    train, valid = read(table, "train"), read(table, "valid")
    assert train.names.tolist() == ["train/Happy/a.jpg", "train/sadness/a.png"]
    assert majority(train.expression).tolist() == [1, 3]
    assert majority(valid.expression).tolist() == [0]
    assert eyes_are_level_and_inside(valid.landmarks[0], 96), "EXIF orientation is applied"


def test_a_folder_that_is_no_expression_is_named(tmp_path):
    (tmp_path / "set" / "bored").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"bored: its name is none of the expressions .* adapt"):
        prepare("class-folders", [tmp_path / "set"], tmp_path / "a.parquet")


def test_unlabelled_faces(tmp_path, astronaut):
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    astronaut.save(tmp_path / "photos" / "sub" / "a.jpg")
    faces = read(prepare("unlabelled", [tmp_path / "photos"], tmp_path / "a.parquet"))
    assert faces.names.tolist() == ["sub/a.jpg"]
    assert not faces.expression.any()
    assert np.isnan(faces.valence_arousal).all()
    with pytest.raises(ValueError, match="is a table already"):
        prepare("unlabelled", [tmp_path / "a.parquet"], tmp_path / "b.parquet")


# Where the faces are


def test_faces_are_aligned_as_in_extraction(tmp_path, astronaut, extractor):
    preprocessing = extractor.config.preprocessing
    astronaut.save(tmp_path / "a.png")
    faces = read(prepare("unlabelled", [tmp_path], tmp_path / "a.parquet"), size=192)
    stored = np.repeat(faces.images[0][..., None], 3, axis=2)
    here = alignment.align(stored, faces.landmarks, preprocessing)
    grey = np.repeat(np.asarray(astronaut.convert("L"))[..., None], 3, axis=2)
    landmarks = extractor.extract_faces(astronaut)[0].landmarks
    there = alignment.align(grey, landmarks[None], preprocessing)
    assert (here - there).abs().mean() < 2


def test_a_tight_crop_has_the_landmarks_of_the_photograph(astronaut, extractor):
    box = (178, 62, 268, 172)
    buffer = io.BytesIO()
    astronaut.crop(box).save(buffer, "PNG")
    sample = Sample("a", "train", buffer.getvalue(), is_crop=True)
    found = cut_out(sample, Detector("cpu"))
    there = extractor.extract_faces(astronaut)[0].landmarks - box[:2]
    picture = Image.open(io.BytesIO(found.image))
    shift = (picture.width - 90) / 2, (picture.height - 110) / 2  # made square
    assert np.abs(found.landmarks - shift - there).max() < 0.03 * 110


# What is missing, what is stopped


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ferplus", r"fer2013new\.csv is missing in .*microsoft/FERPlus"),
        (
            "affectnet",
            r"no AffectNet in .*training\.csv and validation\.csv.*train_set and val_set",
        ),
        ("rafdb", r"EmoLabel/list_patition_label\.txt is missing in .*researchers who ask"),
        ("fec", r"faceexp-comparison-data-train-public\.csv is missing in .*FEC_dataset\.zip"),
        ("class-folders", r"no pictures in class folders; .*named neutral, happiness"),
        ("unlabelled", "no pictures here or below"),
    ],
)
def test_what_is_missing_is_named(tmp_path, kind, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        prepare(kind, [tmp_path / "empty"], tmp_path / "a.parquet")
    assert os.listdir(tmp_path) == ["empty"]


def test_missing_parts_are_named(tmp_path, astronaut):
    write_ferplus(tmp_path / "fer")
    (tmp_path / "fer" / "fer2013.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"fer2013\.csv or icml_face_data\.csv is missing"):
        prepare("ferplus", [tmp_path / "fer"], tmp_path / "a.parquet")
    write_affectnet_lists(tmp_path / "affectnet", astronaut)
    shutil.rmtree(tmp_path / "affectnet" / "Manually_Annotated_Images")
    with pytest.raises(FileNotFoundError, match="Manually_Annotated_Images is missing beside"):
        prepare("affectnet", [tmp_path / "affectnet"], tmp_path / "a.parquet")
    write_rafdb(tmp_path / "basic", astronaut)
    shutil.rmtree(tmp_path / "basic" / "Image")
    with pytest.raises(FileNotFoundError, match="Image/aligned or Image/original is missing"):
        prepare("rafdb", [tmp_path / "basic"], tmp_path / "a.parquet")


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    (tmp_path / "faces").mkdir()
    for number in range(6):
        face(number, 100).save(tmp_path / "faces" / f"{number}.png")
    output = tmp_path / "faces.parquet"
    monkeypatch.setattr(stage, "PART", 2)
    cut_out, seen = stage.cut_out, []

    def counted(sample, detector):
        seen.append(sample.name)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return cut_out(sample, detector)

    monkeypatch.setattr(stage, "cut_out", counted)
    with pytest.raises(KeyboardInterrupt):
        prepare("unlabelled", [tmp_path / "faces"], output, device="cpu")
    assert not output.exists()
    stopped = len(seen)
    face(7, 100).save(tmp_path / "faces" / "0.png")  # its part is to be done again
    prepare("unlabelled", [tmp_path / "faces"], output, device="cpu")
    again = seen[stopped:]
    assert sorted(again) == ["0.png", "1.png", "4.png", "5.png"]
    assert sorted(os.listdir(tmp_path)) == ["faces", "faces.parquet"], "no parts are left"
    faces = read(output, size=100)
    assert set(faces.names) <= {f"{number}.png" for number in range(6)}
    assert np.array_equal(faces.images[0], np.asarray(face(7, 100)))


def test_the_command(tmp_path, astronaut, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    astronaut.save(tmp_path / "photos" / "a.jpg")
    output = tmp_path / "faces.parquet"
    arguments = ["prepare", "unlabelled", str(tmp_path / "photos"), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["fever_extract.training", *arguments])
    command.main()
    assert re.search(r"faces\.parquet: 1 faces$", capsys.readouterr().out.strip())
    assert len(read(output)) == 1
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--classes", "7"])
    with pytest.raises(ValueError, match="for affectnet only"):
        command.main()


def test_tables_that_can_not_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is missing; .*prepare"):
        read(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        read(tmp_path / "a.parquet")
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no column image, landmarks"):
        read(tmp_path / "a.parquet")
