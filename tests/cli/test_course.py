"""`fever-extract course`: what it prints and writes, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
from clip_maker import scene, write_clip, write_sound
from helpers import SERIOUS, SMILING, in_process, write_faces
from PIL import Image


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two people for two seconds, of whom the one smiles when the other does not."""
    folder = tmp_path_factory.mktemp("faces")
    serious, smiling = write_faces(folder, [SERIOUS[0], SMILING[1]])
    pictures = []
    for index in range(20):
        left, right = (serious, smiling) if index < 10 else (smiling, serious)
        picture = Image.fromarray(scene(Image.open(left), (10, 40), size=(360, 240)))
        picture.paste(Image.open(right), (190, 40))
        pictures.append(picture)
    write_clip(folder / "two.mp4", list(map(np.asarray, pictures)), fine=True)
    return folder / "two.mp4"


def test_all_that_can_be_asked_for(clip, capsys, tmp_path):
    names = ("course.csv", "events.parquet", "plot.png", "drawn.mp4")
    outputs = [tmp_path / name for name in names]
    options = ("-o", "--events", "--plot", "--annotate")
    arguments = [item for pair in zip(options, outputs) for item in pair]
    code, out, err = in_process(
        capsys, "course", clip, *arguments, "--step", 0.5, "--synchrony", "smile"
    )
    assert (code, err) == (0, "")
    assert "two.mp4: 20 frames, " in out
    assert "smiles a minute" in out
    assert "together" in out or "Synchrony(" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    course = pd.read_csv(tmp_path / "course.csv")
    assert {"clip", "face", "time", "signal", "mean", "sd"} <= set(course)
    assert (course["status"] == "ok").all()
    happy = course[course["signal"] == "p_happiness"].set_index(["face", "time"])["mean"]
    assert happy[:, 1.5].max() > 0.5 > happy[:, 1.5].min()
    events = pd.read_parquet(tmp_path / "events.parquet")
    assert {"smile", "happiness"} <= set(events["name"])


def test_a_table_smoothing_and_neutral(clip, capsys, tmp_path):
    table = tmp_path / "t.parquet"
    code, _, err = in_process(
        capsys, "extract", clip, "-o", table, "--all-faces", "--no-embedding", "--quiet"
    )
    assert (code, err) == (0, "")
    results = {}
    for name, arguments in {
        "raw": [],
        "smooth": ["--smooth", "savgol"],
        "median": ["--neutral", "median"],
        "marked": ["--neutral", "0-1"],
    }.items():
        output = tmp_path / f"{name}.csv"
        code, out, err = in_process(capsys, "course", table, "-o", output, *arguments)
        assert (code, err) == (0, "")
        assert "two.mp4: 20 frames" in out
        results[name] = pd.read_csv(output)["mean"]
    for name in ("smooth", "median", "marked"):
        assert (results[name] - results["raw"]).abs().max() > 1e-4


def test_clips_without_faces_or_pictures(clip, capsys, tmp_path):
    write_clip(tmp_path / "empty.mp4", [scene(Image.new("RGB", (1, 1)))] * 3)
    write_sound(tmp_path / "sound.mp4")
    clips = [tmp_path / name for name in ("empty.mp4", "sound.mp4", "missing.mp4")]
    code, _, err = in_process(capsys, "course", *clips, "-o", tmp_path / "c.csv")
    assert code == 0
    assert "empty.mp4: no face in 3 frames, from 0.00 to 0.20 s: no face of 27" in err
    assert "sound.mp4: no video in it (audio only)" in err
    assert "missing.mp4: " in err
    assert "does not exist" in err
    rows = pd.read_csv(tmp_path / "c.csv")
    assert rows["status"].tolist() == ["no_face", "decode_error", "not_found"]
    code, _, _ = in_process(capsys, "course", *clips[1:])
    assert code == 1, "nothing could be read"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "course.txt"], "must end in .csv or .parquet"),
        (["--plot", "plot.jpg"], "must end in .png or .svg or .pdf"),
        (["--annotate", "a.gif"], "must end in .mp4"),
        (["--annotate", "b/a.mp4"], "the folder b does not exist"),
        (["--neutral", "first"], "--neutral must be median or START-END"),
        (["--signals", "smile"], "--signals is for --plot"),
        (["-o", "a.csv", "--events", "a.csv"], "two outputs have one name"),
        (["other.mp4", "--plot", "a.png"], "--plot is for one clip; there are 2"),
        (["t.parquet", "--fps", "5"], "--fps is for clips, and t.parquet is a table"),
        (["--step", "0"], "step must be more than 0"),
    ],
)
def test_what_is_refused(clip, here, capsys, arguments, message):
    code, out, err = in_process(capsys, "course", clip, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(here.iterdir()) == []
