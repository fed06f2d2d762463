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
from itertools import chain, pairwise
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._pillow import PillowSettings
from fever_extract._utils.names import redact
from fever_extract.jobs import _manifest as manifest
from fever_extract.jobs import _plan as plan
from fever_extract.jobs._clips import ALL_EXTENSIONS, chosen, stretches
from fever_extract.jobs._listing import Listing
from fever_extract.jobs._progress import Progress
from fever_extract.jobs._tracks import Tracks, link
from fever_extract.jobs.engine import EngineMaker, Stop, local
from fever_extract.jobs.job import FAILED, Job
from fever_extract.jobs.sources import PassedOver, as_list, find
from fever_extract.jobs.worker import LINKS, Task, Work
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.records import Summary
from fever_extract.tables import shards
from fever_extract.tables.schema import Widths

if TYPE_CHECKING:
    import numpy.typing as npt
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
    inputs = stretches(chosen(find(sources, ALL_EXTENSIONS, passed_over), job), job)
    # Before anything is overwritten.
    first = next(inputs, None)
    if first is None:
        raise job.describe_nothing(passed_over)
    work = Work(
        checkpoint.config.to_json(),
        checkpoint.data,
        checkpoint.source,
        options,
        job.all_faces,
        PillowSettings.of_this_process(),
        job.device,
        embedding=job.embedding,
        fps=job.fps,
        start=job.start,
    )
    manifest.check(output, made_by, overwrite=job.overwrite)
    with _told_if_full(output), manifest.locked(output):
        folder = manifest.prepare(output, made_by, overwrite=job.overwrite)
        previous = folder / manifest.PREVIOUS
        listing = Listing(folder / "inputs.arrow", chain([first], inputs))
        done = shards.Done.scan([*shards.shards_in(output), *sorted(previous.glob("*.old"))])
        planned = plan.make(listing, done, shard_rows, FAILED if job.retry_failed else ())
        if len(done) and not (planned.again or planned.changed or (planned.origin >= 0).any()):
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
        reused = planned.statuses()
        total = reused.total() + int(listing.rows[planned.origin < 0].sum())
        clips = int((listing.numbers == 0).sum())
        with Progress(
            folder / "log.jsonl",
            total,
            reused,
            planned.faces(),
            show=options.show_progress,
            unit="frame" if clips else "image",
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
                            f"{progress.statuses.total()} of {progress.total} images are in "
                            f"{output}; the same command goes on"
                        )
            manifest.clear_previous(folder)
            manifest.write(folder, made_by, **about, finished=True)
            progress.say(event="end")
    return Summary(
        output=output,
        images=progress.statuses.total(),
        faces=progress.faces,
        statuses=dict(progress.statuses),
        failures=progress.failures.listed(),
        seconds=time.monotonic() - start,
        reused=reused.total(),
        removed=len(planned.removed),
        passed_over=passed_over.count,
        passed_over_names=tuple(passed_over.names),
        photographs=int((listing.numbers < 0).sum()),
        frames=planned.frames(listing) + progress.frames,
        clips=clips,
    )


@dataclass
class _Open:
    """A shard in progress: the tables so far, and the number of inputs to come."""

    number: int
    missing: int
    tables: list[pa.Table] = field(default_factory=list)
    saved: int = 0
    tracks: dict[int, Tracks] = field(default_factory=dict)  # of the stretches that are done


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
        self._held: dict[int, pa.Table] = {}
        self._tracks: dict[int, Tracks] = {}
        self._begun = False

    def tasks(self, size: int) -> Iterator[Task]:
        """Yield what is not extracted yet, shard by shard; a stretch of a clip alone."""
        for number, group in enumerate(self._plan.groups):
            if group.file is not None:
                continue
            new = group.start + np.flatnonzero(self._plan.origin[group.start : group.stop] < 0)
            self._open[number] = _Open(number, len(new))
            if not len(new):
                self._write(self._open.pop(number))
            is_clip = self._listing.numbers[new] >= 0
            ends = np.flatnonzero(is_clip | np.append(is_clip[1:], True)) + 1
            for first, end in pairwise([0, *ends.tolist()] if len(new) else []):
                for start in range(first, end, size):
                    indices = new[start : min(start + size, end)]
                    yield list(zip(indices.tolist(), self._listing.read(indices)))

    def collect(self, tables: Iterator[pa.Table | None], save_every: float) -> None:
        """Write each shard when it is complete; partial ones now and then, and at the end."""
        saved = time.monotonic()
        for table in tables:
            self._progress.tick()
            if table is not None:
                self._receive(table)
            if time.monotonic() - saved > save_every:
                self._save()
                saved = time.monotonic()
        self._save()

    def _receive(self, table: pa.Table) -> None:
        if not self._begun:
            self._begun = True
            self._progress.say(event="first")
        index = int(table[shards.INDEX][0].as_py())
        if self._listing.numbers[index] < 0:
            self._add(table.drop_columns([LINKS]), index, inputs=len(table[shards.INDEX].unique()))
            return
        # A stretch waits for the one before it, which says what ids its faces have.
        self._held[index] = table
        while index in self._held and (before := self._tracks_before(index)) is not None:
            self._add_stretch(self._held.pop(index), index, before)
            index += 1

    def _tracks_before(self, index: int) -> Tracks | None:
        if self._listing.numbers[index] == 0:
            return Tracks()
        origin = int(self._plan.origin[index - 1])
        if origin >= 0:
            return Tracks(*self._plan.done.stretches[origin].tracks)
        return self._tracks.pop(index - 1, None)

    def _add_stretch(self, table: pa.Table, index: int, before: Tracks) -> None:
        links = np.array(table[LINKS].to_pylist(), object)
        ids, self._tracks[index] = link("".join(links), before)
        rows = table.filter(links == "").drop_columns([LINKS])
        tracks = [ids.get(track, -1) for track in rows["track"].to_pylist()]
        place = rows.schema.get_field_index("track")
        rows = rows.set_column(place, "track", [np.array(tracks, np.int32)])
        self._add(rows, index, inputs=1, tracks=self._tracks[index])

    def _add(
        self, table: pa.Table, index: int, *, inputs: int, tracks: Tracks | None = None
    ) -> None:
        shard = self._open[int(np.searchsorted(self._starts, index, "right")) - 1]
        shard.tables.append(table)
        if tracks is not None:
            shard.tracks[index] = tracks
        self._progress.add(table, None if tracks is None else int(self._listing.rows[index]))
        shard.missing -= inputs
        if not shard.missing:
            self._write(self._open.pop(shard.number))

    def _save(self) -> None:
        for shard in self._open.values():
            if len(shard.tables) > shard.saved:
                self._write(shard)
                shard.saved = len(shard.tables)

    def _write(self, shard: _Open) -> None:
        group, done = self._plan.groups[shard.number], self._plan.done
        origin = self._plan.origin[group.start : group.stop]
        old = group.start + np.flatnonzero(origin >= 0)
        tables = list(shard.tables)
        tracks = {index: list(vars(one).values()) for index, one in shard.tracks.items()}
        if len(old):
            copied = done.read(self._plan.origin[old])
            places = old[copied[shards.INDEX].to_numpy()]
            tables.append(copied.set_column(0, shards.INDEX, [places]))
            for index in old[self._listing.numbers[old] >= 0].tolist():
                tracks[index] = done.stretches[int(self._plan.origin[index])].tracks
        table = shards.in_order(tables)
        stretches = self._stretches(tracks, table[shards.INDEX].to_numpy())
        path = self._output / shards.shard_name(shard.number)
        shards.write(path, table.drop_columns([shards.INDEX]), self._made_by, stretches)
        self._progress.say(event="shard", file=path.name, rows=len(table), missing=shard.missing)

    def _stretches(
        self, tracks: dict[int, list[Any]], rows: npt.NDArray[np.int64]
    ) -> list[shards.StretchRows]:
        indices = np.array(sorted(tracks), np.int64)
        first, end = (np.searchsorted(rows, indices, side) for side in ("left", "right"))
        inputs = self._listing.read(indices) if len(indices) else []
        return [
            shards.StretchRows(start, stop - start, list(item.key), tracks[index])
            for start, stop, item, index in zip(
                first.tolist(), end.tolist(), inputs, indices.tolist()
            )
        ]


def _tell(progress: Progress, planned: plan.Plan) -> None:
    progress.say(
        event="start",
        pid=os.getpid(),
        new=planned.new,
        changed=planned.changed,
        again=planned.again,
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
