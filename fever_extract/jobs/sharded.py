"""Job that writes a folder of shards, and resumes where it stopped.

An engine (`fever_extract.jobs.engine`) does the work; here tasks are planned, and what comes of
them is put in order and written.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._pillow import PillowSettings
from fever_extract._utils.names import redact
from fever_extract.images import EXTENSIONS
from fever_extract.jobs import _manifest as manifest
from fever_extract.jobs import _plan as plan
from fever_extract.jobs._clips import CLIP_EXTENSIONS, without_clips
from fever_extract.jobs._listing import Listing
from fever_extract.jobs._progress import Progress
from fever_extract.jobs.engine import EngineMaker, Stop, local
from fever_extract.jobs.job import Job
from fever_extract.jobs.sources import PassedOver, as_list, describe_nothing, find
from fever_extract.jobs.worker import Task, Work
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.records import Summary
from fever_extract.tables import shards
from fever_extract.tables.schema import Widths

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS = 10_000
SAVE_EVERY = 30.0
"""Seconds after which a shard in hand is written as far as it is: what a power cut costs."""

_TOLD = 1000  # names of removed images in the log


def run(
    job: Job,
    checkpoint: Checkpoint,
    engine: EngineMaker | None = None,
    *,
    shard_rows: int = SHARD_ROWS,
    save_every: float = SAVE_EVERY,
) -> Summary:
    """Fill a folder of shards; see `fever_extract.jobs.run.run`, which checks the job.

    Args:
        job: its output is the folder.
        checkpoint: the weights.
        engine: does the work; by default `local`.
        shard_rows: inputs of a shard.
        save_every: seconds; see `SAVE_EVERY`.
    """
    start = time.monotonic()
    sources, output, options = job.sources, Path(job.output), job.options
    made_by = job.made_by(checkpoint)
    passed_over = PassedOver()
    photographs = without_clips(
        find(sources, EXTENSIONS | CLIP_EXTENSIONS, passed_over),
        "which one table takes (a .parquet, .npz or .csv file as output), and shards don't",
    )
    # Before anything is overwritten.
    first = next(photographs, None)
    if first is None:
        raise describe_nothing(sources, passed_over)
    work = Work(
        checkpoint.config.to_json(),
        checkpoint.data,
        checkpoint.source,
        options,
        job.all_faces,
        PillowSettings.of_this_process(),
        job.device,
        embedding=job.embedding,
    )
    manifest.check(output, made_by, overwrite=job.overwrite)
    with _told_if_full(output), manifest.locked(output):
        folder = manifest.prepare(output, made_by, overwrite=job.overwrite)
        previous = folder / manifest.PREVIOUS
        listing = Listing(folder / "inputs.arrow", chain([first], photographs))
        done = shards.Done.scan([*shards.shards_in(output), *sorted(previous.glob("*.old"))])
        planned = plan.make(listing, done, shard_rows)
        if len(done) and (planned.origin < 0).all() and not planned.changed:
            raise ValueError(
                f"output {output} holds {len(done)} images, and none of them is among the "
                f"{len(listing)} that were given; give another folder, or --overwrite "
                "(overwrite=True)"
            )
        about = {
            "sources": [redact(source) for source in as_list(sources)],
            "inputs": len(listing),
            "inputs_sha256": listing.sha256,
        }
        manifest.write(folder, made_by, **about, finished=False)
        plan.arrange(planned, output, previous)
        with Progress(
            folder / "log.jsonl",
            len(listing),
            planned.statuses(),
            planned.faces(),
            options.show_progress,
        ) as progress:
            _tell(progress, planned)
            if passed_over.count:
                progress.say(event="passed over", count=passed_over.count, paths=passed_over.names)
            writer = _Writer(planned, listing, output, made_by, progress)
            if any(group.file is None for group in planned.groups):
                with (
                    _stoppable() as stopped,
                    (engine or local())(
                        work, Widths.of(checkpoint.config, job.embedding), folder, progress.say
                    ) as running,
                ):
                    tasks = writer.tasks(options.batch_size)
                    writer.collect(running.run(tasks, stopped), save_every)
                    if stopped():
                        progress.say(event="stopped")
                        raise KeyboardInterrupt(
                            f"{progress.statuses.total()} of {len(listing)} images are in "
                            f"{output}; the same command goes on"
                        )
            manifest.clear_previous(folder)
            manifest.write(folder, made_by, **about, finished=True)
            progress.say(event="end")
    return Summary(
        output=output,
        images=len(listing),
        faces=progress.faces,
        statuses=dict(progress.statuses),
        failures=tuple(progress.failures),
        seconds=time.monotonic() - start,
        reused=int((planned.origin >= 0).sum()),
        removed=len(planned.removed),
        passed_over=passed_over.count,
        passed_over_names=tuple(passed_over.names),
    )


@dataclass
class _Open:
    """A shard in progress: the tables so far, and the number of inputs to come."""

    number: int
    missing: int
    tables: list[pa.Table] = field(default_factory=list)
    saved: int = 0


class _Writer:
    """Split the plan into tasks; write their results as shards, in order."""

    def __init__(
        self,
        planned: plan.Plan,
        listing: Listing,
        output: Path,
        made_by: dict[str, object],
        progress: Progress,
    ) -> None:
        self._plan, self._listing, self._output = planned, listing, output
        self._made_by, self._progress = made_by, progress
        self._starts = np.array([group.start for group in planned.groups])
        self._open: dict[int, _Open] = {}
        self._begun = False

    def tasks(self, size: int) -> Iterator[Task]:
        """Yield what is not extracted yet, shard by shard."""
        for number, group in enumerate(self._plan.groups):
            if group.file is not None:
                continue
            new = group.start + np.flatnonzero(self._plan.origin[group.start : group.stop] < 0)
            self._open[number] = _Open(number, len(new))
            if not len(new):
                self._write(self._open.pop(number))
            for first in range(0, len(new), size):
                indices = new[first : first + size]
                yield list(zip(indices.tolist(), self._listing.read(indices)))

    def collect(self, tables: Iterator[pa.Table | None], save_every: float) -> None:
        """Write each shard when it is complete; partial ones now and then, and at the end."""
        saved = time.monotonic()
        for table in tables:
            self._progress.tick()
            if table is not None:
                self._add(table)
            if time.monotonic() - saved > save_every:
                self._save()
                saved = time.monotonic()
        self._save()

    def _add(self, table: pa.Table) -> None:
        self._progress.add(table)
        if not self._begun:
            self._begun = True
            self._progress.say(event="first")
        number = int(np.searchsorted(self._starts, table[shards.INDEX][0].as_py(), "right")) - 1
        shard = self._open[number]
        shard.tables.append(table)
        shard.missing -= int((table["face_index"].to_numpy() <= 0).sum())
        if not shard.missing:
            self._write(self._open.pop(number))

    def _save(self) -> None:
        for shard in self._open.values():
            if len(shard.tables) > shard.saved:
                self._write(shard)
                shard.saved = len(shard.tables)

    def _write(self, shard: _Open) -> None:
        group = self._plan.groups[shard.number]
        origin = self._plan.origin[group.start : group.stop]
        old = group.start + np.flatnonzero(origin >= 0)
        tables = list(shard.tables)
        if len(old):
            copied = self._plan.done.read(self._plan.origin[old])
            places = old[copied[shards.INDEX].to_numpy()]
            tables.append(copied.set_column(0, shards.INDEX, [places]))
        table = shards.in_order(tables).drop_columns([shards.INDEX])
        path = self._output / shards.shard_name(shard.number)
        shards.write(path, table, self._made_by)
        self._progress.say(event="shard", file=path.name, rows=len(table), missing=shard.missing)


def _tell(progress: Progress, planned: plan.Plan) -> None:
    progress.say(
        event="start",
        pid=os.getpid(),
        new=planned.new,
        changed=planned.changed,
        reused=int((planned.origin >= 0).sum()),
        removed=len(planned.removed),
    )
    if len(planned.removed):
        table = planned.done.read(planned.removed[:_TOLD])
        paths = list(dict.fromkeys(table["path"].to_pylist()))
        progress.say(event="removed", paths=paths)


@contextmanager
def _stoppable() -> Iterator[Stop]:
    """Let the first SIGINT or SIGTERM ask to stop; a second one interrupts."""
    asked: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread is told of signals
        return
    before = {name: signal.signal(name, handle) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextmanager
def _told_if_full(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"the disk is full; all shards in {output} are whole: make room and run the same again",
        ) from error
