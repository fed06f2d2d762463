"""FER+ and unlabelled faces in the real tables' format, drawn: learnable in seconds."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from fever_extract.models.config import EXPRESSIONS

NAMES = ["_neutral", "mouthSmileLeft", "mouthSmileRight"]
LANDMARKS = np.array([[15.5, 18.4], [32.9, 18.0], [24.1, 28.5], [17.0, 37.8], [31.6, 37.5]])


def drawn_face(happy: bool, side: int, random: np.random.Generator) -> bytes:
    """A drawing that smiles or does not: learnable in seconds."""
    picture = Image.new("L", (48, 48), int(random.integers(120, 200)))
    draw = ImageDraw.Draw(picture)
    for x, y in LANDMARKS[:2]:
        draw.ellipse((x - 3, y - 2, x + 3, y + 2), fill=20)
    if happy:
        draw.chord((15, 30, 33, 44), 0, 180, fill=250)
    else:
        draw.line((17, 38, 31, 38), fill=20, width=2)
    buffer = io.BytesIO()
    picture.resize((side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int, side: int) -> dict[str, list]:
    random = np.random.default_rng(side)
    happy = random.random(count) < 0.5
    landmarks = [(LANDMARKS * side / 48 + random.normal(0, 0.5, (5, 2))).ravel() for _ in happy]
    blendshapes = [np.array([0, value, value], np.float32) for value in happy]
    return {
        "name": [f"{index}.png" for index in range(count)],
        "happy": happy.tolist(),
        "image": [drawn_face(value, side, random) for value in happy],
        "landmarks": [None if i % 10 == 9 else x for i, x in enumerate(landmarks)],
        "blendshapes": [None if i % 7 == 6 else x for i, x in enumerate(blendshapes)],
    }


def write(path: Path, columns: dict[str, object]) -> None:
    for name, length in (("landmarks", 10), ("blendshapes", len(NAMES))):
        # Before pyarrow 26, lists of fixed size with missing rows can't be written.
        fixed = int(pa.__version__.split(".")[0]) >= 26
        columns[name] = pa.array(columns[name], pa.list_(pa.float32(), length if fixed else -1))
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata({"blendshape_names": ",".join(NAMES)}), path)


def without_blendshapes(root: Path, *names: str) -> None:
    """Take their column out of tables, as those of `prepare` have none."""
    for name in names:
        table = pq.read_table(root / name).drop_columns("blendshapes")
        pq.write_table(table.replace_schema_metadata(None), root / name)


def make_tables(root: Path) -> Path:
    """240 labelled faces (180 to train, 30 valid, 30 test), and ten of each of four people."""
    columns = rows(240, 48)
    happy = np.array(columns.pop("happy"))
    columns["split"] = (["train"] * 6 + ["valid", "test"]) * 30
    for name in [*EXPRESSIONS, "unknown", "not_face"]:
        columns[f"votes_{name}"] = np.zeros(240, np.int8)
    columns["votes_happiness"] = np.where(happy, 9, 1).astype(np.int8)
    columns["votes_neutral"] = np.where(happy, 1, 7).astype(np.int8)
    columns["votes_unknown"] = np.where(happy, 0, 2).astype(np.int8)
    write(root / "ferplus.parquet", columns)
    unlabelled = rows(40, 120)
    del unlabelled["happy"]
    unlabelled["name"] = [f"Some_Name{index // 10}_{index % 10 + 1:04}.jpg" for index in range(40)]
    write(root / "faces.parquet", unlabelled)
    return root
