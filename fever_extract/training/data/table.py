"""Columns of a training table, from samples and their faces."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fever_extract.models.config import EXPRESSIONS
from fever_extract.training.data.portrait import Portrait
from fever_extract.training.data.readers.sample import VOTES, Sample

if TYPE_CHECKING:
    import pyarrow as pa

LEFT_OUT = b"left_out"
"""In the table's metadata, as JSON: the pictures that are not in it, and why."""

VOTE_COLUMNS = [f"votes_{name}" for name in VOTES]


def schema(samples: Sequence[Sample]) -> pa.Schema:
    """The columns of a table that has these samples' kinds of label.

    Lists are not of fixed size: before pyarrow 26, such with missing rows can't be read.
    """
    import pyarrow as pa

    numbers = pa.list_(pa.float32())
    fields = [("name", pa.string()), ("split", pa.string())]
    if any(sample.votes is not None for sample in samples):
        fields += [(name, pa.int8()) for name in VOTE_COLUMNS]
    if any(sample.expression is not None for sample in samples):
        fields += [("expression", numbers)]
    if any(math.isfinite(sample.valence + sample.arousal) for sample in samples):
        fields += [("valence", pa.float32()), ("arousal", pa.float32())]
    return pa.schema([*fields, ("image", pa.binary()), ("landmarks", numbers)])


def to_table(
    samples: Sequence[Sample],
    found: Sequence[Portrait | str],
    columns: pa.Schema,
    metadata: Mapping[bytes, bytes],
) -> pa.Table:
    """The rows of those samples whose face was found, in order.

    Args:
        samples: what was asked for.
        found: for each, its face, or why it is left out.
        columns: of `schema`.
        metadata: what else the table is to carry beside `LEFT_OUT`.
    """
    import pyarrow as pa

    pairs = list(zip(samples, found))
    rows = [_row(sample, face) for sample, face in pairs if isinstance(face, Portrait)]
    left_out = {sample.name: face for sample, face in pairs if isinstance(face, str)}
    table = pa.Table.from_pylist(rows, columns)
    return table.replace_schema_metadata({**metadata, LEFT_OUT: json.dumps(left_out)})


def _row(sample: Sample, face: Portrait) -> dict[str, object]:
    expression = None
    if sample.expression is not None:
        expression = [float(index == sample.expression) for index in range(len(EXPRESSIONS))]
    return {
        "name": sample.name,
        "split": sample.split,
        "image": face.image,
        "landmarks": None if face.landmarks is None else face.landmarks.reshape(-1).tolist(),
        "expression": expression,
        "valence": sample.valence if math.isfinite(sample.valence) else None,
        "arousal": sample.arousal if math.isfinite(sample.arousal) else None,
        **dict(zip(VOTE_COLUMNS, sample.votes or ())),
    }
