"""A list of paths as people's tools write it: row i is line i, or one line says what was found."""

import io
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engines import here

from fever_extract.jobs import _lists as lists
from fever_extract.jobs import sources as inputs
from fever_extract.records import Status

PLAIN = ["a.jpg", "", "sub/é b.jpg"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(name, content):
    with open(name, "wb") as file:
        file.write(content)
    return list(lists.read(name))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\0"])
def test_text_in_any_encoding(folder, encoding, end):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = mark + end.join(PLAIN)
    assert paths("l.txt", text.encode(encoding)) == PLAIN
    assert paths("l.txt", (text + end).encode(encoding)) == PLAIN
    assert list(lists.lines(io.BytesIO(text.encode(encoding)))) == PLAIN


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["path", "Path ", '"path"', "label{0}PATH"])
def test_csv_in_any_dialect(folder, encoding, delimiter, header):
    column = header.format(delimiter)
    before = "1" + delimiter if "label" in header else ""
    after = "" if "label" in header else delimiter + "1"
    rows = [column + (delimiter + "x") * bool(after)]
    rows += [f'{before}"{path}"{after}' for path in PLAIN]
    assert paths("l.csv", "\r\n".join(rows).encode(encoding)) == PLAIN
    excel = f"sep={delimiter}\r\n" + "\r\n".join(rows)
    assert paths("l.csv", excel.encode(encoding)) == PLAIN


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"path\na.jpg\n\nb.jpg\n\n\n", ["a.jpg", "", "b.jpg"]),
        (b"path,x\n,1\na.jpg,2\n,3\n", ["", "a.jpg", ""]),
        (b"x,path\n1\n2,a.jpg\n", ["", "a.jpg"]),
        (b"a;b.jpg\nc.jpg\n", ["a;b.jpg", "c.jpg"]),
        (b"path\n", []),
        (b"", []),
    ],
)
def test_rows_of_csv_are_kept(folder, content, expected):
    assert paths("l.csv", content) == expected


def test_rows_of_parquet_are_kept(folder):
    for values in (["a.jpg", None, "", "b.jpg", None], pa.array([b"a.jpg", None], pa.binary())):
        pq.write_table(pa.table({"path": values}), "l.parquet")
        expected = ["a.jpg", "", "", "b.jpg", ""] if isinstance(values, list) else ["a.jpg", ""]
        assert list(lists.read("l.parquet")) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", "a.jpg\nb.jpg".encode("utf-16-le"), "UTF-16 without a mark"),
        ("l.csv", "path\nb.jpg".encode("utf-16-be"), "UTF-16 without a mark"),
        ("l.csv", b"name;label\na.jpg;1", "no column 'path', but name, label"),
        ("l.csv", b"path\n" + b"x" * 200_000, "field larger than field limit"),
        ("l.txt", b"\xff\xfea\0\x00\xd8", "utf-16"),
        ("l.parquet", b"none", "l.parquet can't be read as a list"),
    ],
)
def test_what_can_not_be_read_is_told(folder, name, content, message):
    with pytest.raises(ValueError, match=message) as told:
        paths(name, content)
    assert "\n" not in str(told.value)
    assert name in str(told.value)


def test_a_column_of_something_else(folder):
    pq.write_table(pa.table({"path": [{"bytes": b"", "path": "a.jpg"}]}), "l.parquet")
    with pytest.raises(ValueError, match=r"holds struct<.*>, and not paths"):
        list(lists.read("l.parquet"))


def test_padded_and_quoted_lines(folder):
    for name in ("a.jpg", " b.jpg", '"c".jpg'):
        (folder / name).write_bytes(b"it")
    (folder / "l.txt").write_text('  a.jpg\t\n"a.jpg"\n b.jpg\n"c".jpg\n\n  gone.jpg\n')
    found = list(inputs.find("l.txt"))
    names = ["a.jpg", "a.jpg", " b.jpg", '"c".jpg', "", "  gone.jpg"]
    assert [one.name for one in found] == names
    assert [one.size for one in found] == [2, 2, 2, 2, -1, -1]
    problem = found[4].load_or_error()
    assert problem.status is Status.NOT_FOUND
    assert "no path in this place" in str(problem)


def test_an_empty_path_has_its_row(extractor, astronaut_path, folder):
    (folder / "l.csv").write_text(f"path,x\n{astronaut_path},1\n,2\n{astronaut_path},3\n")
    for output, settings in (("f.csv", {}), ("shards", {"engine": here})):
        summary = extractor.extract_folder("l.csv", output, **settings)
        assert summary.statuses == {Status.OK: 2, Status.NOT_FOUND: 1}
        assert os.path.exists(output)


def test_an_empty_list_is_no_folder(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    for source, said in ((tmp_path / "empty.txt", ""), (tmp_path, " (looked in all folders")):
        assert f"no images in {source}{said}" in str(inputs.describe_nothing(str(source)))
    assert "folders" not in str(inputs.describe_nothing([str(tmp_path / "empty.txt")]))
