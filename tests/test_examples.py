"""The examples, the benchmark and the README's code run as they stand."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from clip_maker import scene, write_clip
from helpers import OPEN_MOUTHS, SERIOUS, SMILING, write_faces
from PIL import Image, ImageFilter

ROOT = Path(__file__).parents[1]


def run(*arguments, cwd=None) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Runs a script in ``tmp_path`` as it stands, without another import of torch."""

    def run_here(name: str, *arguments) -> str:
        path = str(ROOT / name)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run_here


def test_first_steps(script):
    out = script("examples/first_steps.py")
    assert "happiness" in out
    assert "mouthSmile" in out


def test_folder_to_sklearn(tmp_path, script):
    write_faces(tmp_path / "in" / "smiling", SMILING)
    write_faces(tmp_path / "in" / "serious", SERIOUS)
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "in" / "serious" / "no_face.png")
    out = script("examples/folder_to_sklearn.py", "in")
    assert "24 of 25 pictures have a face" in out
    assert float(re.search(r"accuracy +([\d.]+)", out)[1]) >= 0.8
    right, wrong, wrong_too, right_too = map(int, re.findall(r"\d+", out.split("was said")[1])[:4])
    assert right + wrong == wrong_too + right_too == 12
    classifier = joblib.load(tmp_path / "classifier.joblib")
    assert classifier.predict([str(tmp_path / "in" / "smiling" / "01.png")]) == ["smiling"]


def test_find_similar(tmp_path, script):
    write_faces(tmp_path / "in", SMILING[1:] + SERIOUS[:6])
    write_faces(tmp_path, SMILING[:1])
    out = script("examples/find_similar.py", "in", f"{SMILING[0]:02}.png")
    nearest = [int(Path(line.split()[1]).stem) for line in out.splitlines()]
    assert len(nearest) == 5
    assert len(set(nearest) & set(SMILING)) >= 4
    similarity = [float(line.split()[0]) for line in out.splitlines()]
    assert similarity == sorted(similarity, reverse=True)


def test_neighbours(tmp_path, script):
    write_faces(tmp_path / "in" / "serious", SERIOUS[:6])
    first, *_ = write_faces(tmp_path / "in" / "smiling", SMILING[:6])
    darker = Image.open(first).point(lambda value: value * 0.8)
    darker.save(first.with_name(f"{first.stem}_b.png"))
    out = script("examples/neighbours.py", "in", "page.html", r"\d\d")
    assert "2 faces of people with several: nearest is the same person 100.0%" in out
    shares = {int(count): float(share) for count, share in re.findall(r"the (\d) .*: (.*)%", out)}
    assert shares[1] > 60, "half by chance"
    page = (tmp_path / "page.html").read_text()
    assert page.count("asked for") == 13
    assert page.count("same person") == 2
    assert "data:image" in page


def test_cluster(tmp_path, script):
    write_faces(tmp_path, SMILING + SERIOUS)
    out = script("examples/cluster.py", tmp_path, 2)
    groups = [set(map(int, re.findall(r"(\d\d)\.png", line))) for line in out.splitlines()[1::2]]
    assert len(groups) == 2
    # Nobody said what to group by; expression it is, mostly.
    smiles = sorted(len(group & set(SMILING)) / len(group) for group in groups)
    assert smiles[0] < 0.3
    assert smiles[1] > 0.7


def test_few_shot(tmp_path, script):
    write_faces(tmp_path / "five", OPEN_MOUTHS)
    write_faces(tmp_path / "others", SMILING + SERIOUS)
    write_faces(tmp_path / "in", [49, 51, 59, 8, 9, 20, 27, 36, 42, 54, 63, 69])
    out = script("examples/few_shot.py", *(tmp_path / n for n in ("five", "others", "in")))
    ranked = [int(line.split()[1][:2]) for line in out.splitlines()]
    assert len(ranked) == 12
    assert len(set(ranked[:4]) & {49, 51, 59}) >= 2


def test_clip_over_time(tmp_path, script):
    serious, smiling = write_faces(tmp_path, [SERIOUS[0], SMILING[1]])
    pictures = [scene(Image.open(face), (60, 40)) for face in [serious] * 10 + [smiling] * 10]
    write_clip(tmp_path / "clip.mp4", pictures)
    out = script("examples/clip_over_time.py", tmp_path / "clip.mp4")
    assert out.startswith("face 0, seen for ")
    begins = {
        name: float(onset) for onset, name in re.findall(r"([\d.]+) to +[\d.]+ s  (\w+)", out)
    }
    assert begins["neutral"] == 0.0
    assert 0.8 <= begins["happiness"] <= 1.2
    assert (tmp_path / "clip.png").exists()
    assert (tmp_path / "clip.course.csv").exists()


def test_first_steps_compares_photographs(tmp_path, astronaut, landscape, script):
    astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    Image.fromarray(landscape).save(tmp_path / "landscape.jpg")
    astronaut.save(tmp_path / "a.png")
    out = script("examples/first_steps.py", "a.png", "landscape.jpg", "mirrored.png")
    assert "landscape.jpg: no_face" in out
    (alike,) = re.findall(r"a\.png and mirrored\.png: cosine (\S+)", out)
    assert float(alike) > 0.8


def test_own_classes(tmp_path, astronaut, script):
    """Sharp against blurred: nothing about expressions, but classes all the same."""
    for index in range(6):
        for name, blur in (("sharp", 0), ("blurred", 6)):
            (tmp_path / "faces" / name).mkdir(parents=True, exist_ok=True)
            picture = astronaut.rotate(3 * index).filter(ImageFilter.GaussianBlur(blur))
            picture.save(tmp_path / "faces" / name / f"{index}.jpg")
    example, head = "examples/own_classes.py", tmp_path / "head.joblib"
    out = script(example, "train", tmp_path / "faces", head)
    assert re.search(r"\d faces to learn from; on the \d others:", out)
    known = tmp_path / "faces" / "blurred" / "0.jpg"
    out = script(example, "predict", head, known, tmp_path / "missing.jpg")
    assert re.search(r"blurred.0\.jpg: blurred \d+%\n.*missing\.jpg: not_found, ", out)


def test_fine_tune(tmp_path, script):
    for name, numbers in (("smiling", SMILING), ("serious", SERIOUS)):
        write_faces(tmp_path / "in" / name, numbers[:8])
        write_faces(tmp_path / name, numbers[8:9])
    photographs = [
        f"{name}/{n[8]:02}.png" for name, n in (("serious", SERIOUS), ("smiling", SMILING))
    ]
    out = script("examples/fine_tune.py", "in", "runs/mine", *photographs, "missing.jpg")
    assert re.search(r"runs/mine: \d+% of 4 right", out)
    assert "serious/26.png: serious " in out
    assert "smiling/53.png: smiling " in out
    assert "missing.jpg: not_found, " in out


def test_onnx_without_torch(tmp_path, astronaut, extractor, bundle):
    """What the network says in ONNX Runtime, where torch can't be imported."""
    (tmp_path / "photos").mkdir()
    astronaut.save(tmp_path / "photos" / "a.png")
    extractor.extract_folder(tmp_path / "photos", tmp_path / "f.npz", save_crops=tmp_path / "crops")
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "torch.py").write_text("raise ImportError('there is no torch here')")
    arguments = [sys.executable, ROOT / "examples" / "onnx_without_torch.py"]
    done = subprocess.run(
        [*map(str, arguments), str(bundle / "embedder.onnx"), "crops/a.png.0.jpg"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "without")},
        check=True,
    )
    shown = re.search(r"a\.png\.0\.jpg: happiness \d+%, embedding \[(.*)\]", done.stdout)
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


@pytest.mark.slow
def test_the_benchmark(tmp_path, astronaut):
    (tmp_path / "source").mkdir()
    astronaut.resize((1500, 1500)).save(tmp_path / "source" / "a.png")
    run(ROOT / "benchmarks" / "make_photos.py", tmp_path / "source", tmp_path / "photos", 3)
    results = tmp_path / "results.md"
    run(ROOT / "benchmarks" / "run.py", tmp_path / "photos", "--results", results, "--long", 2, 4)
    rows = results.read_text().split("| --- |\n")[1].split("\n\n")[0].splitlines()
    assert len(rows) == 18
    assert "3 faces | " in rows[0], "as many as the plain pipeline, which is said before"
    assert "3 faces |" in rows[0].split("images/s, ")[1]


def test_the_video_benchmark(tmp_path, script):
    write_clip(tmp_path / "clip.mp4", [np.full((120, 160, 3), 128, np.uint8)] * 4)
    lines = script("benchmarks/video.py", "clip.mp4").splitlines()
    assert lines[0].startswith("160x120, ")
    rates = [line for line in lines if " frames/s, " in line]
    assert len(rates) == 2 + 2 * 4, "decoding, and extraction of frames and from the file"


def test_the_readmes_python(tmp_path, astronaut, script):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        astronaut.save(tmp_path / "photos" / name)
    (tmp_path / "readme.py").write_text(code)
    assert script(tmp_path / "readme.py")


def test_ci_runs_the_readmes_tests():
    readme = (ROOT / "README.md").read_text()
    (install, test) = re.search(r'pip install -e "(\.\[dev\])" && (pytest)\n', readme).groups()
    ci = (ROOT / ".ci" / "run").read_text()
    assert f'--editable "{install}"' in ci
    assert f"\n{test}\n" in ci
