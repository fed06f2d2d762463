"""Records as JSON or as an Arrow stream."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fever_extract.records import Face, Record
from fever_extract.tables.parquet import to_arrow
from fever_extract.tables.schema import METADATA_KEY, Columns, Widths

if TYPE_CHECKING:
    from collections.abc import Mapping

ARROW = "application/vnd.apache.arrow.stream"
_NUMBERS = "score yaw pitch roll sharpness exposure outside valence arousal entropy".split()


def face_fields(face: Face, *, embedding: bool = True) -> dict[str, Any]:
    """A face as JSON takes it, by the names of a table's columns; what is not known is None."""
    fields: dict[str, Any] = {
        "detected": face.detected,
        "box": [_number(value) for value in face.box.tolist()],
        "landmarks": [[_number(value) for value in point] for point in face.landmarks.tolist()],
        "face_size": _number(face.size),
        "expression": face.expression,
        "probability": _number(face.probability),
        "expressions": {name: _number(value) for name, value in face.expressions.items()},
        "blendshapes": {name: _number(value) for name, value in face.blendshapes.items()},
    }
    if face.track is not None:
        fields["track"] = face.track
    fields |= {name: _number(getattr(face, name)) for name in _NUMBERS}
    if embedding:
        fields["embedding"] = [_number(value) for value in face.embedding.tolist()]
    return fields


def record_fields(name: str, record: Record, *, embedding: bool = True) -> dict[str, Any]:
    """A record as JSON takes it."""
    return {
        "path": name,
        "status": record.status.value,
        "error": record.error,
        "faces": [face_fields(face, embedding=embedding) for face in record.faces],
    }


def to_json(
    names: Sequence[str],
    records: Sequence[Record],
    *,
    embedding: bool,
    weights: Mapping[str, object],
) -> bytes:
    """The answer ``{"weights": ..., "records": [...]}``."""
    rows = [
        record_fields(name, record, embedding=embedding) for name, record in zip(names, records)
    ]
    content = {"weights": dict(weights), "records": rows}
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def to_stream(
    names: Sequence[str],
    records: Sequence[Record],
    *,
    widths: Widths,
    metadata: Mapping[str, object],
) -> bytes:
    """An Arrow stream in the columns of a table, with its metadata.

    Raises:
        ImportError: if pyarrow is missing.
    """
    import pyarrow as pa

    table = to_arrow(Columns.of(zip(names, records), widths))
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _number(value: float | None) -> float | None:
    """Nine digits, which give back any float32; JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.9g}")
