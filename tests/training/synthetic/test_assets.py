"""Meshes are read and hung on heads as MakeHuman says."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from fever_extract.training.synthetic.assets import KINDS, read_assets
from fever_extract.training.synthetic.wavefront import read_obj

SQUARE = """# a square
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
g side
f 1/1 2/2 3/3 4/4
"""
HUNG = """# hangs on the vertices 5, 6 and 7 of a body
name a
x_scale 5 6 1.0
y_scale 5 7 1.0
z_scale 5 8 1.0
verts 0
5
5 6 7 0.5 0.5 0.0 0.0 0.0 0.1
5 6 7 0.0 0.5 0.5 0.1 0.2 0.0
8
"""


@pytest.fixture
def folder(tmp_path):
    for kind in KINDS:
        mesh = tmp_path / "mh" / "meshes" / kind / "a"
        mesh.mkdir(parents=True)
        (mesh / "a.obj").write_text(SQUARE)
        (mesh / "a.mhclo").write_text(HUNG)
    for kind in (*KINDS, "skins"):
        (tmp_path / "mh" / "textures" / kind).mkdir(parents=True)
        Image.new("RGBA", (8, 8), (100, 100, 100, 255)).save(
            tmp_path / "mh" / "textures" / kind / "a.png"
        )
    return tmp_path / "mh"


def test_quads_are_split_and_keep_their_texture():
    mesh = read_obj(SQUARE)
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.uv[1].tolist() == [[0, 0], [1, 1], [0, 1]]
    assert set(mesh.groups) == {"side"}


def test_a_mesh_without_faces_is_refused():
    with pytest.raises(ValueError, match="no faces"):
        read_obj("v 0 0 0\n")


def test_cloth_follows_the_body_and_its_size(folder):
    cloth = read_assets(folder).cloths["hair"][0]
    index = np.arange(9)
    body = np.zeros((9, 3), np.float32)
    body[6], body[7], body[8] = (2, 0, 0), (0, 3, 0), (0, 0, 4)  # 2, 3 and 4 times as large
    moved = body + np.array([0, 0, 1], np.float32)
    expected = [[0, 0, 1], [1, 0, 1.4], [1.2, 2.1, 1], [0, 0, 5]]
    np.testing.assert_allclose(cloth.fit(moved, body, index), expected, rtol=1e-6)


def test_zip_and_folder_are_the_same(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder))
    first, second = read_assets(folder), read_assets(tmp_path / "a.zip")
    assert np.array_equal(first.textures, second.textures)
    assert first.skins == second.skins
    assert first.tones == pytest.approx(100 / 255, abs=0.01)


def test_what_is_missing_or_broken_is_named(folder, tmp_path):
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"no\.zip is neither a folder nor a whole zip"):
        read_assets(tmp_path / "no.zip")
    mhclo = folder / "meshes" / "teeth" / "a" / "a.mhclo"
    mhclo.write_text(HUNG.rsplit("8\n", 1)[0])
    with pytest.raises(ValueError, match=r"teeth/a/a\.mhclo can't be read: 3 vertices"):
        read_assets(folder)
    mhclo.unlink()
    with pytest.raises(FileNotFoundError, match="has no teeth"):
        read_assets(folder)
