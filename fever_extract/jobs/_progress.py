"""Progress bar and JSON-lines log of a job, and what failed in it."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fever_extract._utils.progress import bar
from fever_extract.records import Status

if TYPE_CHECKING:
    import pyarrow as pa

_logger = logging.getLogger(__name__)

_EVERY = 10.0  # seconds between two lines of progress
_KEPT_FAILURES = 1000


class Failures:
    """Collect inputs without an embedding; consecutive frames with one reason are one entry.

    Args:
        most: entries to keep.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._runs: list[_Run] = []
        self._last: dict[str, _Run] = {}

    def note(self, path: str, status: Status, error: str, time: float = math.nan) -> None:
        """Note what became of an image; of a clip all frames, in order, also those that are ok.

        Args:
            path, status, error: as in the table.
            time: of a frame, in seconds; NaN for a photograph.
        """
        run = self._last.pop(path, None) if self._last else None
        if status is Status.OK:
            return
        if math.isnan(time) or not status.was_decoded:
            run, time = None, math.nan  # the message says when, if that is known
        if run is not None and (run.status, run.error) == (status, error):
            run.last, run.count = time, run.count + 1
        elif len(self._runs) < self._most:
            run = _Run(path, status, error, time, time)
            self._runs.append(run)
        if run is not None and not math.isnan(time):
            self._last[path] = run

    def listed(self) -> tuple[tuple[str, Status, str], ...]:
        """List (path, status, message)."""
        return tuple((run.path, run.status, run.message) for run in self._runs)


@dataclass
class _Run:
    path: str
    status: Status
    error: str
    first: float
    last: float
    count: int = 1

    @property
    def message(self) -> str:
        if math.isnan(self.first):
            return self.error
        if self.count == 1:
            return f"at {self.first:.2f} s: {self.error}"
        return f"from {self.first:.2f} to {self.last:.2f} s ({self.count} frames): {self.error}"


class Progress:
    """Count results, show a bar and write the log; a context manager.

    Args:
        log: the file that lines are added to.
        total: images of the job; an estimate, if there are clips.
        statuses, faces: of those that are done already.
        show: the bar; None shows it only on a terminal.
        unit: what the bar counts.

    Attributes:
        statuses, faces: of all rows so far.
        total: as above, corrected by the clips that are done.
        frames: decoded frames of clips in this run.
        failures: the first 1000 inputs of this run without an embedding.
    """

    def __init__(
        self,
        log: Path,
        total: int,
        statuses: Counter[Status],
        faces: int,
        *,
        show: bool | None,
        unit: str = "image",
    ) -> None:
        self.statuses, self.faces, self.total, self.frames = Counter(statuses), faces, total, 0
        self.failures = Failures(_KEPT_FAILURES)
        self._log = log
        self._before = statuses.total()
        self._start = self._said = time.monotonic()
        self._bar = bar(show=show, total=total, initial=self._before, unit=unit)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, table: pa.Table, expected: int | None = None) -> None:
        """Count rows as `fever_extract.tables.shards` has them.

        Args:
            table: of some photographs, or of a stretch of a clip.
            expected: of a stretch, how many frames were counted upon.
        """
        faces = table["face_index"].to_numpy()
        self.faces += int((faces >= 0).sum())
        columns = ["path", "status", "error", "time"]
        images = table.select(columns).filter(faces <= 0)
        for path, text, error, moment in zip(*(column.to_pylist() for column in images.columns)):
            status = Status(text)
            self.statuses[status] += 1
            self.failures.note(path, status, error, moment)
            self.frames += expected is not None and status.was_decoded
        if expected is not None:
            self.total += len(images) - expected
            self._bar.total = self.total
        self._bar.update(len(images))

    def tick(self) -> None:
        """Write a line if it is time."""
        if time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            self.say(event="progress")

    def say(self, **fields: Any) -> None:
        """Add a line to the log, with these fields and the job's progress; and tell `logging`."""
        _logger.info("%s", " ".join(f"{name}={value!r}" for name, value in fields.items()))
        done = self.statuses.total()
        seconds = time.monotonic() - self._start
        rate = (done - self._before) / seconds if seconds else 0.0
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(seconds, 3),
            **fields,
            "done": done,
            "total": self.total,
            "images_per_second": round(rate, 2),
            "eta_seconds": round((self.total - done) / rate) if rate else None,
            "statuses": {status.value: count for status, count in self.statuses.items()},
        }
        append_line(self._log, line)


def append_line(log: Path, fields: dict[str, Any]) -> None:
    """Append one line to a log; errors are ignored, so that a full disk stops no job."""
    try:
        descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            end = os.fstat(descriptor).st_size
            # A line may have been cut short by a full disk.
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            os.write(descriptor, b"\n" * torn + json.dumps(fields).encode() + b"\n")
        finally:
            os.close(descriptor)
    except OSError:
        pass
