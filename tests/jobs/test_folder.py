"""A folder becomes a table, whatever is in it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import toy_plugin
from helpers import workers
from PIL import Image

from fever_extract import Options, Status
from fever_extract.jobs import _extraction
from fever_extract.jobs.job import Job
from fever_extract.jobs.sources import find


@pytest.fixture(scope="module")
def folder(tmp_path_factory, astronaut, landscape):
    """40 pictures in two folders, 5 % of them broken, one without a face."""
    root = tmp_path_factory.mktemp("photos")
    (root / "sub").mkdir()
    for index in range(38):
        picture = astronaut.resize((200 + 7 * index, 200 + 5 * index))
        picture.save(root / ("sub" if index % 3 else "") / f"{index:02}.jpg")
    (root / "10b.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    (root / "sub" / "20b.png").write_bytes(b"")
    Image.fromarray(landscape).save(root / "zzz.webp")
    (root / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture(scope="module")
def parquet(extractor, folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("tables") / "features.parquet"
    summary = extractor.extract_folder(folder, output, batch_size=7)
    return summary, pq.read_table(output)


def test_all_good_rows_in_order_beside_records_for_the_bad(parquet, folder):
    summary, table = parquet
    paths = table["path"].to_pylist()
    statuses = dict(zip(paths, table["status"].to_pylist()))
    assert paths == sorted(paths, key=lambda path: (path.count(os.sep), path))
    assert len(paths) == 41
    assert statuses.pop("10b.jpg") == "decode_error"
    assert statuses.pop(os.path.join("sub", "20b.png")) == "decode_error"
    assert statuses.pop("zzz.webp") == "no_face"
    assert set(statuses.values()) == {"ok"}
    assert summary.images == 41
    assert summary.faces == 38
    assert summary.statuses == {Status.OK: 38, Status.DECODE_ERROR: 2, Status.NO_FACE: 1}
    assert {path for path, _, _ in summary.failures} == set(paths) - set(statuses)
    assert "38 ok, 1 no_face, 2 decode_error" in str(summary)


def test_the_vectors_are_those_of_extract(extractor_there, parquet, folder):
    _, table = parquet
    matrix = np.stack(table["embedding"].to_numpy())
    assert matrix.shape == (41, extractor_there.embedding_dim)
    with pytest.warns(UserWarning, match="3 of 41"):
        direct = extractor_there.extract([folder / path for path in table["path"].to_pylist()])
    np.testing.assert_allclose(matrix, direct, atol=1e-4)


def test_workers_write_the_same_table(extractor, parquet, folder, tmp_path):
    """Though one picture ends its process, again and again."""
    shutil.copytree(folder, tmp_path / "in")
    (tmp_path / "in" / "12.tga").write_bytes(toy_plugin.DEADLY)
    with toy_plugin.registered():
        summary = extractor.extract_folder(
            tmp_path / "in", tmp_path / "f.parquet", workers=2, batch_size=7
        )
    table = pq.read_table(tmp_path / "f.parquet")
    place = table["path"].to_pylist().index("12.tga")
    assert table["status"][place].as_py() == "crashed"
    assert "exit code 3" in table["error"][place].as_py()
    rest = table.filter(np.arange(42) != place)
    for name in ("path", "status", "error", "face_index", "expression"):
        assert rest[name].to_pylist() == parquet[1][name].to_pylist()
    np.testing.assert_allclose(
        np.stack(rest["embedding"].to_numpy()),
        np.stack(parquet[1]["embedding"].to_numpy()),
        atol=1e-4,
    )
    assert summary.statuses == {**parquet[0].statuses, Status.CRASHED: 1}


@pytest.mark.usefixtures("two_threads")
def test_many_photographs_are_for_workers(extractor, folder, tmp_path, monkeypatch):
    def started(**arguments):
        job = Job(folder, tmp_path / "f.npz", Options(), device="cpu", **arguments)
        with _extraction.Extraction(job, extractor._checkpoint, extractor._pipeline) as extraction:
            assert len(extraction.prepare(find(folder))) == 41
            return len(workers())

    assert started() == 0
    monkeypatch.setattr(_extraction, "MANY", 16)
    assert started() == 2
    assert started(workers=1) == 0


def test_a_row_describes_its_face(parquet):
    _, table = parquet
    names = json.loads(table.schema.metadata[b"fever_extract"])["expressions"]
    for row in table.to_pylist():
        if row["status"] != "ok":
            assert row["error"]
            assert np.isnan(row["expressions"]).all()
            assert row["face_index"] == -1
            assert np.isnan(row["score"])
            assert np.isnan(row["embedding"]).all()
            assert row["expression"] == ""
            continue
        x1, y1, x2, y2 = row["box"]
        eyes = np.array(row["landmarks"]).reshape(5, 2)[:2]
        assert ((eyes > (x1, y1)) & (eyes < (x2, y2))).all()
        assert row["face_size"] == pytest.approx(((x2 - x1) * (y2 - y1)) ** 0.5)
        assert row["probability"] == max(row["expressions"])
        assert row["expression"] == names[np.argmax(row["expressions"])]
        assert sum(row["expressions"]) == pytest.approx(1, abs=1e-4)
        assert row["expression"] == "happiness"
        assert 0.5 < row["probability"] <= 1
        assert (row["face_index"], row["error"], row["detected"]) == (0, "", True)


def test_the_table_names_what_made_it(extractor, parquet):
    _, table = parquet
    metadata = json.loads(table.schema.metadata[b"fever_extract"])
    assert metadata["weights_sha256"] == extractor.sha256
    assert metadata["version"]
    assert metadata["options"]["select"] == "largest"


def test_npz_and_csv_hold_the_same(extractor, parquet, folder, tmp_path):
    _, table = parquet
    extractor.extract_folder(folder, tmp_path / "f.npz")
    extractor.extract_folder(folder, tmp_path / "f.csv")
    expected = np.stack(table["embedding"].to_numpy())

    with np.load(tmp_path / "f.npz") as npz:
        assert npz["path"].tolist() == table["path"].to_pylist()
        assert npz["landmarks"].shape == (41, 5, 2)
        assert json.loads(str(npz["fever_extract"]))["weights_sha256"] == extractor.sha256
        np.testing.assert_allclose(npz["embedding"], expected, atol=1e-4)

    with open(tmp_path / "f.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == table["path"].to_pylist()
    vectors = [
        [float(row[f"embedding_{i}"]) for i in range(extractor.embedding_dim)] for row in rows
    ]
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    metadata = json.loads((tmp_path / "f.csv.json").read_text())
    assert metadata["weights_sha256"] == extractor.sha256


def test_all_faces_give_a_row_each(extractor, astronaut, tmp_path):
    canvas = np.full((512, 1024, 3), 90, np.uint8)
    canvas[:, :512], canvas[:, 512:] = np.array(astronaut), np.array(astronaut)
    Image.fromarray(canvas).save(tmp_path / "two.png")
    summary = extractor.extract_folder(tmp_path, tmp_path / "f.parquet", all_faces=True)
    rows = pq.read_table(tmp_path / "f.parquet")
    assert summary.images == 1
    assert summary.faces == 2
    assert rows["face_index"].to_pylist() == [0, 1]


def test_one_file_is_a_folder_of_one(extractor, folder, tmp_path):
    summary = extractor.extract_folder(folder / "00.jpg", tmp_path / "f.npz")
    assert summary.statuses == {Status.OK: 1}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_ends_no_run(extractor, folder, tmp_path):
    target = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")
    with open(target, "wb") as file:
        file.write((folder / "00.jpg").read_bytes())
    os.symlink(b"nowhere", os.path.join(os.fsencode(tmp_path), b"gone\xe9.jpg"))
    summary = extractor.extract_folder(tmp_path, tmp_path / "f.parquet")
    table = pq.read_table(tmp_path / "f.parquet")
    assert table["path"].to_pylist() == ["caf\\xe9.jpg", "gone\\xe9.jpg"]
    assert table["status"].to_pylist() == ["ok", "not_found"]
    assert "gone\\xe9.jpg does not exist" in table["error"].to_pylist()[1]
    assert summary.failures[0][0] == "gone\\xe9.jpg"


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        ("missing/f.parquet", FileNotFoundError, "missing does not exist"),
        ("f.xlsx", ValueError, r"\.parquet, \.npz, \.csv"),
    ],
)
def test_a_bad_output_is_refused_first(extractor, tmp_path, output, error, message):
    with pytest.raises(error, match=message):
        extractor.extract_folder("nowhere", tmp_path / output)


def test_empty_and_missing_folders(extractor, tmp_path):
    with pytest.raises(ValueError, match="no images in"):
        extractor.extract_folder(tmp_path, tmp_path / "f.npz")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        extractor.extract_folder("nowhere", tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("extension", "kill", "workers"),
    [("parquet", signal.SIGINT, 1), ("csv", signal.SIGINT, 2), ("npz", signal.SIGKILL, 2)],
)
def test_a_killed_run_leaves_the_old_table_whole(folder, tmp_path, extension, kill, workers):
    output = tmp_path / f"f.{extension}"
    output.write_bytes(b"the old table")
    # A background job's shell makes its children ignore SIGINT; the job here does not.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fever_extract.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "extract", folder, "-o", output, "--workers", str(workers)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while len(os.listdir(tmp_path)) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(kill)
    _, error = process.communicate()
    assert output.read_bytes() == b"the old table"
    if kill == signal.SIGINT:
        assert process.returncode == 130, error
        assert b"interrupted" in error
        assert os.listdir(tmp_path) == [output.name]


def test_an_output_that_can_not_be_written_is_told_first(extractor, folder, tmp_path):
    """A name too long for the file system, which no check of folders foresees."""
    started = []
    extractor_process = extractor._pipeline.process
    extractor._pipeline.process = lambda *a: started.append(1) or extractor_process(*a)
    try:
        with pytest.raises(OSError, match="too long"):
            extractor.extract_folder(folder, tmp_path / f"{'n' * 252}.npz")
    finally:
        del extractor._pipeline.process
    assert not started
    assert not list(tmp_path.iterdir())
