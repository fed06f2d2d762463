"""Whatever a job is given becomes one stream of inputs."""

import io
import os
import sys
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fever_extract._utils import names
from fever_extract.jobs import _remote as remote
from fever_extract.jobs import sources as inputs
from fever_extract.jobs._listing import Listing
from fever_extract.jobs.sources import Input, find

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
FILES = ["b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.gif", "sub/notes.txt", ".hidden.jpg"]
PICTURES = ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.gif"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder ``photos`` in the working directory; the content of each file is its name."""
    for name in FILES:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def found(*sources):
    return [one.name for one in find(sources)]


def content(one):
    data = one.load()
    return data if isinstance(data, bytes) else open(data, "rb").read()


def test_a_folder_is_sorted_and_survives_loops(folder):
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "self.jpg").symlink_to("self.jpg")
    assert found(folder) == ["a.PNG", "b.jpg", "self.jpg", *PICTURES[2:]]
    (lost,) = (one for one in find(folder) if one.name == "self.jpg")
    assert (lost.size, lost.mtime_ns) == (-1, -1)


def test_an_input_knows_its_file(folder):
    os.utime(folder / "b.jpg", ns=(1, 1_234_567_890_123_456_789))
    one = next(one for one in find(folder) if one.name == "b.jpg")
    assert one == Input("b.jpg", str(folder / "b.jpg"), -1, 5, 1_234_567_890_123_456_789)


def test_many_names_in_one_folder(tmp_path, monkeypatch):
    expected = [f"{number:06}.jpg" for number in range(70_000)]
    for name in expected:
        os.mknod(tmp_path / name)
    assert found(tmp_path) == expected


def test_several_sources_are_named_as_given(folder):
    assert found("photos", "photos/sub", "photos/b.jpg") == [
        *(f"photos/{name}" for name in PICTURES),
        "photos/sub/c.webp",
        "photos/sub/deep/d.gif",
        "photos/b.jpg",
    ]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("list.txt", b"photos/b.jpg\r\nphotos/a b.png\n photos/odd.jpg"),
        ("marked.txt", b"\xef\xbb\xbfphotos/b.jpg\nphotos/a b.png\n photos/odd.jpg\n"),
        ("list.lst", b"photos/b.jpg\0photos/a b.png\0 photos/odd.jpg\0"),
        (
            "list.csv",
            b'\xef\xbb\xbflabel,path\n1,photos/b.jpg\n2,"photos/a b.png"\n3, photos/odd.jpg',
        ),
        ("list.tsv", b"path\tlabel\nphotos/b.jpg\t1\nphotos/a b.png\t2\n photos/odd.jpg\t3\n"),
        ("plain.csv", b"photos/b.jpg\nphotos/a b.png\n photos/odd.jpg\n"),
    ],
)
def test_lists_of_paths(folder, name, data):
    (folder.parent / name).write_bytes(data)
    assert found(name) == ["photos/b.jpg", "photos/a b.png", " photos/odd.jpg"]
    assert [one.size for one in find(name)] == [5, -1, -1], "a missing file keeps its row"


def test_a_parquet_list_and_a_table_of_ours(folder):
    pq.write_table(pa.table({"x": [1, 2], "path": ["photos/b.jpg", "photos/a.PNG"]}), "l.parquet")
    assert found("l.parquet") == ["photos/b.jpg", "photos/a.PNG"]
    pq.write_table(pa.table({"x": [1], "y": [2]}), "l.parquet")
    with pytest.raises(ValueError, match="no column 'path', but x, y"):
        found("l.parquet")


def test_standard_input(folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/b.jpg\nx.jpg")))
    assert found("-") == ["photos/b.jpg", "x.jpg"]


def test_globs(folder):
    assert found("photos/*.jpg") == ["photos/b.jpg"]
    assert found("photos/**/*.[gw]*") == ["photos/sub/c.webp", "photos/sub/deep/d.gif"]
    assert found("*/sub/?.webp") == ["photos/sub/c.webp"]
    assert found("photos/**") == [f"photos/{name}" for name in PICTURES]
    assert found("nowhere/*.jpg") == []


def test_tar_archives(folder):
    with tarfile.open("one.tar", "w") as archive:
        for name in ("sub/c.webp", "b.jpg", "sub/notes.txt", "sub"):
            archive.add(folder / name, name, recursive=False)
    assert found("one.tar") == ["sub/c.webp", "b.jpg"]
    assert [content(one) for one in find("one.tar")] == [b"sub/c.webp", b"b.jpg"]
    assert found("*.tar") == ["one.tar/sub/c.webp", "one.tar/b.jpg"]
    assert found("one.tar", "photos/b.jpg")[0] == "one.tar/sub/c.webp"


def test_a_damaged_archive_is_told_of(folder):
    with tarfile.open("whole.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(folder / "b.jpg", "b.jpg")
        archive.add(folder / "a.PNG", "a.PNG")
    data = (folder.parent / "whole.tar").read_bytes()
    (folder.parent / "cut.tar").write_bytes(data[:1300])  # in the header of the second
    with pytest.warns(UserWarning, match="not a whole tar archive"):
        assert found("cut.tar") == ["b.jpg", "cut.tar"]


def test_an_address(folder):
    """file:// takes the way that s3:// and gs:// take."""
    (folder / "sub" / "50 %, é.jpg").write_text("odd")
    address = f"file://{folder}"
    ones = list(find(address))
    assert [one.name for one in ones] == [*PICTURES[:2], "sub/50 %, é.jpg", *PICTURES[2:]]
    assert [content(one) for one in ones][2:] == [b"odd", b"sub/c.webp", b"sub/deep/d.gif"]
    assert [one.mtime_ns for one in ones] == [one.mtime_ns for one in find(folder)]
    assert found(f"{address}/b.jpg") == ["b.jpg"]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        found(f"{address}/nowhere")


@pytest.mark.parametrize("address", ["s3://", "gs:///photos"])
def test_an_address_without_a_bucket(address):
    with pytest.raises(ValueError, match="names no bucket: write"):
        found(address)


def test_an_address_that_says_how_to_reach_it():
    """As those of buckets do, which are not on Amazon's servers."""
    own = remote._below("s3://bucket/photos/?scheme=http&region=eu", "sub/50 %.jpg")
    assert own == "s3://bucket/photos/sub/50%20%25.jpg?scheme=http&region=eu"


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere", FileNotFoundError, "nowhere does not exist"),
        ("photos.tar.gz", ValueError, "decompress it to a plain .tar"),
    ],
)
def test_bad_sources_are_refused_at_once(folder, source, error, message):
    with pytest.raises(error, match=message):
        find([folder, source])


NAMES = [b"a.jpg", b"caf\xe9.jpg", b"caf\\xe9.jpg", b"\\\\x5c\xff\\x5cxe9.jpg", "日本.jpg".encode()]


@linux_only
@pytest.mark.parametrize(
    "address", ["https://me:secret@example.org/a.jpg", "FTP://host/a.jpg", "odd://a/b.jpg"]
)
def test_an_address_that_no_file_system_has(tmp_path, address):
    with pytest.raises(ValueError, match="download the images") as error:
        list(find(address))
    assert "secret" not in str(error.value)
    (tmp_path / "list.txt").write_text(address)
    (row,) = find(str(tmp_path / "list.txt"))
    assert "download the images" in str(row.load_or_error())


@pytest.mark.parametrize("name", NAMES)
def test_any_name_survives_a_round_trip(tmp_path, name):
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
        file.write(b"it")
    (one,) = find(tmp_path)
    text = names.to_text(one.name)
    assert text.encode().decode() == text
    assert os.fsencode(names.from_text(text)) == name

    (listed,) = Listing(tmp_path / "inputs.arrow", [one]).read(pa.array([0]).to_numpy())
    assert listed == one
    assert content(listed) == b"it"

    pq.write_table(pa.table({"path": [os.path.join(tmp_path, text)]}), tmp_path / "l.parquet")
    (again,) = find(tmp_path / "l.parquet")
    assert content(again) == b"it"
    (tmp_path / "l.txt").write_bytes(os.path.join(os.fsencode(tmp_path), name))
    assert content(next(find(tmp_path / "l.txt"))) == b"it"


def test_no_two_names_become_one():
    texts = [names.to_text(os.fsdecode(name)) for name in NAMES]
    assert len(set(texts)) == len(NAMES)
    assert texts[1] == "caf\\xe9.jpg"
    assert texts[2] == "caf\\x5cxe9.jpg"


def test_a_listing_reads_anywhere(tmp_path):
    listed = [Input(f"{n}.jpg", f"/p/{n}.jpg", -1, n, n) for n in range(25_000)]
    listing = Listing(tmp_path / "inputs.arrow", iter(listed))
    assert len(listing) == 25_000
    indices = [3, 9_999, 10_000, 24_999, 5]
    assert listing.read(pa.array(indices).to_numpy()) == [listed[index] for index in indices]
    assert inputs.as_list("a") == ["a"]
