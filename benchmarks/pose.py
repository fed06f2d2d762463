"""Head pose against exact angles: rendered faces of the table `synthetic.parquet`.

python benchmarks/pose.py SYNTHETIC.parquet                      errors, of people with odd numbers
python benchmarks/pose.py SYNTHETIC.parquet --fit FACES.parquet  the mean face: depths of people
    with even numbers, the rest of photographs
"""

import sys
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq

from fever_extract.quality.pose import head_pose
from fever_extract.records import Face


def read_points(path: str) -> np.ndarray:
    table = pq.read_table(path, columns=["landmarks"])
    return _points(table.filter(table["landmarks"].is_valid()))


def _points(table) -> np.ndarray:
    points = table["landmarks"].combine_chunks().flatten().to_numpy()
    return points.reshape(-1, 5, 2).astype(float)


def read(path: str) -> SimpleNamespace:
    names = ["yaw", "pitch", "roll", "person_id"]
    table = pq.read_table(path, columns=["landmarks", *names])
    table = table.filter(table["landmarks"].is_valid())
    columns = {name: table[name].to_numpy() for name in names}
    return SimpleNamespace(landmarks=_points(table), odd=columns["person_id"] % 2 == 1, **columns)


def symmetric(points: np.ndarray) -> np.ndarray:
    """The mean of a face and its mirror image, with eyes 62 mm apart."""
    mirrored = points[[1, 0, 2, 4, 3]] * ([-1] + [1] * (points.shape[1] - 1))
    points = (points + mirrored) / 2
    return points * 62 / (points[1, 0] - points[0, 0])


def mean_face(landmarks: np.ndarray) -> np.ndarray:
    """The mean of faces brought together by similarity transforms, ``(5, 2)`` in mm."""
    faces = landmarks[..., 0] + 1j * landmarks[..., 1]
    faces = faces - faces.mean(axis=1, keepdims=True)
    mean = faces[0]
    for _ in range(5):
        fits = (faces.conj() * mean).sum(axis=1) / (np.abs(faces) ** 2).sum(axis=1)
        mean = (fits[:, None] * faces).mean(axis=0)
        mean = mean / (mean[1] - mean[0])
    return symmetric(np.stack([mean.real, mean.imag], axis=1))


def depths(data: SimpleNamespace) -> np.ndarray:
    """Of five points that, turned as the heads are, come nearest to the landmarks; in mm."""
    angles = (data.pitch, data.yaw, data.roll)
    pitch, yaw, roll = (np.radians(angle[~data.odd]) for angle in angles)
    points = data.landmarks[~data.odd]
    points = points - points.mean(axis=1, keepdims=True)
    points = points / np.linalg.norm(points, axis=(1, 2))[:, None, None]
    # The two rows of roll after yaw after pitch that the picture shows.
    across = np.stack([np.cos(yaw), np.sin(yaw) * np.sin(pitch), -np.sin(yaw) * np.cos(pitch)])
    down = np.stack([np.zeros_like(yaw), np.cos(pitch), np.sin(pitch)])
    rows = np.stack(
        [np.cos(roll) * across - np.sin(roll) * down, np.sin(roll) * across + np.cos(roll) * down]
    )
    shown = points.transpose(2, 0, 1).reshape(-1, 5)
    model = np.linalg.lstsq(rows.transpose(0, 2, 1).reshape(-1, 3), shown, rcond=None)[0].T
    model = symmetric(model)
    return model[:, 2] - model[0, 2]


def main(path: str, *arguments: str) -> None:
    data = read(path)
    if arguments:
        plane = mean_face(read_points(arguments[1]))
        print(np.column_stack([plane, depths(data)]).round(1))
        return
    found = head_pose(data.landmarks)
    box = np.zeros(4, np.float32)
    roll = np.array([Face(box, 1.0, points, box).roll for points in data.landmarks])
    print(f"{int(data.odd.sum())} faces")
    print("angle | spread | mean absolute error | median | bias | without the bias | correlation")
    for name, angles in (("yaw", found[:, 0]), ("pitch", found[:, 1]), ("roll", roll)):
        exact, estimate = getattr(data, name)[data.odd], angles[data.odd]
        error = estimate - exact
        print(
            f"{name} | {exact.std():.1f} | {np.abs(error).mean():.1f} | "
            f"{np.median(np.abs(error)):.1f} | {error.mean():+.1f} | "
            f"{np.abs(error - error.mean()).mean():.1f} | "
            f"{np.corrcoef(estimate, exact)[0, 1]:.2f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
