"""Who watches a job may go, and names may be hostile: the job is done, the terminal unharmed."""

import os
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from engines import here
from helpers import in_process

from fever_extract import ExtractionError, Status
from fever_extract._utils import names
from fever_extract.jobs._listing import Listing
from fever_extract.jobs.sources import find
from fever_extract.records import Summary
from fever_extract.tables.reading import read_table

EVIL = "a\x1b]0;owned\x07\n\u202egpj\x9b31m.jpg"
COMMAND = [sys.executable, "-m", "fever_extract.cli"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shells and devices of Linux")


@pytest.fixture
def photos(tmp_path, astronaut):
    folder = tmp_path / "photos"
    folder.mkdir()
    astronaut.resize((64, 64)).save(folder / "a.jpg")
    (folder / EVIL).write_bytes(b"broken")
    (folder / ("b" + EVIL.replace("jpg", "txt"))).write_bytes(b"no picture")
    return folder


def shell(line, tmp_path):
    """A shell's redirections of the command on the photographs."""
    line = line.replace("FEVER", " ".join(COMMAND))
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, check=False
    )


@pytest.mark.parametrize(
    "line",
    [
        "FEVER extract photos --aligned -o f.parquet 2>&-",
        "FEVER extract photos --aligned -o f.parquet >&-",
        "FEVER extract photos --aligned -o f.parquet <&- >&- 2>&-",
        "FEVER extract photos --aligned -o f.parquet > /dev/full",
        "FEVER extract photos --aligned -o f.parquet > /dev/full 2> /dev/full",
        "set -o pipefail; FEVER extract photos --aligned -o f.parquet | true",
        "FEVER extract photos --aligned -o shards --workers 1 <&- >&- 2>&-",
    ],
)
def test_the_job_is_done_whoever_watches(photos, tmp_path, line):
    done = shell(line, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    output = tmp_path / ("shards" if "shards" in line else "f.parquet")
    table = pq.read_table(output)
    assert sorted(table["status"].to_pylist()) == ["decode_error", "ok"]
    assert np.isfinite(np.stack(table["embedding"].to_numpy())).all(axis=1).sum() == 1


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("FEVER extract - -o f.csv <&-", 2, "fever-extract: standard input is closed"),
        ("FEVER extract nowhere -o f.csv 2>&-", 2, ""),
        ("FEVER --help | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("FEVER --version > /dev/full", 0, ""),
        ("FEVER info | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("FEVER info > /dev/full", 2, "fever-extract: [Errno 28]"),
    ],
)
def test_other_ends(photos, tmp_path, line, code, error):
    done = shell(line, tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == (1 if error else 0)


WITHOUT_ERROR_OUTPUT = """
import os, sys
from fever_extract import Extractor
ways = "sys.stderr = None", "sys.stderr = sys.__stderr__; sys.stderr.close()", "os.close(2)"
for number, way in enumerate(ways):
    exec(way)
    extractor = Extractor(show_progress=True, aligned=True)
    extractor.extract_folder("photos", f"{number}.parquet")
    extractor.extract_folder("photos", f"shards{number}", workers=1)
    extractor.extract(["photos/a.jpg"] * 3)
    print(way)
"""


def test_python_without_an_error_output(photos, tmp_path):
    command = [sys.executable, "-c", WITHOUT_ERROR_OUTPUT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 3
    for number in range(3):
        for output in (f"{number}.parquet", f"shards{number}"):
            assert pq.read_table(tmp_path / output).num_rows == 2


@pytest.mark.parametrize("output", ["f.csv", "shards"])
def test_names_are_escaped_wherever_they_are_printed(photos, output, monkeypatch, capsys):
    tmp_path = photos.parent
    with tarfile.open(tmp_path / f"{EVIL}.tar", "w") as archive:
        archive.add(photos / "a.jpg", "a.jpg")
    os.truncate(tmp_path / f"{EVIL}.tar", 1000)
    (photos / f"d{EVIL}").mkdir()
    monkeypatch.chdir(tmp_path)
    arguments = ["extract", "photos", f"{EVIL}.tar", "-o", output, "--aligned"]
    if output == "shards":
        code, out, err = in_process(capsys, *arguments, "--workers", 1)
    else:  # a process of its own prints warnings, too
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
        code, out, err = done.returncode, done.stdout, done.stderr
        assert "is not a whole tar archive" in err
    assert code == 0, out + err
    for sign in "\x1b\x07\x9b\u202e":
        assert sign not in out + err
    assert r"a\x1b]0;owned\x07\n\u202egpj\x9b31m.jpg: " in out
    assert "passed over 1 that are no pictures: photos/ba" in out
    rows = [line for line in out.splitlines() if "owned" in line]
    assert len(rows) == 3, "one a name"
    if output == "shards":
        assert "\x1b" not in (tmp_path / "shards" / "_job" / "log.jsonl").read_text()
    _, _, err = in_process(capsys, "extract", f"gone{EVIL}", "-o", "g.csv")
    assert err.count("\n") == 1
    assert r"gone" + r"a\x1b]0;owned" in err


def test_errors_and_summaries_are_printable(extractor, tmp_path):
    with pytest.raises(ExtractionError, match=r"a\\x1b\]0;owned") as told:
        extractor.extract(tmp_path / EVIL, on_error="raise")
    assert str(told.value).isprintable()
    summary = Summary(
        tmp_path, 0, 0, {}, (), 1, passed_over=5, passed_over_names=(EVIL, "b", "c", "d")
    )
    assert str(summary).isprintable()
    assert str(summary).endswith(r"31m.jpg, b, c, ...")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SECRET@bucket/a.jpg", "s3://***@bucket/a.jpg"),
        ("s3://KEY:SEC/R+T@bucket/a@b.jpg?region=eu", "s3://***@bucket/a@b.jpg?region=eu"),
        ("s3://bucket/a@b.jpg", "s3://bucket/a@b.jpg"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("s3://b/k?access_key=A&secret_key=B&x=1", "s3://b/k?access_key=***&secret_key=***&x=1"),
        ("no s3://a:b@c and gs://d@e: gone", "no s3://***@c and gs://***@e: gone"),
        ("日本 é.jpg", "日本 é.jpg"),
        ("caf\udce9.jpg", r"caf\xe9.jpg"),
        ("a\u2028b\u0085\r", r"a\u2028b\x85\r"),
    ],
)
def test_printable(text, shown):
    assert names.printable(text) == shown
    assert names.printable(shown) == shown


def test_secrets_stay_in_memory(extractor, photos, tmp_path):
    """The address is read with its secret, and named without it."""
    address = f"file://KEY:SECRET@localhost{photos}"
    secret = [f"{address}/a.jpg", f"{address}/gone.jpg?secret_key=SECRET"]
    (tmp_path / "l.txt").write_text("\n".join(secret))
    ones = list(find(tmp_path / "l.txt"))
    assert [one.path for one in ones] == secret
    assert not any("SECRET" in one.name for one in ones)
    listing = Listing(tmp_path / "inputs.arrow", ones)
    assert listing.read(np.array([0, 1])) == ones
    assert b"SECRET" not in (tmp_path / "inputs.arrow").read_bytes()
    extractor.extract_folder(tmp_path / "l.txt", tmp_path / "f.csv", aligned=True)
    extractor.extract_folder(tmp_path / "l.txt", tmp_path / "shards", aligned=True, engine=here)
    with pytest.raises((OSError, ValueError)) as told:
        extractor.extract_folder([f"{address}/x", f"{address}/y"], tmp_path / "g.csv")
    assert "SECRET" not in names.printable(str(told.value))
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "l.txt"]
    assert len(written) > 5
    for file in written:
        content = file.read_bytes()
        if file.suffix == ".parquet":
            content = str(pq.read_table(file).drop_columns("embedding").to_pylist()).encode()
        assert b"SECRET" not in content, file


def test_csv_cells_are_no_formulas(extractor, astronaut, tmp_path):
    (tmp_path / "photos").mkdir()
    starts = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\tx", "\rx", "\nx", r"\x3dx", "x=1"]
    for start in starts:
        astronaut.resize((64, 64)).save(tmp_path / "photos" / f"{start}.jpg".replace("/", "_"))
    for output in ("f.csv", "f.parquet"):
        extractor.extract_folder(tmp_path / "photos", tmp_path / output, aligned=True)
    text = (tmp_path / "f.csv").read_text()
    assert r"\x3dcmd" in text
    csv, parquet = read_table(tmp_path / "f.csv"), read_table(tmp_path / "f.parquet")
    assert csv.texts("path") == parquet.texts("path")
    for line in text.splitlines()[1:]:
        assert line.lstrip('"')[:1] not in ("=", "+", "-", "@", "\t", "\r")
    # As a list, it leads to the same files.
    os.chdir(tmp_path / "photos")
    ones = list(find(tmp_path / "f.csv"))
    assert all(one.size > 0 for one in ones)
    assert sorted(one.name for one in ones) == sorted(os.listdir("."))
    assert Status.OK in {Status(status) for status in csv.texts("status")}
