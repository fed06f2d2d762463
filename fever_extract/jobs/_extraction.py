"""Records of one table's inputs: many photographs by worker processes, all else in this one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fever_extract.jobs import _child, machine
from fever_extract.jobs._clips import is_clip
from fever_extract.jobs.job import Job
from fever_extract.jobs.sources import Input
from fever_extract.jobs.supervisor import Supervisor
from fever_extract.jobs.worker import Records, Task
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.records import ExtractionError, Frame, Record

if TYPE_CHECKING:
    from fever_extract.pipeline import Pipeline

MANY = 500
"""Photographs from which on workers do the work. On two cores they save more time than they take
to start only from some 3,000 on; but a decoder that kills or hangs its process then costs one
photograph, not the job."""
MANY_WITHOUT_TORCH = 100
"""The same where this process would have to import torch, too."""

_LEAST = 8  # photographs of a task, and for a worker to be started


class Extraction:
    """Extract photographs and clips, in order; a context manager.

    Clips are extracted in this process: their faces are followed from frame to frame.

    Args:
        job, checkpoint: what to do. With ``workers=1``, all is done in this process.
        pipeline: of the checkpoint, if there is one already.
    """

    def __init__(self, job: Job, checkpoint: Checkpoint, pipeline: Pipeline | None) -> None:
        self._job, self._checkpoint, self._pipeline = job, checkpoint, pipeline
        self._workers = 0
        self._supervisor: Supervisor[Records] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Extraction:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self, inputs: Iterable[Input]) -> list[Input]:
        """List the inputs, and start what will be needed for them as soon as that is known.

        Raises:
            WeightsError, ValueError: if the weights or the device can't be used.
        """
        many = MANY_WITHOUT_TORCH if self._pipeline is None else MANY
        enough = many if self._job.workers is None else 1
        listed, photographs = [], 0
        for item in inputs:
            listed.append(item)
            if is_clip(item):
                continue
            photographs += 1
            if photographs == enough:
                self._supervise()
            if self._supervisor is not None and photographs % _LEAST == 0:
                self._supervisor.start(photographs // _LEAST)
        if listed and self._supervisor is None:
            self._load()
        return listed

    def records(self, inputs: Sequence[Input]) -> Iterator[tuple[Input, Record]]:
        """Yield a record per photograph and per frame of a clip, in order.

        Raises:
            OSError: see `Supervisor.run`.
        """
        first = 0
        for are_clips, group in itertools.groupby(inputs, is_clip):
            items = list(group)
            if are_clips:
                yield from ((item, frame) for item in items for frame in self._frames(item))
            elif self._supervisor is not None:
                answers = self._supervisor.run(self._tasks(items, first))
                yield from zip(items, _in_order(answers, first))
            else:
                images = map(Input.load_or_error, items)
                records = self._load().stream(images, self._job.options, self._job.all_faces)
                yield from zip(items, records)
            first += len(items)

    def _load(self) -> Pipeline:
        if self._pipeline is None:
            from fever_extract.pipeline import Pipeline  # it imports torch

            self._pipeline = Pipeline(self._checkpoint, self._job.device)
        return self._pipeline

    def _supervise(self) -> None:
        """Prepare the workers, unless the job is better done in this process."""
        chosen = self._job.workers
        if chosen == 1 or not _child.can_start():
            return
        work = self._job.work(self._checkpoint, records=True)
        works = machine.spread(work, chosen, machine.threads())
        if chosen is None and (len(works) == 1 or work.pillow.problems):
            return
        work.pillow.warn()
        self._workers = len(works)
        self._supervisor = self._stack.enter_context(Supervisor(works, _crashed))

    def _tasks(self, photographs: Sequence[Input], first: int) -> Iterator[Task]:
        """Split into tasks; the last are small, so that all workers end at about the same time."""
        start = 0
        while start < len(photographs):
            share = (len(photographs) - start) // (2 * self._workers)
            size = min(self._job.options.batch_size, max(share, _LEAST))
            yield list(enumerate(photographs[start : start + size], first + start))
            start += size

    def _frames(self, item: Input) -> Iterator[Frame]:
        from fever_extract.video import frames

        job = self._job
        try:
            yield from frames.extract(
                self._load(),
                item.open(),
                job.options,
                all_faces=job.all_faces,
                fps=job.fps,
                detect_every=job.detect_every,
                start=job.start,
                end=job.end,
            )
        except ExtractionError as error:  # a remote file that can't be opened
            yield Frame(error.status, str(error))


def _crashed(task: Task, record: Record) -> Records:
    return task[0][0], [record]


def _in_order(answers: Iterable[Records | None], place: int) -> Iterator[Record]:
    """Yield the records of all answers in order; the first has that place."""
    waiting: dict[int, list[Record]] = {}
    for answer in answers:
        if answer is not None:
            waiting[answer[0]] = answer[1]
        while place in waiting:
            records = waiting.pop(place)
            place += len(records)
            yield from records
