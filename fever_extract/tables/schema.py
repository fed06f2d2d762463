"""The columns of a table of faces, their types, and the table's metadata.

========================  ==========================================================
path                      relative to the folder, or as it was given; odd bytes in it as in
                          `fever_extract._utils.names`
time                      of a clip's frame, in seconds; NaN for a photograph
status, error             what became of the image; error is empty if it is ok
face_index                0 for the image's first face; -1 for an image without one
track                     in a clip, which face it is from frame to frame; -1 for none
detected                  false where the whole picture was taken as the face
box                       x1, y1, x2, y2 in pixels of the upright picture
score                     the detector's confidence, 0 to 1
landmarks                 x, y of left eye, right eye, nose, left and right mouth corner
face_size                 side of a square as large as the box, in pixels
yaw, pitch, roll          how the head is turned, in degrees: nose to the right as seen, nose
                          upwards, clockwise; see `fever_extract.quality.pose`
sharpness                 variance of the aligned crop's Laplacian, at 96x96 pixels
exposure                  mean luminance of the aligned crop, 0 (black) to 1 (white)
outside                   share of the aligned crop that lies outside the picture
expression, probability   the most probable expression, and how probable it is
entropy                   of the expressions' probabilities, in bits: 0 is certain
expressions               how probable each expression is; their names are in the metadata
valence, arousal          -1 to 1
blendshapes               how strong each is, 0 to 1; their names are in the metadata
embedding                 what describes the expression: ``d`` numbers
========================  ==========================================================

Numbers that don't exist are NaN. What the weights have no head for has no column, and the
embedding has none if the table was made without it. In Parquet and npz, box, landmarks,
expressions, blendshapes and embedding are one column each; csv and data frames have a column a
number: ``box_0``, ``landmarks_0``, ``p_happiness``, ``bs_jawOpen``, ``embedding_0`` and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from fever_extract._utils.names import printable, to_text
from fever_extract.models.checkpoint import provenance
from fever_extract.quality.pose import head_pose
from fever_extract.records import Face, Record

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.models.checkpoint import Weights
    from fever_extract.models.config import Config
    from fever_extract.options import Options

Column = Union[list[str], "npt.NDArray[Any]"]
"""Texts as a list of str; numbers as an array whose first axis is the row."""

EXTENSIONS = (".parquet", ".npz", ".csv")
METADATA_KEY = "fever_extract"
"""Where Parquet's schema metadata and the npz file keep the metadata, as JSON."""
VERSION = 2
"""Of these columns: a job does not go on with a table of others."""
EMBEDDING = "embedding"

TEXTS = ("path", "status", "error", "expression")
_DTYPES = {"time": np.float64, "face_index": np.int32, "track": np.int32, "detected": np.bool_}
# The prefix of the columns that are named after an item of the metadata.
_NAMED = {"expressions": "p_", "blendshapes": "bs_"}
_NUMBERED = re.compile(r"(box|landmarks|expressions|blendshapes|embedding)_\d+")


@dataclass(frozen=True)
class Widths:
    """Numbers in a row of the columns that depend on the weights; 0 leaves a column out.

    Attributes:
        embedding: length of an embedding.
        expressions, blendshapes: how many the weights tell apart.
        valence_arousal: 2 if the weights have them.
    """

    embedding: int
    expressions: int = 0
    blendshapes: int = 0
    valence_arousal: int = 0

    @classmethod
    def of(cls, config: Config, embedding: bool = True) -> Widths:
        """Those of weights, with the embedding or without."""
        return cls(
            config.embedding_dim if embedding else 0,
            len(config.expressions),
            len(config.blendshapes),
            2 if config.valence_arousal else 0,
        )


@dataclass(frozen=True)
class Columns:
    """Some rows of a table, by column.

    Texts are lists of str; numbers are arrays whose first axis is the row: ``box``
    ``(n, 4)``, ``landmarks`` ``(n, 10)``, ``expressions`` ``(n, classes)``, ``blendshapes``
    ``(n, 52)``, ``embedding`` ``(n, d)``, all float32; ``time`` ``(n,)`` float64.
    """

    values: dict[str, Column]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Record]], widths: Widths) -> Columns:
        """A row per face of each (path, record), or one row if it has no face."""
        flat: list[tuple[str, Record, int, Face | None]] = []
        for path, record in rows:
            flat += [(path, record, index, face) for index, face in enumerate(record.faces)]
            if not record.faces:
                flat.append((path, record, -1, None))
        faces = [face for *_, face in flat]

        def numbers(width: int, values: list[Any]) -> npt.NDArray[np.float32]:
            rows = np.full((len(flat), width), np.nan, np.float32)
            for row, value in zip(rows, values):
                if value is not None:
                    row[:] = value
            return rows

        def number(name: str) -> npt.NDArray[np.float32]:
            return numbers(1, [face and getattr(face, name) for face in faces])[:, 0]

        def heads(name: str) -> list[Any]:
            return [(face and list(getattr(face, name).values())) or None for face in faces]

        landmarks = numbers(10, [face and face.landmarks.reshape(-1) for face in faces])
        pose = head_pose(landmarks.reshape(-1, 5, 2))
        columns: dict[str, Column] = {
            "path": [to_text(path) for path, *_ in flat],
            "time": np.array([getattr(record, "time", np.nan) for _, record, *_ in flat]),
            "status": [record.status.value for _, record, *_ in flat],
            "error": [printable(record.error or "") for _, record, *_ in flat],
            "face_index": np.array([index for *_, index, _ in flat], np.int32),
            "track": np.array(
                [-1 if face is None or face.track is None else face.track for face in faces],
                np.int32,
            ),
            "detected": np.array([face is not None and face.detected for face in faces], bool),
            "box": numbers(4, [face and face.box for face in faces]),
            "score": number("score"),
            "landmarks": landmarks,
            "face_size": number("size"),
            "yaw": pose[:, 0],
            "pitch": pose[:, 1],
            "roll": number("roll"),
            "sharpness": number("sharpness"),
            "exposure": number("exposure"),
            "outside": number("outside"),
            "expression": [(face and face.expression) or "" for face in faces],
            "probability": number("probability"),
            "entropy": number("entropy"),
        }
        if widths.expressions:
            columns["expressions"] = numbers(widths.expressions, heads("expressions"))
        if widths.valence_arousal:
            columns |= {"valence": number("valence"), "arousal": number("arousal")}
        if widths.blendshapes:
            columns["blendshapes"] = numbers(widths.blendshapes, heads("blendshapes"))
        if widths.embedding:
            columns[EMBEDDING] = numbers(
                widths.embedding, [face and face.embedding for face in faces]
            )
        return cls(columns)


def describe(
    weights: Weights, options: Options, *, all_faces: bool, embedding: bool = True
) -> dict[str, Any]:
    """The metadata of a table: what made it, and the names of what it lists."""
    settings = {**options.settings(), "all_faces": all_faces, "embedding": embedding}
    return {
        **provenance(weights, settings),
        "columns": VERSION,
        "blendshapes": list(weights.config.blendshapes),
    }


def parse_metadata(text: str) -> dict[str, Any]:
    """The metadata of a table from JSON; anyone may have written it.

    Raises:
        ValueError: if it is none.
    """
    metadata = json.loads(text) if text else {}
    if not isinstance(metadata, dict):
        raise ValueError(f"its metadata is no JSON object, but {text:.60}")
    shapes = {"options": dict, "expressions": list, "blendshapes": list}
    for name, shape in shapes.items():
        if not isinstance(metadata.get(name, shape()), shape):
            raise ValueError(f"its metadata has no usable {name!r}: {metadata[name]!r:.60}")
    return metadata


def spread(columns: Mapping[str, Column], metadata: Mapping[str, Any]) -> dict[str, Column]:
    """A column for each number of a row; see `gather` for the way back."""
    flat: dict[str, Column] = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and values.ndim == 2:
            flat |= zip(flat_names(name, values.shape[1], metadata), values.T)
        else:
            flat[name] = values
    return flat


def flat_names(name: str, width: int, metadata: Mapping[str, Any]) -> list[str]:
    """The names of the columns that a column of lists is spread to."""
    items = metadata.get(name)
    if name in _NAMED and isinstance(items, list) and len(items) == width:
        return [f"{_NAMED[name]}{item}" for item in items]
    return [f"{name}_{index}" for index in range(width)]


def gather(
    flat: Mapping[str, Column], metadata: Mapping[str, Any]
) -> tuple[dict[str, Column], dict[str, Any]]:
    """Columns of one number each as those of `Columns`, where the first of each stood.

    Returns:
        The columns, and the metadata with the names that were read from them if it has none.
    """
    known = dict(metadata)
    groups: dict[str, list[str]] = {}
    for name, prefix in _NAMED.items():
        items = known.get(name)
        if not isinstance(items, list):
            found = [key[len(prefix) :] for key in flat if key.startswith(prefix)]
            items = [item for item in found if isinstance(flat[prefix + item], np.ndarray)]
            if items:
                known[name] = items
        names = [f"{prefix}{item}" for item in items]
        if names and all(isinstance(flat.get(key), np.ndarray) for key in names):
            groups[name] = names
    for key in flat:
        if match := _NUMBERED.fullmatch(key):
            groups.setdefault(match[1], []).append(key)
    group_of = {key: name for name, keys in groups.items() for key in keys}
    columns: dict[str, Column] = {}
    for key, values in flat.items():
        name = group_of.get(key, key)
        if name not in columns and name != key:
            columns[name] = np.stack([np.asarray(flat[k], np.float32) for k in groups[name]], 1)
        elif name == key:
            columns[name] = values
    return {name: typed(name, values) for name, values in columns.items()}, known


def take(values: Column, rows: npt.NDArray[np.int64]) -> Column:
    """Some rows of a column."""
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]


def typed(name: str, values: Column) -> Column:
    """Numbers of a known column in its own dtype, where a format has not kept that."""
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        dtype = _DTYPES.get(name)
        whole = dtype != np.int32 or bool(np.isfinite(values).all())
        return values.astype(dtype) if dtype is not None and whole else values
    return values
