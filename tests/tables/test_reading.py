"""One table, whichever way it was written: read, chosen from, handed on."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import in_process
from PIL import Image

import fever_extract
from fever_extract import read_table
from fever_extract.tables import shards
from fever_extract.tables.schema import METADATA_KEY, Columns, Widths
from fever_extract.tables.writing import open_table

FORMATS = ("parquet", "npz", "csv", "shards")


@pytest.fixture(scope="module")
def folder(extractor, astronaut, landscape, tmp_path_factory):
    """Five photographs as a table in every format."""
    photos = tmp_path_factory.mktemp("photos")
    astronaut.save(photos / "a.png")
    astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "b.png")
    two = Image.new("RGB", (1024, 512))
    two.paste(astronaut, (0, 0))
    two.paste(astronaut.rotate(15), (512, 0))
    two.save(photos / "=two.png")
    Image.fromarray(landscape).save(photos / "none.png")
    (photos / "broken.jpg").write_bytes(b"broken")
    folder = tmp_path_factory.mktemp("tables")
    for ending in ("parquet", "npz", "csv"):
        extractor.extract_folder(photos, folder / f"f.{ending}", all_faces=True)
    (folder / "shards").mkdir()
    whole = pq.read_table(folder / "f.parquet")
    metadata = json.loads(whole.schema.metadata[METADATA_KEY.encode()])
    for number, part in enumerate((whole[:2], whole[2:])):
        shards.write(folder / "shards" / shards.shard_name(number), part, metadata)
    return folder


def table_of(folder, ending):
    return read_table(folder / ("shards" if ending == "shards" else f"f.{ending}"))


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_says_the_same(folder, extractor, ending):
    table, expected = table_of(folder, ending), pq.read_table(folder / "f.parquet")
    assert len(table) == len(expected) == 6
    assert list(table.columns) == [name for name in expected.column_names if name != "embedding"]
    np.testing.assert_allclose(table.X, np.stack(expected["embedding"].to_numpy()), atol=1e-4)
    for name, values in table.columns.items():
        other = expected[name].to_pylist()
        if isinstance(values, list):
            assert values == other, name
        else:
            np.testing.assert_allclose(values, np.array(other), atol=1e-4, err_msg=name)
    assert table.metadata["weights_sha256"] == extractor.sha256


def test_a_row_holds_all_that_the_face_does(folder, extractor, astronaut):
    (face,) = extractor.extract_faces(astronaut)
    row = table_of(folder, "parquet").to_pandas().set_index("path").loc["a.png"]
    for name, probability in face.expressions.items():
        assert row[f"p_{name}"] == pytest.approx(probability, abs=1e-4)
    for name, strength in face.blendshapes.items():
        assert row[f"bs_{name}"] == pytest.approx(strength, abs=1e-4)
    for name in ("yaw", "pitch", "roll", "sharpness", "exposure", "outside", "entropy"):
        assert row[name] == pytest.approx(getattr(face, name), rel=1e-3, abs=1e-4), name
    assert row["embedding_0"] == pytest.approx(face.vector[0], abs=1e-4)


@pytest.mark.parametrize("ending", FORMATS)
def test_to_data_frames_and_back(folder, ending, tmp_path):
    table = table_of(folder, ending)
    frame = table.to_pandas()
    polars = table.to_polars(embedding=False)
    assert polars.columns == [name for name in frame.columns if not name.startswith("embedding_")]
    np.testing.assert_array_equal(polars["p_happiness"].to_numpy(), frame["p_happiness"])
    arrow = table.to_arrow()
    assert arrow["blendshapes"].type == pa.list_(pa.float32(), 52)
    # What a data frame was saved to is a table, too.
    frame.to_parquet(tmp_path / "frame.parquet")
    again = read_table(tmp_path / "frame.parquet")
    np.testing.assert_array_equal(again.X, table.X)
    assert again.metadata["expressions"] == table.metadata["expressions"]


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_are_chosen(folder, ending):
    table = table_of(folder, ending)
    assert table.where(status="ok").texts("path") == ["=two.png", "=two.png", "a.png", "b.png"]
    assert table.where(status=["no_face", "decode_error"]).texts("path") == [
        "broken.jpg",
        "none.png",
    ]
    upright = table.where(status="ok", max_roll=8)
    assert upright.texts("path") == ["=two.png", "a.png", "b.png"]
    second = upright.where(path="a.png")
    row = table.texts("path").index("a.png")
    np.testing.assert_array_equal(second.X, table.X[[row]])
    assert len(table.where(min_p_happiness=0.5, max_bs_jawOpen=1.0)) == 4
    assert len(table.like("happiness > 0.5 and bs_jawOpen <= 1 and path like '%two%'")) == 2
    assert upright.like("path = 'b.png'").texts("path") == ["b.png"]
    np.testing.assert_array_equal(upright.like("path = 'b.png'").X, upright.X[[2]])
    assert len(table.where(status="crashed").X) == 0


@pytest.mark.parametrize("ending", FORMATS)
def test_conditions_that_can_not_be(folder, ending):
    table = table_of(folder, ending)
    with pytest.raises(ValueError, match=r"no column age; there are path, "):
        table.where(max_age=3)
    with pytest.raises(ValueError, match="error has no numbers"):
        table.where(min_error=3)
    with pytest.raises(ValueError, match=r"bs_nothing.*columns are path, "):
        table.like("bs_nothing > 0.5")
    for bad in ("happiness >", "1=1; DROP TABLE faces"):
        with pytest.raises(ValueError, match="condition"):
            table.like(bad)


@pytest.mark.parametrize("name", [b"caf\xe9.parquet", b"run[1]*.parquet"])
def test_names_that_duckdb_does_not_take(folder, tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    path.write_bytes((folder / "f.parquet").read_bytes())
    table = read_table(path)
    assert len(table.like("happiness > 0.5")) == 4
    assert table.where(status="ok").like("path = 'b.png'").texts("path") == ["b.png"]


def test_strangers_beside_shards_are_not_read(folder, tmp_path):
    shutil.copytree(folder / "shards", tmp_path / "shards")
    shutil.copy(folder / "f.parquet", tmp_path / "shards" / "part-backup.parquet")
    assert len(read_table(tmp_path / "shards")) == 6


def test_load_is_short_for_it(folder):
    x, rest = fever_extract.load(folder / "shards")
    mapped, _ = fever_extract.load(folder / "shards", memory_map=True)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, x)
    assert "embedding" not in rest.column_names
    assert rest.column_names == list(table_of(folder, "parquet").columns)


@pytest.mark.parametrize("ending", ["parquet", "npz", "csv"])
def test_without_embedding(extractor, astronaut, tmp_path, ending, capsys):
    astronaut.save(tmp_path / "a.png")
    output = tmp_path / f"f.{ending}"
    code, _, _ = in_process(capsys, "extract", tmp_path / "a.png", "-o", output, "--no-embedding")
    assert code == 0
    table = read_table(output)
    assert table.texts("expression") == ["happiness"]
    assert not [name for name in table.to_pandas() if name.startswith("embedding")]
    with pytest.raises(ValueError, match="made with --no-embedding"):
        _ = table.X
    with pytest.raises(ValueError, match="made with --no-embedding"):
        table.nearest(np.zeros(extractor.embedding_dim))


def test_tables_of_older_versions(tmp_path):
    """No pose, numbered expressions, other widths, or what pandas makes of lists."""
    header = "path,time,status,error,expression,expressions_0,expressions_1,embedding_0,embedding_1"
    (tmp_path / "old.csv").write_text(f"{header}\na.jpg,nan,ok,,neutral,0.75,0.25,1.5,-2.0\n")
    frame = pd.DataFrame(
        {"path": ["a", "b"], "status": ["ok", "no_face"], "embedding": [[1.5, -2.0], None]}
    )
    frame.to_parquet(tmp_path / "old.parquet")
    table = read_table(tmp_path / "old.csv")
    assert table.metadata == {}
    assert table.X.tolist() == [[1.5, -2.0]]
    assert table.numbers("expressions").tolist() == [[0.75, 0.25]]
    assert list(table.to_pandas())[5:7] == ["expressions_0", "expressions_1"]
    with pytest.raises(ValueError, match=r"no column yaw.*extract again"):
        table.where(max_yaw=30)
    table = read_table(tmp_path / "old.parquet")
    np.testing.assert_array_equal(table.X, [[1.5, -2.0], [np.nan, np.nan]])


def test_names_without_the_file_beside_them(folder, tmp_path):
    (tmp_path / "f.csv").write_text((folder / "f.csv").read_text())
    table = read_table(tmp_path / "f.csv")
    assert table.metadata["expressions"] == table_of(folder, "csv").metadata["expressions"]
    assert len(table.like("happiness > 0.5")) == 4


def test_no_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        read_table(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no shards"):
        read_table(tmp_path)
    for name in ("f.parquet", "f.npz", "f.csv"):
        (tmp_path / name).write_bytes(b"path,\xff\xfe\0")
        with pytest.raises(ValueError, match="can't be read"):
            read_table(tmp_path / name)
    with open_table(tmp_path / "e.csv", {}) as writer:
        writer.write(Columns.of([], Widths(2, 3)))
    assert len(read_table(tmp_path / "e.csv")) == 0


def test_columns_that_are_not_equally_long(tmp_path):
    path, status = np.array(["a", "b"]), np.array(["ok", "ok"])
    np.savez(tmp_path / "a.npz", path=path, status=status[:1])
    np.savez(tmp_path / "b.npz", path=path, status=status, embedding=np.zeros((3, 2), np.float32))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(ValueError, match="columns are not equally long"):
            read_table(tmp_path / name)


def test_two_columns_of_one_name(tmp_path):
    (tmp_path / "a.csv").write_text("path,path,status\na,b,ok\n")
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["ok"])]
    pq.write_table(
        pa.Table.from_arrays(columns, names=["path", "path", "status"]), tmp_path / "a.parquet"
    )
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(ValueError, match="two of its columns have one name"):
            read_table(tmp_path / name)


def test_csv_as_excel_saves_it_and_an_empty_one(tmp_path):
    (tmp_path / "a.csv").write_text("path,status\na.jpg,ok\n", encoding="utf-8-sig")
    assert read_table(tmp_path / "a.csv").texts("path") == ["a.jpg"]
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(ValueError, match="no column path, status"):
        read_table(tmp_path / "b.csv")


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_a_damaged_file_of_mapped_embeddings_is_written_again(tmp_path, content):
    embedding = pa.array([[1.0, 2.0]], pa.list_(pa.float32()))
    table = pa.table({"path": ["a"], "status": ["ok"], "embedding": embedding})
    pq.write_table(table, tmp_path / "a.parquet")
    read_table(tmp_path / "a.parquet", memory_map=True)
    (cached,) = tmp_path.glob(".a.parquet.embeddings-*.npy")
    if content is None:
        np.save(cached, np.zeros((1, 3), np.float32))
    else:
        cached.write_bytes(content)
    again = read_table(tmp_path / "a.parquet", memory_map=True)
    assert again.X.tolist() == [[1.0, 2.0]]
