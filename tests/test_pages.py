"""The pages on scikit-learn and video do what they say."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from clip_maker import scene, write_clip
from doc_pages import ROOT, run_page
from joblib.externals.loky import get_reusable_executor
from PIL import Image


@pytest.fixture
def here(tmp_path, monkeypatch, astronaut, landscape):
    """A folder with what the pages speak of."""
    for index, name in enumerate("abcd"):
        picture = astronaut.rotate(index // 2 * 3)
        if index % 2:
            picture.paste((90, 60, 50), (200, 130, 270, 150))
        picture.save(tmp_path / f"{name}.jpg")
    Image.fromarray(landscape).save(tmp_path / "no_face.jpg")
    face = astronaut.crop((120, 0, 340, 220)).resize((160, 160))
    write_clip(tmp_path / "clip.mp4", [scene(face, (index * 5, 40)) for index in range(10)])
    monkeypatch.chdir(tmp_path)
    # joblib's workers of tests before this one are still in another folder.
    get_reusable_executor().shutdown()
    return tmp_path


def test_scikit_learn(here, capsys):
    out = run_page(ROOT / "docs" / "scikit-learn.md", capsys)
    assert "4 of 5 have a face" in out
    assert "(4, 513)" in out
    assert (here / "fever-cache").is_dir()


def test_video(here, capsys):
    out = run_page(ROOT / "docs" / "video.md", capsys)
    assert "0.50 s  face 0: " in out
    assert out.count("Status.OK") + out.count(" ok\n") == 10
    table = pq.read_table("clip.parquet")
    assert table["time"].to_pylist() == pytest.approx(np.arange(10) / 10)
    assert table["track"].to_pylist() == [0] * 10
