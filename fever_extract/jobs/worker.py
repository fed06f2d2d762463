"""Worker process: batches of inputs in by a pipe, Arrow tables or records out.

`fever_extract.jobs.supervisor` starts it and replaces it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._pillow import PillowSettings
from fever_extract.jobs import _child
from fever_extract.jobs.sources import Input
from fever_extract.options import Options
from fever_extract.records import ExtractionError, Frame, Record, Status
from fever_extract.tables.parquet import to_arrow
from fever_extract.tables.schema import Columns, Widths
from fever_extract.tables.shards import INDEX

if TYPE_CHECKING:
    import pyarrow as pa

    from fever_extract.pipeline import Pipeline
    from fever_extract.video.frames import Links

Task = list[tuple[int, Input]]
"""Inputs to work on, each with its place in the job: photographs, or one stretch of a clip."""

Records = tuple[int, list[Record]]
"""The place of a task's first photograph in the job, and a record per photograph."""

READY = "ready"
"""A worker's first answer; any other text says why it can't work, or not on that task."""

LINKS = "links"
"""A column on its way to a shard: empty, but in a row of its own before those of a stretch, with
`fever_extract.video.frames.Links` as JSON."""

_ALIVE_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Work:
    """What a worker needs: weights, options, settings, device.

    Attributes:
        config, weights, source: a checkpoint's config.json, model.safetensors and origin, so
            that every worker has the same, whatever becomes of the files.
        options, all_faces: as in `fever_extract.jobs.job.Job`.
        pillow: the settings of the process that began the work.
        device: torch device; None for the default.
        threads: for torch to use; None leaves that to torch.
        embedding: whether rows have their embedding.
        fps, start, detect_every: of clips, as in `fever_extract.jobs.job.Job`.
        records: answer with records of photographs, not with rows for a shard.
    """

    config: str
    weights: bytes
    source: str
    options: Options
    all_faces: bool
    pillow: PillowSettings
    device: str | None = None
    threads: int | None = None
    embedding: bool = True
    fps: float | None = None
    start: float | None = None
    detect_every: int = 1
    records: bool = False


def build(work: Work) -> Pipeline:
    """Build the pipeline.

    Raises:
        WeightsError, ValueError: as `fever_extract.pipeline.Pipeline`.
    """
    import torch

    from fever_extract.models import checkpoint
    from fever_extract.pipeline import Pipeline

    work.pillow.apply()
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    return Pipeline(checkpoint.parse(work.config, work.weights, work.source), work.device)


def process(
    pipeline: Pipeline, work: Work, task: Task, alive: Callable[[], None] = lambda: None
) -> pa.Table | Records:
    """Extract inputs to rows as in `fever_extract.tables.shards`, with columns `INDEX` and `LINKS`.

    Or to `Records`, if that is what is asked for.

    Args:
        pipeline, work: what to do it with.
        task: what to do.
        alive: called now and then while a stretch of a clip is worked on.
    """
    widths = Widths.of(pipeline.config, work.embedding)
    (place, item), *_ = task
    if item.stretch is None:
        images = (item.load_or_error() for _, item in task)
        records = list(pipeline.stream(images, work.options, work.all_faces))
        return (place, records) if work.records else to_table(task, records, widths)
    frames, links = _stretch(pipeline, work, item, alive)
    records = [Record(Status.OK), *frames]  # the first carries the links
    texts = [json.dumps(dataclasses.asdict(links)), *[""] * len(frames)]
    return to_table(task * len(records), records, widths, texts)


def _stretch(
    pipeline: Pipeline, work: Work, item: Input, alive: Callable[[], None]
) -> tuple[list[Frame], Links]:
    from fever_extract.video.frames import Links, extract_stretch

    assert item.stretch is not None
    try:
        return extract_stretch(
            pipeline,
            item.open(),
            work.options,
            item.stretch,
            all_faces=work.all_faces,
            fps=work.fps,
            detect_every=work.detect_every,
            origin=work.start or 0.0,
            alive=alive,
        )
    except ExtractionError as error:
        return [Frame(error.status, str(error))], Links()


def to_table(
    task: Task, records: Sequence[Record], widths: Widths, links: Sequence[str] | None = None
) -> pa.Table:
    """Convert inputs and their records to rows; `LINKS` is for each record, by default empty."""
    import pyarrow as pa

    rows = [max(1, len(record.faces)) for record in records]
    table = to_arrow(
        Columns.of(((item.name, record) for (_, item), record in zip(task, records)), widths)
    )

    def column(values: list[int]) -> pa.Array:
        return pa.array(np.repeat(np.array(values, np.int64), rows))

    table = table.append_column("file_size", column([item.size for _, item in task]))
    table = table.append_column("mtime_ns", column([item.mtime_ns for _, item in task]))
    texts = np.repeat(np.array(links or [""] * len(records), object), rows)
    table = table.append_column(LINKS, pa.array(texts, pa.string()))
    return table.add_column(0, INDEX, column([index for index, _ in task]))


def main() -> None:
    """Run tasks until the pipe is closed; a child's only file is the pickled `Work`."""
    connection, (file,) = _child.begin()
    said = time.monotonic()

    def alive() -> None:
        nonlocal said
        if time.monotonic() - said > _ALIVE_EVERY:
            said = time.monotonic()
            connection.send(None)

    try:
        # All workers share the file, so its position is left alone.
        work: Work = pickle.loads(os.pread(file, os.fstat(file).st_size, 0))
        try:
            pipeline = build(work)
        except (OSError, ValueError, ImportError) as error:
            connection.send(f"{error}")
            return
        connection.send(READY)
        while True:
            task: Task = connection.recv()
            try:
                connection.send(process(pipeline, work, task, alive))
            except (MemoryError, RuntimeError, ValueError, TypeError, ArithmeticError) as error:
                traceback.print_exc()
                connection.send(f"{type(error).__name__}: {error}")
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the supervisor is gone
