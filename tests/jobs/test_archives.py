"""Whatever a tar archive holds is a row, is counted, or is told in one line."""

import io
import os
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from engines import here
from PIL import Image

from fever_extract.jobs import sources as inputs
from fever_extract.records import ExtractionError, Status


def picture(color) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 30), color).save(buffer, "PNG")
    return buffer.getvalue()


RED, BLUE = picture("red"), picture("blue")


def member(name, data=b"", kind=tarfile.REGTYPE, link="", **fields):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def write(path, *members, format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def rows(path):
    """Each row's name, and its content or the reason why there is none."""
    return [(one.name, one.load_or_error()) for one in inputs.find(path)]


def texts(path):
    return [
        (name, str(data) if isinstance(data, ExtractionError) else data)
        for name, data in rows(path)
    ]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_links_have_their_targets_content(tmp_path, format):
    sym, hard, folder = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
    path = write(
        tmp_path / "a.tar",
        member("early.png", kind=sym, link="sub/a.png"),
        member("sub", kind=folder),
        member("sub/a.png", RED),
        member("hard.png", kind=hard, link="sub/a.png"),
        member("sub/up.png", kind=sym, link="../b.png"),
        member("b.png", BLUE),
        member("chain.png", kind=sym, link="early.png"),
        member("latest", kind=sym, link="sub"),
        member("through.png", kind=sym, link="latest/a.png"),
        member("absolute.png", kind=sym, link="/sub/a.png"),
        format=format,
    )
    assert rows(path) == [
        ("early.png", RED),
        ("sub/a.png", RED),
        ("hard.png", RED),
        ("sub/up.png", BLUE),
        ("b.png", BLUE),
        ("chain.png", RED),
        ("through.png", RED),
        ("absolute.png", RED),
    ]


def test_links_that_lead_nowhere_and_what_is_no_file(tmp_path):
    sym = tarfile.SYMTYPE
    path = write(
        tmp_path / "a.tar",
        member("gone.png", kind=sym, link="nowhere.png"),
        member("outside.png", kind=tarfile.LNKTYPE, link="../../etc/passwd"),
        member("round.png", kind=sym, link="about.png"),
        member("about.png", kind=sym, link="round.png"),
        member("device.png", kind=tarfile.CHRTYPE),
        member("pipe.png", kind=tarfile.FIFOTYPE),
        member("folder.png", kind=tarfile.DIRTYPE),
        member("good.png", RED),
    )
    reasons = texts(path)
    assert [name for name, _ in reasons] == (
        "gone.png outside.png round.png about.png device.png pipe.png good.png".split()
    )
    assert reasons[0][1] == "it is a link to nowhere.png, which is no file of the archive"
    assert "is a link to ../../etc/passwd, which is no file" in reasons[1][1]
    assert reasons[2][1] == reasons[3][1] == "it is a link that leads to itself"
    assert "no file" in reasons[4][1]
    assert "no file" in reasons[5][1]
    assert reasons[6][1] == RED
    assert all(data.status is Status.NOT_FOUND for _, data in rows(path)[:6])


def test_members_of_one_name_are_each_a_row(tmp_path):
    path = write(
        tmp_path / "a.tar",
        member("a.png", RED),
        member("hard.png", kind=tarfile.LNKTYPE, link="a.png"),
        member("a.png", BLUE),
        member("soft.png", kind=tarfile.SYMTYPE, link="a.png"),
    )
    assert [data for _, data in rows(path)] == [RED, RED, BLUE, BLUE]


def test_odd_names(tmp_path):
    names = ["/abs/a.png", "../up.png", "./dot.png", "a\0b.png", "x" * 300 + ".png", "\x1b[31m.png"]
    path = write(
        tmp_path / "a.tar", *(member("o.png", RED, pax_headers={"path": n}) for n in names)
    )
    assert rows(path) == [(name, RED) for name in names]
    several = [one.name for one in inputs.find([path, path])]
    assert several == [f"{path}/{name}" for name in names] * 2


@pytest.mark.parametrize("size", ["abc", "1.5", ""])
def test_a_size_that_is_no_number(tmp_path, size):
    pictures = (member("a.png", RED), member("b.png", RED, pax_headers={"size": size}))
    path = write(tmp_path / "a.tar", *pictures, member("c.png", RED))
    with pytest.warns(UserWarning, match="which is no number"):
        found = texts(path)
    assert found[0] == ("a.png", RED)
    assert found[1:] == [
        (
            str(path),
            f"it is not a whole tar archive: b.png has a size of {size!r}, which is no number",
        )
    ]


@pytest.mark.parametrize("version", ["old", "0.1", "1.0"])
def test_sparse_members(tmp_path, version):
    """As GNU tar writes them: 4096 bytes that are zero, and then the picture."""
    whole = RED + bytes(4096) + b"end!"
    parts = [(0, len(RED)), (len(RED) + 4096, 4)]
    stored = RED + b"end!"
    info, _ = member("s.png", stored)
    if version == "old":
        info.type = tarfile.GNUTYPE_SPARSE
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        for index, numbers in enumerate(parts):
            for place, number in enumerate(numbers):
                start = 386 + 24 * index + 12 * place
                header[start : start + 12] = b"%011o\0" % number
        header[483:495] = b"%011o\0" % len(whole)
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        data = bytes(header) + stored + bytes(-len(stored) % 512) + bytes(1024)
        (tmp_path / "a.tar").write_bytes(data)
    else:
        names = {"GNU.sparse.name": "s.png", "GNU.sparse.realsize": str(len(whole))}
        if version == "0.1":
            numbers = ",".join(f"{start},{size}" for start, size in parts)
            names |= {"GNU.sparse.map": numbers, "GNU.sparse.size": str(len(whole))}
        else:
            names |= {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
            text = "\n".join(map(str, [len(parts), *(n for part in parts for n in part)])) + "\n"
            stored = text.encode().ljust(512, b"\0") + stored
        write(tmp_path / "a.tar", member("s.png", stored, pax_headers=names), member("b.png", BLUE))
    assert rows(tmp_path / "a.tar")[0] == ("s.png", whole)


def negative(tmp_path):
    info, _ = member("bad.png", RED)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (-512).to_bytes(2, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    good = write(tmp_path / "good.tar", member("good.png", RED)).read_bytes()[:1024]
    (tmp_path / "a.tar").write_bytes(good + bytes(header) + bytes(10240))


def negative_pax(tmp_path):
    info, data = member("bad.png", RED, pax_headers={"size": "-512"})
    write(tmp_path / "a.tar", member("good.png", RED), (info, data))


def cut_short(tmp_path):
    write(tmp_path / "a.tar", member("good.png", RED), member("bad.png", os.urandom(5000)))
    os.truncate(tmp_path / "a.tar", 2500)


def nested(tmp_path):
    """Extended headers of extended headers: Python's own reader takes a frame for each."""
    info, _ = member("x", b"", kind=tarfile.XHDTYPE)
    good = write(tmp_path / "good.tar", member("good.png", RED)).read_bytes()[:1024]
    (tmp_path / "a.tar").write_bytes(good + info.tobuf(tarfile.USTAR_FORMAT) * 3000)


def noise(tmp_path):
    good = write(tmp_path / "good.tar", member("good.png", RED)).read_bytes()[:1024]
    (tmp_path / "a.tar").write_bytes(good + np.random.default_rng(0).bytes(5120))


@pytest.mark.parametrize("damage", [negative, negative_pax, cut_short, nested, noise])
def test_damage_is_told_in_a_line_and_ends(tmp_path, damage):
    damage(tmp_path)
    with pytest.warns(UserWarning, match="is not a whole tar archive: ") as told:
        found = texts(tmp_path / "a.tar")
    assert found[0] == ("good.png", RED)
    assert found[1][0] == str(tmp_path / "a.tar")
    assert "not a whole tar archive" in found[1][1]
    assert len(found) == 2
    assert "\n" not in str(told[0].message)


def test_pictures_by_their_beginning_and_the_rest_counted(tmp_path):
    path = write(
        tmp_path / "a.tar",
        member("a.png_large", RED),
        member("none", BLUE),
        member("notes.txt", b"no picture"),
        member("empty", b""),
        member(".hidden.png", RED),
    )
    passed_over = inputs.PassedOver()
    found = [one.name for one in inputs.find(path, passed_over=passed_over)]
    assert found == ["a.png_large", "none"]
    assert (passed_over.count, passed_over.names) == (2, ["notes.txt", "empty"])


def test_going_on_keeps_members_of_one_name_apart(extractor, astronaut, landscape, tmp_path):
    """Two pictures of one name and one size: which is which is known by their order."""
    pictures = []
    for image in (astronaut.resize((200, 200)), Image.fromarray(landscape).resize((200, 200))):
        buffer = io.BytesIO()
        image.save(buffer, "BMP")
        pictures.append(buffer.getvalue())
    assert len(pictures[0]) == len(pictures[1])
    path = write(
        tmp_path / "a.tar", *(member("a.bmp", data) for data in pictures), member("b.png", RED)
    )
    os.utime(path, ns=(1, 1))
    extractor.extract_folder(path, tmp_path / "out", engine=here)
    write(path, *(member("a.bmp", data) for data in pictures), member("c.png", BLUE))
    os.utime(path, ns=(1, 1))
    extractor.extract_folder(path, tmp_path / "out", engine=here)
    table = pq.read_table(tmp_path / "out")
    assert table["path"].to_pylist() == ["a.bmp", "a.bmp", "c.png"]
    assert table["status"].to_pylist()[:2] == ["ok", "no_face"]
