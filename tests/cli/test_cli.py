"""The command, once in a process of its own, as a user runs it."""

import os
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import in_process
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory, astronaut_path):
    root = tmp_path_factory.mktemp("photos")
    for name in ("a.jpg", "b.jpg"):
        (root / name).write_bytes(astronaut_path.read_bytes())
    (root / "日本.png").write_bytes(b"broken")
    return root


def test_extract(folder, tmp_path):
    """Where the output's encoding has not all letters, as on Windows when it is redirected."""
    run = subprocess.run(
        [sys.executable, "-m", "fever_extract.cli", "extract", folder, "-o", "f.parquet"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "3 images in" in run.stdout
    assert "2 ok, 1 decode_error" in run.stdout
    assert r"\u65e5\u672c.png: could not be decoded" in run.stdout
    assert run.stderr == "", "no progress bar in a log"
    assert pq.read_table(tmp_path / "f.parquet").num_rows == 3


def test_options_reach_the_job(folder, tmp_path, capsys):
    options = ["--normalize", "--all-faces", "--select", "center", "--min-face-size", 30]
    output = tmp_path / "f.npz"
    done = in_process(capsys, "extract", folder, "-o", output, "--quiet", *options)
    assert done == (0, "", "")
    with np.load(output) as table:
        good = table["embedding"][table["status"] == "ok"]
    np.testing.assert_allclose(np.linalg.norm(good, axis=1), 1, atol=1e-5)


def test_strict_makes_a_failed_image_an_error(folder, tmp_path, capsys):
    code, _, _ = in_process(capsys, "extract", folder, "-o", tmp_path / "f.csv", "--strict")
    assert code == 1
    assert (tmp_path / "f.csv").exists()


def test_nothing_could_be_read(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"broken")
    code, _, err = in_process(capsys, "extract", tmp_path, "-o", tmp_path / "f.csv")
    assert code == 1
    assert "could be read" in err


def test_an_empty_folder(tmp_path, capsys):
    code, _, err = in_process(capsys, "extract", tmp_path, "-o", tmp_path / "f.csv")
    assert code == 1
    assert err.startswith("fever-extract: no images in")


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract"],
        ["extract", "nowhere", "-o", "f.csv"],
        ["extract", ".", "-o", "f.xlsx"],
        ["extract", ".", "-o", "missing/f.csv"],
        ["extract", ".", "-o", "f.csv", "--select", "best"],
        ["extract", ".", "-o", "f.csv", "--batch-size", "0"],
        ["extract", ".", "-o", "f.csv", "--weights", "nowhere"],
        ["demo", "-o", "demo.xyz"],
        ["dance"],
    ],
)
def test_wrong_usage_is_one_line_and_a_2(arguments, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    code, _, err = in_process(capsys, *arguments)
    assert code == 2, err
    assert err.strip().splitlines()[-1].startswith("fever-extract")
    assert not list(folder.glob("f.*"))


def test_a_missing_extra_is_told_before_any_work(folder, tmp_path):
    """pyarrow is hidden from the process by a module of its name that can't be found."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'pyarrow':\n"
        "            raise ModuleNotFoundError(name)\n"
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: (\n"
        "    None if name == 'pyarrow' else find(name, package))\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    for output in ("f.parquet", "shards"):
        run = subprocess.run(
            [sys.executable, "-m", "fever_extract.cli", "extract", folder, "-o", output],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            check=False,
        )
        assert run.returncode == 2
        assert "pip install 'fever-extract[parquet]'" in run.stderr
        assert not (tmp_path / output).exists()


def test_demo(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = in_process(capsys, "demo")
    assert code == 0, err
    assert "face: box" in out
    assert "expressions: happiness" in out
    picture = np.asarray(Image.open(tmp_path / "fever-demo.jpg"))
    assert picture.shape == (512, 512, 3)
    yellow = (picture[..., 0] > 220) & (picture[..., 2] < 90)
    assert yellow.sum() > 500, "a box was drawn"


def test_info(extractor, capsys):
    code, out, _ = in_process(capsys, "info")
    assert code == 0
    assert extractor.sha256 in out
    assert "facenet-pytorch 2.5" in out


def test_version_and_help(capsys):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", in_process(capsys, "--version")[1])
    assert "extract" in in_process(capsys, "--help")[1]
