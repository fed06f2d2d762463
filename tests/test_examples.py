"""The examples, the benchmark and the README's code run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

from PIL import ImageFilter

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


def test_the_benchmark(tmp_path, astronaut):
    (tmp_path / "source").mkdir()
    astronaut.resize((1500, 1500)).save(tmp_path / "source" / "a.png")
    made = run(ROOT / "benchmarks" / "make_photos.py", tmp_path / "source", tmp_path / "made", 3)
    assert "3 JPEGs" in made
    out = run(ROOT / "benchmarks" / "run.py", tmp_path / "made")
    plain, ours = (re.search(rf"{name}.* (\d+) faces", out) for name in ("plain", "fever"))
    assert plain[1] == ours[1] == "3"


def test_the_readmes_python(tmp_path, astronaut, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        astronaut.save(tmp_path / "photos" / name)
    (tmp_path / "readme.py").write_text(code)
    run("readme.py", cwd=tmp_path)


def test_ci_runs_the_readmes_tests():
    readme = (ROOT / "README.md").read_text()
    (install, test) = re.search(r'pip install -e "(\.\[dev\])" && (pytest)\n', readme).groups()
    ci = (ROOT / ".ci" / "run").read_text()
    assert f'--editable "{install}"' in ci
    assert f"\n{test}\n" in ci
