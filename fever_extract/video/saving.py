"""Courses and events as files: long tables, a row per face, step and value.

=======================  ===========================================================
clip                     its name
face                     the face's id; -1 in a row that tells of a problem
time                     where the step begins, in seconds
seconds                  for how long the face is seen in the step
frames                   how many frames with the face begin in it
signal                   ``p_happiness``, ``bs_jawOpen`` and so on
mean, sd                 of the signal, each frame counted for as long as it is shown
status, error            ``ok`` and empty, or what could not be read, or that there is no face
=======================  ===========================================================

What does not exist is empty in csv, null in Parquet.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils import files
from fever_extract._utils.extras import require
from fever_extract._utils.files import exclusive, replace_atomically
from fever_extract._utils.names import printable, to_text
from fever_extract.tables.csv import harmless
from fever_extract.tables.schema import METADATA_KEY
from fever_extract.video.events import Event

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.video.measured import Measured

Rows = Mapping[str, Sequence[Any]]
"""A table's columns, by name."""

EXTENSIONS = (".csv", ".parquet")


def long_columns(course: Measured) -> Rows:
    """A row per face, step and value."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("clip", "face", "time", "seconds", "frames", "signal", "mean", "sd")
    }
    width = len(course.names)
    for face, steps in course.steps.items():
        count = len(steps.index)
        columns["face"] += [face] * (count * width)
        columns["time"] += np.repeat(_times(steps.index, course.step), width).tolist()
        columns["seconds"] += np.repeat(steps.seconds.round(6), width).tolist()
        columns["frames"] += np.repeat(steps.frames, width).tolist()
        columns["signal"] += list(course.names) * count
        columns["mean"] += _rounded(steps.mean)
        columns["sd"] += _rounded(steps.sd)
    columns["clip"] = [course.clip] * len(columns["face"])
    return columns


def wide_columns(course: Measured) -> dict[str, Any]:
    """A row per face and step, with a column for each mean and standard deviation."""
    parts = course.steps.items()

    def joined(name: str, empty: Any) -> Any:
        return np.concatenate([empty, *(getattr(steps, name) for _, steps in parts)])

    none = np.zeros((0, len(course.names)), np.float32)
    mean, sd = joined("mean", none), joined("sd", none)
    faces = [np.full(len(steps.index), face) for face, steps in parts]
    columns: dict[str, Any] = {
        "clip": [course.clip] * len(mean),
        "face": np.concatenate([np.zeros(0, int), *faces]),
        "time": _times(joined("index", np.zeros(0, int)), course.step),
        "seconds": joined("seconds", np.zeros(0)).round(6),
        "frames": joined("frames", np.zeros(0, int)),
    }
    columns |= {name: mean[:, column] for column, name in enumerate(course.names)}
    return columns | {f"{name}_sd": sd[:, column] for column, name in enumerate(course.names)}


def event_columns(clip: str, events: Sequence[Event]) -> Rows:
    """A row per event."""
    fields = [field.name for field in dataclasses.fields(Event)]
    columns = {name: [getattr(event, name) for event in events] for name in fields}
    durations = [event.duration for event in events]
    return {"clip": [clip] * len(events), **columns, "duration": durations}


@contextmanager
def open_courses(output: str | os.PathLike[str]) -> Iterator[Callable[[Measured], None]]:
    """Write courses of any number of clips to one file, which appears when it is whole.

    Args:
        output: a ``.csv`` or ``.parquet`` file.

    Raises:
        ValueError, OSError, ImportError: at once, if it can't be written.
    """
    with _open(output) as write:

        def add(course: Measured) -> None:
            rows = long_columns(course)
            count = len(rows["face"])
            known = {**rows, "status": ["ok"] * count, "error": [""] * count}
            problems = course.problems
            empty: dict[str, Any] = {
                "face": [-1] * len(problems),
                "clip": [course.clip] * len(problems),
                "time": [problem.time for problem in problems],
                "frames": [0] * len(problems),
                "seconds": [0.0] * len(problems),
                "signal": [""] * len(problems),
                "status": [problem.status.value for problem in problems],
                "error": [printable(problem.error or "") for problem in problems],
            }
            nothing = [math.nan] * len(problems)
            about = {**course.about, "step": course.step}
            write({k: [*v, *empty.get(k, nothing)] for k, v in known.items()}, about)

        yield add


@contextmanager
def open_events(
    output: str | os.PathLike[str],
) -> Iterator[Callable[[str, Sequence[Event]], None]]:
    """The same for events: takes a clip's name and its events."""
    with _open(output) as write:
        yield lambda clip, events: write(event_columns(clip, events), {})


def check_output(output: str | os.PathLike[str]) -> Path:
    """Refuse a file that can't be written, before any work is done."""
    path = files.check_output(output, EXTENSIONS)
    if path.suffix.lower() == ".parquet":
        require("pyarrow", extra="parquet", needed_by="Parquet")
    return path


@contextmanager
def _open(output: str | os.PathLike[str]) -> Iterator[Callable[[Rows, Mapping[str, Any]], None]]:
    path = check_output(output)
    with exclusive(path), replace_atomically(path) as temporary:
        if path.suffix.lower() == ".csv":
            with open(temporary, "w", newline="", encoding="utf-8") as lines:
                yield _csv_writer(lines)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        writer: Any = None

        def write(rows: Rows, about: Mapping[str, Any]) -> None:
            nonlocal writer
            cells = {k: list(map(to_text, v)) if k == "clip" else v for k, v in rows.items()}
            table = pa.table({k: pa.array(v, _type(k), from_pandas=True) for k, v in cells.items()})
            if writer is None:
                schema = table.schema.with_metadata({METADATA_KEY: json.dumps(dict(about))})
                # pyarrow itself takes no name that is not UTF-8.
                writer = pq.ParquetWriter(file, schema, compression="zstd")
            writer.write_table(table.replace_schema_metadata(writer.schema.metadata))

        with open(temporary, "wb") as file:
            try:
                yield write
            finally:
                if writer is not None:
                    writer.close()


def _csv_writer(file: Any) -> Callable[[Rows, Mapping[str, Any]], None]:
    lines = csv.writer(file)
    header: list[str] = []

    def write(rows: Rows, _: Mapping[str, Any]) -> None:
        if not header:
            header.extend(rows)
            lines.writerow(header)
        lines.writerows(zip(*(map(_cell, rows[name]) for name in header)))

    return write


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else value
    return harmless(to_text(value)) if isinstance(value, str) else value


def _type(name: str) -> Any:
    import pyarrow as pa

    if name in ("clip", "signal", "name", "status", "error"):
        return pa.string()
    if name == "complete":
        return pa.bool_()
    whole = {"face": pa.int32(), "frames": pa.int32()}
    return whole.get(name, pa.float32() if name in ("mean", "sd", "peak") else pa.float64())


def _times(index: Any, step: float) -> Any:
    return (index * step).round(9)


def _rounded(values: npt.NDArray[np.float32]) -> list[float]:
    """As numbers of six decimals: more would tell of single precision only."""
    numbers: list[float] = values.astype(np.float64).reshape(-1).round(6).tolist()
    return numbers
