"""Worker process: batches of inputs in by a pipe, Arrow tables out.

`fever_extract.jobs.supervisor` starts it and replaces it. It is a program of its own rather than
a `multiprocessing.Process`, which would run its user's script again.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._pillow import PillowSettings
from fever_extract.jobs.sources import Input
from fever_extract.options import Options
from fever_extract.records import Record
from fever_extract.tables.parquet import to_arrow
from fever_extract.tables.schema import Columns, Widths
from fever_extract.tables.shards import INDEX

if TYPE_CHECKING:
    import pyarrow as pa

    from fever_extract.pipeline import Pipeline

Task = list[tuple[int, Input]]
"""Inputs to work on, each with its place in the job."""

READY = "ready"
"""A worker's first answer; any other text says why it can't work, or not on that task."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Work:
    """What a worker needs: weights, options, settings, device.

    Attributes:
        config, weights, source: a checkpoint's config.json, model.safetensors and origin, so
            that every worker has the same, whatever becomes of the files.
        options, all_faces: as in `fever_extract.jobs.run.run`.
        pillow: the settings of the process that began the work.
        device: torch device; None for the default.
        threads: for torch to use; None leaves that to torch.
        embedding: whether rows have their embedding.
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


def process(pipeline: Pipeline, work: Work, task: Task) -> pa.Table:
    """Extract inputs to rows as in `fever_extract.tables.shards`, after a column `INDEX`."""
    images = [item.load_or_error() for _, item in task]
    records = list(pipeline.stream(images, work.options, work.all_faces))
    return to_table(task, records, Widths.of(pipeline.config, work.embedding))


def to_table(task: Task, records: Sequence[Record], widths: Widths) -> pa.Table:
    """Convert inputs and their records to rows."""
    import pyarrow as pa

    rows = [max(1, len(record.faces)) for record in records]
    table = to_arrow(
        Columns.of(((item.name, record) for (_, item), record in zip(task, records)), widths)
    )

    def column(values: list[int]) -> pa.Array:
        return pa.array(np.repeat(np.array(values, np.int64), rows))

    table = table.append_column("file_size", column([item.size for _, item in task]))
    table = table.append_column("mtime_ns", column([item.mtime_ns for _, item in task]))
    return table.add_column(0, INDEX, column([index for index, _ in task]))


def main() -> None:
    """Run tasks until the pipe is closed.

    Arguments of the command line: the number of the pipe, that of a file with the pickled
    `Work`, and the supervisor's process id.
    """
    pipe, file, supervisor = map(int, sys.argv[1:])
    # The supervisor decides when work ends: Ctrl-C in a terminal reaches this process too.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    if sys.platform == "linux":
        # Die with the supervisor, even while a decoder hangs.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            return
    connection = Connection(pipe)
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
                connection.send(process(pipeline, work, task))
            except (MemoryError, RuntimeError, ValueError, TypeError, ArithmeticError) as error:
                traceback.print_exc()
                connection.send(f"{type(error).__name__}: {error}")
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the supervisor is gone
