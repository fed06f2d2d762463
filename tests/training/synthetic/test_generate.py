"""Rendered faces are what their labels say, the same every time, and pairs."""

import dataclasses
import io
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fever_extract import Extractor
from fever_extract.training import __main__ as command
from fever_extract.training.evaluation.transfer_sets import held_out

if find_spec("anny") is None or find_spec("numba") is None:
    pytest.skip("needs the extra synthetic", allow_module_level=True)

from fever_extract.training.synthetic import generate as module
from fever_extract.training.synthetic.generate import SIDE, Job, Studio, generate
from fever_extract.training.synthetic.scene import draw_scene

# All in one process: what they share takes seconds to read.
PART, NUMBER, SEED = 40, 52, 3


@pytest.fixture(scope="module")
def assets() -> Path:
    path = Path(__file__).parents[4] / "shared" / "data" / "makehuman_assets.zip"
    if not path.is_file():
        pytest.skip("needs ../shared/data/makehuman_assets.zip")
    return path


@pytest.fixture(scope="module")
def studio(assets) -> Studio:
    return Studio(Job(assets, None, SEED, PART, ""))


@pytest.fixture
def quick(studio, monkeypatch) -> list[int]:
    """Let calls share what is read, and list the rows that are rendered."""
    rendered = []

    class Shared(Studio):
        def __init__(self, job: Job) -> None:
            vars(self).update(vars(studio), job=job)

        def face(self, row: int) -> dict:
            rendered.append(row)
            return super().face(row)

    monkeypatch.setattr(module, "Studio", Shared)
    return rendered


@pytest.fixture(scope="module")
def table(studio, assets, tmp_path_factory):
    """A whole table of two parts, by the command."""
    path = tmp_path_factory.mktemp("faces") / "synthetic.parquet"
    arguments = ["--assets", assets, "--output", path, "--number", NUMBER, "--seed", SEED]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.generate, "__kwdefaults__", {**generate.__kwdefaults__, "part": PART})
        patch.setattr(sys, "argv", ["training", "synthetic", *map(str, arguments)])
        command.main()
    return path


def test_columns_are_those_that_training_reads(table):
    faces = pq.read_table(table)
    assert faces.num_rows == NUMBER
    names = faces.schema.metadata[b"blendshape_names"].decode().split(",")
    assert tuple(names) == Extractor(device="cpu").config.blendshapes
    assert (
        faces.column_names
        == (
            "image landmarks blendshapes expression_id person_id yaw pitch roll source recipe"
        ).split()
    )
    for data in faces["image"].to_pylist():
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", (SIDE, SIDE))
            assert np.asarray(image).std() > 5
    assert not list(table.parent.glob("*.parts"))


def test_pairs_are_one_expression_on_two_people_of_one_part_of_the_data(table):
    faces = pq.read_table(table)
    people = faces["person_id"].to_numpy().reshape(-1, 2)
    expressions = faces["expression_id"].to_numpy().reshape(-1, 2)
    units = np.array(faces["blendshapes"].to_pylist()).reshape(-1, 2, 52)
    assert (people[:, 0] != people[:, 1]).all()
    assert (expressions == np.arange(NUMBER // 2)[:, None]).all()
    assert (units[:, 0] == units[:, 1]).all()
    assert (held_out(people[:, 0]) == held_out(people[:, 1])).all()
    assert len(np.unique(people)) < people.size  # some are seen with several expressions


def test_a_run_that_was_stopped_goes_on_to_the_same_table(table, assets, quick, tmp_path):
    path = tmp_path / "faces.parquet"

    class Stopped(module.Studio):
        def face(self, row: int) -> dict:
            if row == PART + 5:
                raise KeyboardInterrupt
            return super().face(row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Studio", Stopped)
        with pytest.raises(KeyboardInterrupt):
            generate(assets, path, NUMBER, seed=SEED, part=PART)
    assert not path.exists()
    quick.clear()
    generate(assets, path, NUMBER, seed=SEED, part=PART)
    assert quick == list(range(PART, NUMBER))
    assert pq.read_table(path).equals(pq.read_table(table), check_metadata=True)


def test_faces_depend_on_seed_and_row_alone(table, studio):
    faces = pq.read_table(table)
    row = NUMBER - 1  # whoever was rendered before
    assert studio.face(row)["image"] == faces["image"][row].as_py()
    other = Studio.__new__(Studio)
    vars(other).update(vars(studio), job=dataclasses.replace(studio.job, seed=4), _people={})
    assert other.face(row)["image"] != faces["image"][row].as_py()


def test_landmarks_are_on_the_face(table, extractor):
    """The detector, which learned from photographs, sees faces where the labels say they are."""
    faces = pq.read_table(table)
    distances = []
    for data, truth in zip(faces["image"].to_pylist()[:24], faces["landmarks"].to_pylist()):
        points = np.reshape(truth, (5, 2))
        apart = np.linalg.norm(points[1] - points[0])
        for face in extractor.extract_faces(Image.open(io.BytesIO(data)))[:1]:
            distances.append(np.linalg.norm(face.landmarks - points, axis=1) / apart)
    assert len(distances) >= 14
    assert np.median(distances) < 0.2


def test_units_move_what_they_name(studio):
    """A mirrored expression is drawn on the other side, and eyes turn where they are said to."""
    person = studio._person(0)
    scene = draw_scene(np.random.default_rng(0))
    scene = dataclasses.replace(scene, yaw=0.0, pitch=0.0, roll=0.0, shift=np.zeros(2))

    def picture(**units: float) -> np.ndarray:
        strengths = np.zeros(len(studio.names), np.float32)
        for name, strength in units.items():
            strengths[studio.names.index(name)] = strength
        rng = np.random.default_rng(0)
        return studio.renderer.render(person, studio.names, strengths, scene, rng).light

    rest = picture()
    changed = {
        name: np.argwhere(np.abs(picture(**{name: 1}) - rest).sum(axis=2) > 0.05).mean(axis=0)
        for name in ("eyeBlinkLeft", "eyeBlinkRight", "jawOpen")
    }
    middle = len(rest) / 2
    # The person's left is the picture's right.
    assert changed["eyeBlinkLeft"][1] > middle > changed["eyeBlinkRight"][1]
    assert changed["jawOpen"][0] > changed["eyeBlinkLeft"][0]


def test_what_can_not_be_is_refused(assets, tmp_path):
    with pytest.raises(ValueError, match="must be even"):
        generate(assets, tmp_path / "a.parquet", 3)
    with pytest.raises(ValueError, match=r"must end in \.parquet"):
        generate(assets, tmp_path / "a.csv", 2)
    with pytest.raises(FileNotFoundError, match=r"no\.zip is not there"):
        generate(tmp_path / "no.zip", tmp_path / "a.parquet", 2)
    with pytest.raises(FileNotFoundError, match="does not exist; make it"):
        generate(assets, tmp_path / "no" / "a.parquet", 2)
    assert not list(tmp_path.iterdir())
