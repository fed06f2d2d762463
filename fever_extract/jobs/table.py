"""Job that writes one table: list, extract, write, sum up."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fever_extract._utils import progress
from fever_extract._utils.names import printable, to_text
from fever_extract.jobs import _clips as clips
from fever_extract.jobs._clips import ALL_EXTENSIONS, is_clip
from fever_extract.jobs._extraction import Extraction
from fever_extract.jobs._progress import Failures
from fever_extract.jobs.crops import Crops
from fever_extract.jobs.job import Job
from fever_extract.jobs.sources import PassedOver, find
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.records import Frame, Status, Summary
from fever_extract.tables.schema import Columns, Widths
from fever_extract.tables.writing import open_table

if TYPE_CHECKING:
    from fever_extract.pipeline import Pipeline

_ROWS_AT_ONCE = 512  # small things that lie between large ones keep memory from being given back


def run(job: Job, checkpoint: Checkpoint, pipeline: Pipeline | None = None) -> Summary:
    """Write one table; see `fever_extract.jobs.run.run`, which checks first."""
    with Extraction(job, checkpoint, pipeline) as extraction:
        return _run(job, checkpoint, extraction)


def _run(job: Job, checkpoint: Checkpoint, extraction: Extraction) -> Summary:
    start = time.monotonic()
    output, options = Path(job.output), job.options
    crops = None
    if job.save_crops is not None:
        crops = Crops(Path(job.save_crops), checkpoint.config.preprocessing)
    passed_over = PassedOver()
    found = find(job.sources, ALL_EXTENSIONS, passed_over)
    inputs = extraction.prepare(clips.chosen(found, job))
    if not inputs:
        raise job.describe_nothing(passed_over)
    statuses: Counter[Status] = Counter()
    failures = Failures()
    faces = frames = 0
    widths = Widths.of(checkpoint.config, job.embedding)
    given = sum(map(is_clip, inputs))
    total = None
    if options.show_progress is not False:
        total = sum(clips.frames(item, job) for item in inputs)
    unit = "frame" if given else "image"
    with (
        open_table(output, job.made_by(checkpoint)) as table,
        progress.bar(show=options.show_progress, total=total, unit=unit) as bar,
    ):
        waiting = []
        for item, record in extraction.records(inputs):
            is_frame = isinstance(record, Frame)
            if crops is not None and not is_frame:
                crops.save(item, record)
            waiting.append((item.name, record))
            statuses[record.status] += 1
            faces += len(record.faces)
            frames += is_frame and record.status.was_decoded
            moment = getattr(record, "time", math.nan)
            failures.note(to_text(item.name), record.status, printable(record.error or ""), moment)
            if len(waiting) >= _ROWS_AT_ONCE:
                table.write(Columns.of(waiting, widths))
                waiting.clear()
            bar.update()
        if waiting:
            table.write(Columns.of(waiting, widths))
        if crops is not None:
            crops.close()
    return Summary(
        output=output,
        images=sum(statuses.values()),
        faces=faces,
        statuses=dict(statuses),
        failures=failures.listed(),
        seconds=time.monotonic() - start,
        passed_over=passed_over.count,
        passed_over_names=tuple(passed_over.names),
        photographs=len(inputs) - given,
        frames=frames,
        clips=given,
    )
