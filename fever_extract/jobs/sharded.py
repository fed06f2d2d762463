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
from itertools import chain
from pathlib import Path
from types import FrameType

from fever_extract._utils.names import redact
from fever_extract.jobs import _manifest as manifest
from fever_extract.jobs import _plan as plan
from fever_extract.jobs._clips import ALL_EXTENSIONS, chosen, stretches
from fever_extract.jobs._listing import Listing
from fever_extract.jobs._progress import Progress
from fever_extract.jobs._writer import ShardWriter
from fever_extract.jobs.engine import EngineMaker, Stop, local
from fever_extract.jobs.job import FAILED, Job
from fever_extract.jobs.sources import PassedOver, as_list, find
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.records import Summary
from fever_extract.tables import shards
from fever_extract.tables.schema import Widths

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
    work = job.work(checkpoint)
    work.pillow.warn()
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
            writer = ShardWriter(planned, listing, output, made_by, progress)
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
