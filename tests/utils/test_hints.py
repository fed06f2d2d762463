"""What users give for images by mistake, and the line that tells them."""

import base64
import io
import os
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from fever_extract import ExtractionError, FeverTransformer, Options, Status, images
from fever_extract.jobs.sources import find


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


TABLES = {
    "data frame": pd.DataFrame({"label": [1, 2], "path": ["a.jpg", "b.jpg"]}),
    "one column": pd.DataFrame({"path": ["a.jpg"]}),
    "dict": {"label": [1, 2], "path": ["a.jpg", "b.jpg"]},
    "pyarrow": pa.table({"label": [1, 2], "path": ["a.jpg", "b.jpg"]}),
    "pyarrow batch": pa.record_batch({"label": [1, 2], "path": ["a.jpg", "b.jpg"]}),
    "structured array": np.array([(1, "a.jpg")], [("label", "i4"), ("path", "U9")]),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_and_mappings_are_no_list_of_images(extractor, kind):
    for call in (extractor.extract, extractor.extract_records, extractor.extract_faces):
        with pytest.raises(TypeError, match=r"such as x\['path'\]") as caught:
            call(TABLES[kind])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["dict", "pyarrow"])
def test_nor_are_they_for_a_transformer_or_a_folder(kind):
    with pytest.raises(TypeError, match=r"such as x\['path'\]"):
        FeverTransformer().fit(TABLES[kind])
    with pytest.raises(TypeError, match=r"such as x\['path'\]"):
        find(TABLES[kind])


def test_polars(extractor):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"label": [1], "path": ["a.jpg"]})
    for table in (frame, frame.lazy()):
        with pytest.raises(TypeError, match=r"such as x\['path'\]"):
            extractor.extract(table)


@pytest.mark.filterwarnings("ignore:.*rows of NaN")
@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a.jpg", "b.jpg"]),
        pd.Index(["a.jpg", "b.jpg"]),
        np.array(["a.jpg", "b.jpg"]),
        np.array(["a.jpg", "b.jpg"], object),
        {"a.jpg": 0, "b.jpg": 1}.keys(),
        ("a.jpg", "b.jpg"),
        iter(["a.jpg", "b.jpg"]),
    ],
)
def test_columns_are(extractor, column):
    assert extractor.extract(column).shape == (2, extractor.embedding_dim)


@pytest.mark.skipif(not hasattr(np, "dtypes") or np.__version__ < "2", reason="numpy 2 has it")
@pytest.mark.filterwarnings("ignore:.*rows of NaN")
def test_numpys_texts_of_any_length(extractor):
    column = np.array(["a.jpg", "b.jpg"], np.dtypes.StringDType())
    assert extractor.extract(column).shape == (2, extractor.embedding_dim)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a.jpg"}, "a set has no order"),
        (np.array([b"a.jpg"]), r"array\.astype\(str\)"),
        (np.array([["a.jpg"]]), r"array\.ravel\(\)"),
        (bytearray(b"123"), r"bytes\(\.\.\.\)"),
        (memoryview(b"123"), r"bytes\(\.\.\.\)"),
        ([{"bytes": b"123"}], "the value that holds the image"),
        ([float("nan")], "a missing value"),
        (io.BytesIO(b"123"), r"its read\(\)"),
        (pa.array(["a.jpg"]), r"column\.to_pylist\(\)"),
    ],
)
def test_other_objects(extractor, given, message):
    with pytest.raises(TypeError, match=message):
        extractor.extract(given)


def test_a_files_bytes_as_an_array(extractor):
    with pytest.raises(ValueError, match=r"array\.tobytes\(\)"):
        extractor.extract(np.frombuffer(png(), np.uint8))


TEXTS = {
    "https://user:secret@host/a.jpg?token=secret": r"an address \(https://\) is no path",
    "s3://KEY:secret@bucket/a.jpg": r"an address \(s3://\) is no path",
    "photos/*.jpg": "globs are for extract_folder",
    "~/a.jpg": "expanduser",
    "": "an empty text",
    "a\0.jpg": "NUL",
    "x" * 5000: "a text of 5000 characters is no path",
    base64.b64encode(png()).decode(): "base64 text",
    "data:image/png;base64," + base64.b64encode(png()).decode(): "base64 text",
    "missing.jpg": r"missing\.jpg does not exist$",
}


@pytest.mark.parametrize("text", TEXTS)
def test_texts_that_are_no_paths(extractor, text):
    (record,) = extractor.extract_records(text)
    assert record.status is Status.NOT_FOUND
    with pytest.raises(ExtractionError, match=TEXTS[text]):
        images.read(text)
    assert len(record.error) < 250
    assert "secret" not in record.error


def test_a_base64_text_that_is_too_long_for_a_name():
    with pytest.raises(ExtractionError, match="base64 text"):
        images.read("/9j/" * 200)


def test_extract_says_why_there_is_no_vector(extractor, tmp_path):
    with pytest.warns(UserWarning, match="is a folder; extract_folder takes whole folders"):
        extractor.extract(tmp_path)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", png())
    return buffer.getvalue()


CONTENTS = {
    zipped(): "a zip archive; unpack it",
    b"\x1f\x8b" + b"\0" * 99: "compressed by gzip",
    b"%PDF-1.7": "a PDF",
    b"\0\0\0\x20ftypheic" + b"\0" * 99: "HEIC, which needs pillow-heif",
    b"\0\0\0\x20ftypisom" + b"\0" * 99: "a clip; extract_video",
    b"\n<!DOCTYPE html>": "a web page",
    b"version https://git-lfs.github.com/spec/v1\n": "git lfs pull",
    base64.b64encode(png()): "base64 text",
    b"nothing of the kind": "or its header is damaged",
}


@pytest.mark.parametrize("number", range(len(CONTENTS)))
def test_contents_that_are_no_images(tmp_path, number):
    content, message = list(CONTENTS.items())[number]
    (tmp_path / "a.jpg").write_bytes(content)
    for given in (content, tmp_path / "a.jpg"):
        with pytest.raises(ExtractionError, match=message) as caught:
            images.read(given)
        assert caught.value.status is Status.DECODE_ERROR


def test_a_path_as_bytes(tmp_path):
    (tmp_path / "picture").write_bytes(png())
    for given in (os.fsencode(tmp_path / "picture"), b"missing.jpg"):
        with pytest.raises(ExtractionError, match=r"os\.fsdecode\(path\)"):
            images.read(given)


@pytest.mark.parametrize("name", ["a.zip", "a.7z", "a.RAR"])
def test_archives_as_sources(tmp_path, name):
    (tmp_path / name).write_bytes(zipped())
    with pytest.raises(ValueError, match="unpack it"):
        find(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"all_faces": True}, "extract_faces gives every face"),
        ({"allfaces": True}, "did you mean 'all_faces'"),
        ({"Batch_Size": 3}, "did you mean 'batch_size'"),
        ({"qwertz": 3}, "there are batch_size, select"),
        ({"batch_size": "8"}, "batch_size must be a whole number, not '8'"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"min_confidence": None}, "min_confidence must be a number"),
    ],
)
def test_options_that_do_not_exist_or_are_of_a_wrong_type(extractor, options, message):
    with pytest.raises(TypeError, match=message):
        extractor.extract(["a.jpg"], **options)


@pytest.mark.parametrize("changes", [{"aligned": "no"}, {"min_face_size": float("nan")}])
def test_options_of_a_wrong_value(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        Options(**changes)


def test_numbers_of_numpy_are_written_like_others():
    options = Options(detect_size=np.int64(640), min_face_size=np.float32(24), aligned=np.True_)
    settings = options.settings()
    assert [type(settings[name]) for name in ("detect_size", "min_face_size", "aligned")] == [
        int,
        float,
        bool,
    ]
