"""The examples, the benchmark and the README's code run as they stand."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

ROOT = Path(__file__).parents[1]


def run(*arguments, cwd=None) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_steps():
    out = run(ROOT / "examples" / "first_steps.py")
    assert "happiness" in out
    assert "mouthSmile" in out


def test_folder_to_sklearn(tmp_path, astronaut):
    for index in range(4):
        for name, picture in (
            ("sharp", astronaut),
            ("blurred", astronaut.filter(ImageFilter.GaussianBlur(6))),
        ):
            (tmp_path / name).mkdir(exist_ok=True)
            picture.rotate(3 * index).save(tmp_path / name / f"{index}.jpg")
    out = run(ROOT / "examples" / "folder_to_sklearn.py", tmp_path)
    assert "8 of 8 pictures have a face" in out
    assert "blurred" in out


def test_first_steps_compares_photographs(tmp_path, astronaut, landscape):
    astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    Image.fromarray(landscape).save(tmp_path / "landscape.jpg")
    astronaut.save(tmp_path / "a.png")
    out = run(
        ROOT / "examples" / "first_steps.py", "a.png", "landscape.jpg", "mirrored.png", cwd=tmp_path
    )
    assert "landscape.jpg: no_face" in out
    (alike,) = re.findall(r"a\.png and mirrored\.png: cosine (\S+)", out)
    assert float(alike) > 0.8


def test_own_classes(tmp_path, astronaut):
    """Sharp against blurred: nothing about expressions, but classes all the same."""
    for index in range(6):
        for name, blur in (("sharp", 0), ("blurred", 6)):
            (tmp_path / "faces" / name).mkdir(parents=True, exist_ok=True)
            picture = astronaut.rotate(3 * index).filter(ImageFilter.GaussianBlur(blur))
            picture.save(tmp_path / "faces" / name / f"{index}.jpg")
    example, head = ROOT / "examples" / "own_classes.py", tmp_path / "head.joblib"
    out = run(example, "train", tmp_path / "faces", head)
    assert re.search(r"\d faces to learn from; on the \d others:", out)
    known = tmp_path / "faces" / "blurred" / "0.jpg"
    out = run(example, "predict", head, known, tmp_path / "missing.jpg")
    assert re.search(r"blurred.0\.jpg: blurred \d+%\n.*missing\.jpg: not_found, ", out)


def test_onnx_without_torch(tmp_path, astronaut, extractor):
    """What the network says in ONNX Runtime, where torch can't be imported."""
    (tmp_path / "photos").mkdir()
    astronaut.save(tmp_path / "photos" / "a.png")
    extractor.extract_folder(tmp_path / "photos", tmp_path / "f.npz", save_crops=tmp_path / "crops")
    run("-m", "fever_extract.cli", "export", tmp_path / "fever.onnx")
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "torch.py").write_text("raise ImportError('there is no torch here')")
    arguments = [sys.executable, ROOT / "examples" / "onnx_without_torch.py"]
    done = subprocess.run(
        [*map(str, arguments), "fever.onnx", "crops/a.png.0.jpg"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "without")},
        check=True,
    )
    shown = re.search(r"a\.png\.0\.jpg: happiness \d+%, vector \[(.*)\]", done.stdout)
    start = np.array(shown[1].split(), float)
    expected = extractor.extract(astronaut)[:4]
    assert np.abs(start - expected).max() < 0.3, "a JPEG of the same face"


def test_the_gradio_page(astronaut_path):
    """Skipped where gradio is missing: it brings 50 packages, which CI does not install."""
    pytest.importorskip("gradio")
    import gradio_client

    spec = importlib.util.spec_from_file_location("app", ROOT / "examples/gradio_space/app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    _, url, _ = app.page.launch(prevent_thread_lock=True, quiet=True, server_port=None)
    try:
        client = gradio_client.Client(url, verbose=False)
        photograph = gradio_client.handle_file(str(astronaut_path))
        picture, expressions = client.predict(photograph, api_name="/describe")
        assert expressions["label"] == "happiness"
        assert Image.open(picture).size == (512, 512)
    finally:
        app.page.close()


def test_ray_cluster(tmp_path, astronaut):
    pytest.importorskip("ray")
    pytest.importorskip("fever_extract.distributed")
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        astronaut.save(tmp_path / "photos" / name)
    out = run(ROOT / "examples" / "ray_cluster.py", tmp_path / "photos", f"{tmp_path}/features/")
    assert "2 images in" in out
    assert "'path': 'b.png', 'status': 'ok', 'expression': 'happiness'" in out


def test_the_benchmark(tmp_path, astronaut):
    (tmp_path / "source").mkdir()
    astronaut.resize((1500, 1500)).save(tmp_path / "source" / "a.png")
    made = run(ROOT / "benchmarks" / "make_photos.py", tmp_path / "source", tmp_path / "made", 3)
    assert "3 JPEGs" in made
    out = run(ROOT / "benchmarks" / "run.py", tmp_path / "made")
    plain, ours = (re.search(rf"{name}.* (\d+) faces", out) for name in ("plain", "fever"))
    assert plain[1] == ours[1] == "3"


def test_ci_runs_the_readmes_tests():
    readme = (ROOT / "README.md").read_text()
    (install, test) = re.search(r'pip install -e "(\.\[dev\])" && (pytest)\n', readme).groups()
    ci = (ROOT / ".ci" / "run").read_text()
    assert f'--editable "{install}"' in ci
    assert f"\n{test}\n" in ci
