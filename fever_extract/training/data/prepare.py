"""Convert a data set, as its owner distributes it, to the table that training reads.

The table is Parquet, a row a face: ``name``; ``split`` (``train``, ``valid`` or ``test``);
``image``, an encoded square picture of at most 192 pixels a side; ``landmarks``, ten numbers
(x1, y1 to x5, y5) in its pixels, or null where this package's detector finds no face; and those of
the following that the data set has: ``votes_neutral`` to ``votes_not_face`` (people who voted so);
``expression``, a distribution over `fever_extract.models.config.EXPRESSIONS` or null; ``valence``
and ``arousal``, -1 to 1 or null.

Of the Facial Expression Comparison set there is a second table, of its triplets: ``face_1``
to ``face_3`` (names in the first), ``odd`` (0 to 2: the one least like the others), ``type`` and
``split``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fever_extract._utils import progress
from fever_extract._utils.files import replace_atomically
from fever_extract._utils.threads import thread_pool
from fever_extract.detection.detector import Detector
from fever_extract.models.network import pick_device
from fever_extract.records import ExtractionError
from fever_extract.tables import shards
from fever_extract.training.data import readers
from fever_extract.training.data.portrait import Portrait, cut_out
from fever_extract.training.data.readers import fec
from fever_extract.training.data.readers.sample import Sample, tell
from fever_extract.training.data.table import LEFT_OUT, schema, to_table

if TYPE_CHECKING:
    import pyarrow as pa

PART = 1000
"""Samples to a part: so many at most are done again after a kill."""

_FORMAT = 1  # to be raised when the same samples would give other rows
_KEY = b"samples"
_SHOWN = 20


def prepare(
    kind: str,
    folders: Sequence[Path],
    output: Path,
    *,
    classes: int | None = None,
    device: str | None = None,
) -> Path:
    """Write the table of a data set, going on where an earlier call was stopped.

    Until the table is whole, what is done lies in parts in a folder beside it. Pictures that can't
    be used are told of and left out.

    Args:
        kind, folders, classes: as `fever_extract.training.data.readers.read` takes them.
        output: a ``.parquet`` file.
        device: torch device for the detector; the best there is by default.

    Returns:
        ``output``.

    Raises:
        FileNotFoundError: naming what is missing of the data set.
        ValueError: if the data set is not in its owner's format, or none of its pictures can be
            used; or the output has another extension.
    """
    if output.suffix != ".parquet":
        raise ValueError(f"the table is Parquet: {output} must end in .parquet")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent} does not exist; make it, or give another folder")
    samples = readers.read(kind, folders, classes)
    detector = Detector(pick_device(device))
    parts = output.with_name(f"{output.name}.parts")
    parts.mkdir(exist_ok=True)
    paths = _write_parts(samples, detector, parts)
    _join(paths, output)
    if kind == "fec":
        _write_triplets(folders, triplets_path(output))
    shutil.rmtree(parts)
    return output


def triplets_path(faces: Path) -> Path:
    """Where the triplets of a table of faces are: ``a.triplets.parquet`` beside ``a.parquet``."""
    return faces.with_suffix(".triplets.parquet")


def _write_parts(samples: Sequence[Sample], detector: Detector, parts: Path) -> list[Path]:
    """A Parquet file for each 1000 samples; those that are there already stay."""
    columns = schema(samples)
    paths = []
    with (
        thread_pool("prepare") as pool,
        progress.bar(total=len(samples), unit="face", leave=False) as bar,
    ):
        for start in range(0, len(samples), PART):
            chunk = samples[start : start + PART]
            path = parts / shards.shard_name(start // PART)
            key = _digest(chunk, columns)
            if shards.metadata_of(path).get(_KEY) != key:
                found = []
                for answer in pool.map(lambda sample: _attempt(sample, detector), chunk):
                    found.append(answer)
                    bar.update()
                shards.write(path, to_table(chunk, found, columns, {_KEY: key}))
            else:
                bar.update(len(chunk))
            paths.append(path)
    return paths


def _attempt(sample: Sample, detector: Detector) -> Portrait | str:
    """The face, or why there is none."""
    try:
        return cut_out(sample, detector)
    except (ExtractionError, OSError) as error:
        return str(error)


def _digest(chunk: Sequence[Sample], columns: pa.Schema) -> bytes:
    """Of all that a part's rows depend on."""
    digest = hashlib.sha256(f"{_FORMAT} {columns.names}".encode())
    for sample in chunk:
        digest.update(repr(sample).encode("utf-8", "surrogateescape"))
        if isinstance(sample.picture, str) and os.path.isfile(sample.picture):
            about = os.stat(sample.picture)
            digest.update(f"{about.st_size} {about.st_mtime_ns}".encode())
    return digest.hexdigest().encode()


def _join(parts: Sequence[Path], output: Path) -> None:
    """The parts as one table, a row group each, and a word on what is not in it."""
    import pyarrow.parquet as pq

    left_out: dict[str, str] = {}
    rows = 0
    for path in parts:
        about = pq.read_metadata(path)
        rows += about.num_rows
        left_out.update(json.loads(about.metadata[LEFT_OUT]))
    for name, reason in islice(left_out.items(), _SHOWN):
        tell(f"left out: {name}: {reason}")
    if len(left_out) > _SHOWN:
        tell(f"left out: {len(left_out) - _SHOWN} more; the table's metadata has them all")
    if not rows:
        raise ValueError(
            f"none of the {len(left_out)} pictures can be used; the first: "
            + next(iter(left_out.values()), "there is none")
        )
    columns = pq.read_schema(parts[0]).with_metadata({LEFT_OUT: json.dumps(left_out)})
    with (
        replace_atomically(output) as temporary,
        pq.ParquetWriter(temporary, columns, compression="zstd") as writer,
    ):
        for path in parts:
            writer.write_table(pq.read_table(path).cast(columns))
    tell(f"{output}: {rows} faces" + (f"; {len(left_out)} left out" if left_out else ""))


def _write_triplets(folders: Sequence[Path], output: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = pa.schema(
        {
            **dict.fromkeys(["face_1", "face_2", "face_3"], pa.string()),
            "odd": pa.int8(),
            "type": pa.string(),
            "split": pa.string(),
        }
    )
    rest = fec.triplets(folders)
    with (
        replace_atomically(output) as temporary,
        pq.ParquetWriter(temporary, columns, compression="zstd") as writer,
    ):
        while chunk := list(islice(rest, 50 * PART)):
            rows = [(*one.names, one.odd, one.type, one.split) for one in chunk]
            arrays = [pa.array(values, kind) for values, kind in zip(zip(*rows), columns.types)]
            writer.write_table(pa.table(arrays, schema=columns))
