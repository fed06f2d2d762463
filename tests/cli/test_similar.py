"""`fever-extract similar`: the nearest faces, printed and shown."""

import json

import pyarrow.parquet as pq
import pytest
from helpers import SERIOUS, SMILING, in_process, write_faces
from PIL import Image

from fever_extract import read_table

METADATA = b"fever_extract"


@pytest.fixture(scope="module")
def table(extractor, tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    write_faces(root / "sub", SMILING[:8] + SERIOUS[:8])
    extractor.extract_folder(root, root.parent / "f.parquet")
    return root.parent / "f.parquet", root


def found(out: str) -> list[int]:
    return [int(line.split("/")[1][:2]) for line in out.splitlines() if "sub/" in line]


def test_smiles_are_like_smiles(table, capsys, tmp_path):
    path, photos = table
    query = photos / "sub" / f"{SMILING[0]:02}.png"
    page = tmp_path / "page.html"
    code, out, err = in_process(
        capsys, "similar", query, path, "-n", 4, "-o", page, "--photos", photos
    )
    assert (code, err) == (0, "")
    numbers = found(out)
    assert len(numbers) == 4
    assert SMILING[0] not in numbers, "the query is left out"
    assert len(set(numbers) & set(SMILING)) >= 3
    assert f"{page}: 4 pictures" in out
    text = page.read_text()
    assert text.count("background-position") == 5
    assert "http:" not in text
    near = read_table(path).nearest(read_table(path).where(path=f"sub/{SMILING[0]:02}.png").X[0], 5)
    expected = [read_table(path).texts("path")[row] for row in near.rows[1:]]
    assert [line.split(" ", 1)[1] for line in out.splitlines()[:4]] == expected


def test_only_those_that_meet_a_condition(table, capsys):
    path, photos = table
    query = photos / "sub" / f"{SMILING[0]:02}.png"
    condition = "happiness < 0.5"
    code, out, _ = in_process(capsys, "similar", query, path, "-n", 3, "--like", condition)
    assert code == 0
    rows = read_table(path).like(condition).texts("path")
    assert found(out)
    assert {f"sub/{number:02}.png" for number in found(out)} <= set(rows)
    code, out, _ = in_process(capsys, "similar", path, "--like", condition, "-n", 2)
    assert code == 0
    assert out.startswith(f"{len(rows)} rows meet {condition}:\nsub/")
    code, _, err = in_process(capsys, "similar", path, "--like", "happiness > 2")
    assert code == 1
    assert "no row of" in err


def test_queries_without_a_face(table, capsys, tmp_path):
    path, photos = table
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "grey.png")
    code, out, err = in_process(capsys, "similar", tmp_path / "grey.png", path)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "grey.png: no face" in err
    query = photos / "sub" / f"{SMILING[0]:02}.png"
    code, out, err = in_process(capsys, "similar", tmp_path / "grey.png", query, path, "-n", 2)
    assert code == 0
    assert len(found(out)) == 2


def test_what_is_refused(table, capsys, tmp_path):
    path, photos = table
    query = photos / "sub" / f"{SMILING[0]:02}.png"

    def refused(*arguments) -> str:
        code, _, err = in_process(capsys, "similar", *arguments)
        assert code == 2
        assert err.count("\n") == 1
        return err

    assert "photographs and a table, or a table and --like" in refused(path)
    assert "must end in .html" in refused(query, path, "-o", tmp_path / "page.txt")
    assert "--number must be at least 1" in refused(query, path, "-n", 0)
    assert "does not exist" in refused(query, tmp_path / "missing.parquet")
    assert "columns are path" in refused(query, path, "--like", "joy > 0.5")
    # A table of other weights.
    other = pq.read_table(path)
    metadata = json.loads(other.schema.metadata[METADATA])
    metadata |= {"weights": "theirs", "weights_sha256": "f" * 64}
    other = other.replace_schema_metadata({METADATA: json.dumps(metadata)})
    pq.write_table(other, tmp_path / "other.parquet")
    error = refused(query, tmp_path / "other.parquet")
    assert "theirs (SHA-256 ffff" in error
    assert "can't be compared" in error


def test_no_pictures_where_there_are_none(table, capsys, tmp_path):
    path, photos = table
    query = photos / "sub" / f"{SMILING[0]:02}.png"
    arguments = [query, path, "-o", tmp_path / "page.html", "--photos", tmp_path]
    code, out, err = in_process(capsys, "similar", *arguments)
    assert code == 0
    assert "0 pictures" in out
    assert "give --photos" in err


def test_a_table_of_the_same_face_only(table, capsys, tmp_path):
    path, photos = table
    same = pq.read_table(path).slice(0, 1)
    pq.write_table(same, tmp_path / "same.parquet")
    query = photos / same["path"][0].as_py()
    code, out, err = in_process(capsys, "similar", query, tmp_path / "same.parquet")
    assert (code, out) == (1, "")
    assert "no embedding, or only equal ones" in err
