"""Job that writes one table, in this process: list, extract, write, sum up."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fever_extract._utils import progress
from fever_extract._utils.names import printable, to_text
from fever_extract.images import EXTENSIONS
from fever_extract.jobs._clips import CLIP_EXTENSIONS, is_clip, readable
from fever_extract.jobs.crops import Crops
from fever_extract.jobs.job import Job
from fever_extract.jobs.sources import Input, PassedOver, describe_nothing, find
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.options import Options
from fever_extract.records import Frame, Record, Status, Summary
from fever_extract.tables.schema import Columns, Widths
from fever_extract.tables.writing import open_table

if TYPE_CHECKING:
    from fever_extract.pipeline import Pipeline

_ROWS_AT_ONCE = 512  # small things that lie between large ones keep memory from being given back


def run(job: Job, checkpoint: Checkpoint, pipeline: Pipeline | None = None) -> Summary:
    """Write one table in this process; see `fever_extract.jobs.run.run`, which checks first."""
    start = time.monotonic()
    output, options = Path(job.output), job.options
    crops = None
    if job.save_crops is not None:
        crops = Crops(Path(job.save_crops), checkpoint.config.preprocessing)
    passed_over = PassedOver()
    inputs = readable(find(job.sources, EXTENSIONS | CLIP_EXTENSIONS, passed_over))
    if not inputs:
        raise describe_nothing(job.sources, passed_over)
    if pipeline is None:
        from fever_extract.pipeline import Pipeline  # it imports torch

        pipeline = Pipeline(checkpoint, job.device)
    statuses: Counter[Status] = Counter()
    failures: list[tuple[str, Status, str]] = []
    faces = 0
    widths = Widths.of(checkpoint.config, job.embedding)
    # How many frames a clip has shows when it is decoded.
    total = None if any(map(is_clip, inputs)) else len(inputs)
    with (
        open_table(output, job.made_by(checkpoint)) as table,
        progress.bar(show=options.show_progress, total=total, unit="image") as bar,
    ):
        waiting = []
        for item, record in _records(pipeline, inputs, options, job.all_faces):
            if crops is not None and not isinstance(record, Frame):
                crops.save(item, record)
            waiting.append((item.name, record))
            statuses[record.status] += 1
            faces += len(record.faces)
            if record.status is not Status.OK:
                message = printable(record.error or "")
                if isinstance(record, Frame) and record.status.was_searched:
                    message = f"at {record.time:.2f} s: {message}"
                failures.append((to_text(item.name), record.status, message))
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
        failures=tuple(failures),
        seconds=time.monotonic() - start,
        passed_over=passed_over.count,
        passed_over_names=tuple(passed_over.names),
    )


def _records(
    pipeline: Pipeline, inputs: Iterable[Input], options: Options, all_faces: bool
) -> Iterator[tuple[Input, Record]]:
    """Yield a record per photograph and per frame of a clip, in the order of the inputs."""
    for are_clips, group in itertools.groupby(inputs, is_clip):
        if are_clips:
            from fever_extract.video import frames

            for item in group:
                for frame in frames.extract(pipeline, item.path, options, all_faces=all_faces):
                    yield item, frame
            continue
        photographs = list(group)
        records = pipeline.stream(map(Input.load_or_error, photographs), options, all_faces)
        yield from zip(photographs, records)
