"""What several test modules measure with."""

import numpy as np
import pyarrow as pa

from fever_extract import cli
from fever_extract.inputs import Input
from fever_extract.records import Face, Record, Status
from fever_extract.tables import Widths
from fever_extract.worker import to_table


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
    code = cli.main([str(argument) for argument in arguments])
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
    return to_table(list(zip(indices.tolist(), inputs)), records, widths)
