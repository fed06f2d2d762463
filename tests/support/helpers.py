"""What several test modules measure with."""

import csv
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps
from skimage.data import lfw_subset

from fever_extract import cli
from fever_extract.jobs.sources import Input
from fever_extract.jobs.worker import LINKS, to_table
from fever_extract.records import Face, Record, Status
from fever_extract.tables.schema import Widths

# Of the faces in skimage's lfw_subset, by number, as they look to us.
SMILING = [1, 11, 18, 21, 31, 38, 45, 52, 53, 74, 79, 81]
SERIOUS = [2, 3, 5, 6, 7, 12, 24, 25, 26, 28, 46, 57]
OPEN_MOUTHS = [0, 29, 48, 77, 97]  # that don't smile


def write_faces(folder: Path, numbers: list[int]) -> list[Path]:
    """Write some of those faces, four times as large and with a margin, as ``NN.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in numbers:
        grey = (lfw_subset()[number] * 255).astype(np.uint8)
        face = Image.fromarray(grey).resize((100, 100), Image.BICUBIC)
        paths.append(folder / f"{number:02}.png")
        ImageOps.expand(face, 30, 128).save(paths[-1])
    return paths


def write_csv(path: Path, rows: list[list]) -> Path:
    """Write rows, and the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    overlap = np.prod(np.maximum(sides, 0))
    return float(overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap))


def in_process(capsys, *arguments: object) -> tuple[int, str, str]:
    """The command without a process of its own: exit code, standard output and error."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse's
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def synthetic_rows(
    inputs: list[Input], indices: np.ndarray, widths: Widths | None = None
) -> pa.Table:
    """What a worker would answer if every image had a face: stands for work that was done."""
    widths = widths or Widths(4)
    shape = len(inputs), widths.embedding
    vectors = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    box, landmarks = np.zeros(4, np.float32), np.zeros((5, 2), np.float32)
    records = [Record(Status.OK, faces=(Face(box, 1.0, landmarks, row),)) for row in vectors]
    table = to_table(list(zip(indices.tolist(), inputs)), records, widths)
    return table.drop_columns([LINKS])


def workers():
    """The worker processes of the actors, which are far descendants of this process."""
    return descendants(b"from fever_extract.jobs.worker import main")


def descendants(command=b""):
    """This process and all below it, whose command lines hold that."""
    parents, found = {}, []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                parents[pid] = int(file.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if command in file.read():
                    found.append(pid)
        except OSError:
            continue

    def is_ours(pid):
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    return [pid for pid in found if is_ours(pid)]
