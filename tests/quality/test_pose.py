"""Head pose: exact where the head is the mean face, near where it is not."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import ImageOps

from fever_extract.quality.pose import DISTANCE, MODEL, head_pose


def turned(yaw, pitch, roll, scale=2.0, distance=DISTANCE):
    """The mean face as a camera sees it: pitch first, then yaw, then roll, in degrees."""
    yaw, pitch, roll = np.radians([-yaw, -pitch, roll])
    about_x = [
        [1, 0, 0],
        [0, np.cos(pitch), -np.sin(pitch)],
        [0, np.sin(pitch), np.cos(pitch)],
    ]
    about_y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    about_z = [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    x, y, z = np.array(about_z) @ about_y @ about_x @ (MODEL - MODEL.mean(axis=0)).T
    return scale * np.stack([x, y], axis=1) / (1 + z / distance)[:, None] + (300, 200)


@pytest.mark.parametrize("roll", [0, 35, -90, 175])
@pytest.mark.parametrize("scale", [0.3, 20])
def test_exact_on_the_mean_face(roll, scale):
    angles = [(yaw, pitch) for yaw in (-60, -20, 0, 45) for pitch in (-30, 0, 25)]
    points = np.stack([turned(yaw, pitch, roll, scale) for yaw, pitch in angles])
    np.testing.assert_allclose(head_pose(points), angles, atol=0.5)


def test_signs():
    """The nose of the second face points to the right as seen, of the third upwards."""
    middle, right, up = head_pose(np.stack([turned(0, 0, 0)] * 3) + nose((0, 0), (15, 0), (0, -15)))
    assert right[0] > middle[0] + 5
    assert up[1] > middle[1] + 5


def nose(*steps):
    moved = np.zeros((len(steps), 5, 2))
    moved[:, 2] = steps
    return moved


def test_no_landmarks():
    points = np.stack([turned(10, 0, 0), np.full((5, 2), np.nan), np.zeros((5, 2))])
    found = head_pose(points)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:]).all()
    assert head_pose(np.zeros((0, 5, 2))).shape == (0, 2)


def test_a_mirror_turns_yaw_round(extractor, astronaut):
    (face,) = extractor.extract_faces(astronaut)
    (mirrored,) = extractor.extract_faces(ImageOps.mirror(astronaut))
    assert mirrored.yaw == pytest.approx(-face.yaw, abs=4)
    assert mirrored.pitch == pytest.approx(face.pitch, abs=6)
    assert mirrored.roll == pytest.approx(-face.roll, abs=3)


def test_rendered_heads(data):
    if not (data / "synthetic.parquet").is_file():
        pytest.skip("needs synthetic.parquet")
    table = pq.read_table(data / "synthetic.parquet", columns=["landmarks", "yaw", "pitch"])
    table = table.filter(table["landmarks"].is_valid())[:2000]
    points = table["landmarks"].combine_chunks().flatten().to_numpy().reshape(-1, 5, 2)
    yaw, pitch = head_pose(points).T
    assert np.abs(yaw - table["yaw"].to_numpy()).mean() < 4
    assert np.corrcoef(pitch, table["pitch"].to_numpy())[0, 1] > 0.5
