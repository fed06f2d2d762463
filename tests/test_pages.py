"""The pages on scikit-learn and clips do what they say."""

import re

import joblib
import numpy as np
import pyarrow.parquet as pq
import pytest
from clip_maker import scene, write_clip
from doc_pages import ROOT, run_page
from PIL import Image


@pytest.fixture
def here(tmp_path, monkeypatch, astronaut, landscape):
    """A folder with what the pages speak of."""
    for index, name in enumerate("abcd"):
        picture = astronaut.rotate(index // 2 * 3)
        if index % 2:
            picture.paste((90, 60, 50), (200, 130, 270, 150))
        picture.save(tmp_path / f"{name}.jpg")
        folder = tmp_path / "classes" / ("serious" if index % 2 else "smiling")
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{'anna' if index < 2 else 'ben'}_{index}.jpg")
    Image.fromarray(landscape).save(tmp_path / "no_face.jpg")
    face = astronaut.crop((120, 0, 340, 220)).resize((160, 160))
    write_clip(tmp_path / "clip.mp4", [scene(face, (index * 5, 40)) for index in range(10)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scikit_learn(here, capsys):
    # Processes are for tests/test_estimator.py: each imports torch.
    with joblib.parallel_config("threading"):
        out = run_page(ROOT / "docs" / "scikit-learn.md", capsys)
    assert "4 of 5 have a face" in out
    assert "(4, 513)" in out
    assert (here / "fever-cache").is_dir()
    assert "balanced accuracy " in out
    with Image.open(here / "confusion.png") as figure:
        assert min(figure.size) > 300


def test_video(here, capsys):
    out = run_page(ROOT / "docs" / "video.md", capsys)
    assert "0.50 s  face 0: " in out
    assert len(re.findall(r"^[\d.]+ (?:Status\.OK|ok)$", out, re.M)) == 10
    table = pq.read_table("clip.parquet")
    assert table["time"].to_pylist() == pytest.approx(np.arange(5) / 5)
    assert table["track"].to_pylist() == [0] * 5


def test_course(here, astronaut, capsys):
    """Two faces for six seconds."""
    face = astronaut.crop((120, 0, 340, 220)).resize((130, 130))
    shown = [scene(face, (10, 40 + step), (170, 60 - step)) for step in range(20)]
    write_clip(here / "interview.mp4", shown, range(0, 6000, 300))
    out = run_page(ROOT / "docs" / "course.md", capsys)
    assert "Synchrony(faces 0 and 1, smile" in out
    assert "interview.mp4: 20 frames, 2 faces" in out
    for name in ("course.csv", "events.csv", "course.png", "annotated.mp4", "course.parquet"):
        assert (here / name).stat().st_size > 100, name
