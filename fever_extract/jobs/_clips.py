"""Clips among a job's inputs: recognise them, choose them or not, cut them into stretches."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import warnings
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from fever_extract._utils.extras import install
from fever_extract.folders import EXTENSIONS
from fever_extract.jobs import _child
from fever_extract.jobs.sources import Input
from fever_extract.records import ExtractionError
from fever_extract.video.stretch import count, cut

if TYPE_CHECKING:
    from fever_extract.jobs.job import Job

CLIP_EXTENSIONS = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)
"""What counts as a clip in a folder, in any case of letters."""
ALL_EXTENSIONS = EXTENSIONS | CLIP_EXTENSIONS

_PATIENCE = 60.0  # seconds to open a clip

Measured = tuple[float, float] | None
"""How many seconds a clip lasts and its frames a second; None if it can't be opened."""


def is_clip(item: Input) -> bool:
    """Tell whether an input is a clip, by its extension; members of archives never are."""
    return item.offset < 0 and os.path.splitext(item.path)[1].lower() in CLIP_EXTENSIONS


def chosen(inputs: Iterable[Input], job: Job) -> Iterator[Input]:
    """Yield what a job is to do; without PyAV, a warning at the end counts its clips.

    Raises:
        ImportError: at the end, if there are clips only, and PyAV is missing.
    """
    readable = importlib.util.find_spec("av") is not None
    needs = f"PyAV: {install('video')}"
    some, clips, first = False, 0, ""
    for item in inputs:
        if not is_clip(item):
            if not job.only_clips:
                some = True
                yield item
        elif readable and not job.no_clips:
            yield item
        elif not job.no_clips:
            clips, first = clips + 1, first or item.name
    if clips and not some:
        raise ImportError(f"{first} is a clip, which needs {needs}")
    if clips:
        warnings.warn(f"passed over {clips} clips, which need {needs}; first {first}", stacklevel=2)


def stretches(inputs: Iterable[Input], job: Job) -> Iterator[Input]:
    """Yield photographs as they are, and clips as their stretches."""
    with _Gauge() as gauge:
        for item in inputs:
            if not is_clip(item):
                yield item
                continue
            for stretch in cut(gauge.measure(item), job.fps, job.start, job.end):
                yield dataclasses.replace(item, stretch=stretch)


def frames(item: Input, job: Job) -> int:
    """Estimate how many rows an input will have; a clip is opened for that."""
    measured = measure(item) if is_clip(item) else None
    return 1 if measured is None else count(*measured, job.fps, job.start, job.end)


def measure(item: Input) -> Measured:
    """Measure a clip in this process."""
    from fever_extract.video.decoding import Clip

    try:
        with Clip(item.open()) as clip:
            return clip.measure()
    except ExtractionError:  # to be told when it is its turn
        return None


class _Gauge:
    """Measure clips in a process of its own, which a hostile one may end; a context manager.

    A clip that does so is not measured, and is left for a worker to fail at.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> _Gauge:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.wait()
            self._connection.close()
        self._process = None

    def measure(self, item: Input) -> Measured:
        """See `measure`."""
        if self._process is None:
            self._process, self._connection = _child.start(__name__)
        assert self._connection is not None
        try:
            self._connection.send(item)
            if self._connection.poll(_PATIENCE):
                measured: Measured = self._connection.recv()
                return measured
        except (OSError, EOFError):
            pass
        self.__exit__()
        return None


def main() -> None:
    """Measure clips until the pipe is closed."""
    connection, _ = _child.begin()
    try:
        while True:
            item = connection.recv()
            try:
                connection.send(measure(item))
            except MemoryError:
                connection.send(None)
    except (EOFError, OSError):
        return  # the job is gone
