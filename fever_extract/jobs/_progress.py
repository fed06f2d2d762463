"""How a job goes: a bar for people, a log in JSON lines for programs, counts for both."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fever_extract._utils.progress import bar
from fever_extract.records import Status

if TYPE_CHECKING:
    import pyarrow as pa

_EVERY = 10.0  # seconds between two lines of progress
_KEPT_FAILURES = 1000


class Progress:
    """Counts what comes out; use as a context.

    Args:
        log: the file that lines are added to.
        total: inputs of the job.
        statuses, faces: of those that are done already.
        show: the bar; None shows it only on a terminal.

    Attributes:
        statuses, faces: of all rows so far.
        failures: (path, status, message) of the first 1000 inputs of this run without a vector.
    """

    def __init__(
        self, log: Path, total: int, statuses: Counter[Status], faces: int, show: bool | None
    ) -> None:
        self.statuses, self.faces = Counter(statuses), faces
        self.failures: list[tuple[str, Status, str]] = []
        self._log, self._total = log, total
        self._before = statuses.total()
        self._start = self._said = time.monotonic()
        self._bar = bar(show=show, total=total, initial=self._before, unit="image")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, table: pa.Table) -> None:
        """Count rows as `fever_extract.jobs.worker.process` makes them."""
        faces = table["face_index"].to_numpy()
        self.faces += int((faces >= 0).sum())
        inputs = table.select(["path", "status", "error"]).filter((faces <= 0).tolist())
        for path, status, error in zip(*(column.to_pylist() for column in inputs.columns)):
            self.statuses[Status(status)] += 1
            if status != Status.OK and len(self.failures) < _KEPT_FAILURES:
                self.failures.append((path, Status(status), error))
        self._bar.update(len(inputs))

    def tick(self) -> None:
        """Write a line if it is time."""
        if time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            self.say(event="progress")

    def say(self, **fields: Any) -> None:
        """Add a line to the log: these fields, and how far the job is."""
        done = self.statuses.total()
        seconds = time.monotonic() - self._start
        rate = (done - self._before) / seconds if seconds else 0.0
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(seconds, 3),
            **fields,
            "done": done,
            "total": self._total,
            "images_per_second": round(rate, 2),
            "eta_seconds": round((self._total - done) / rate) if rate else None,
            "statuses": {status.value: count for status, count in self.statuses.items()},
        }
        append_line(self._log, line)


def append_line(log: Path, fields: dict[str, Any]) -> None:
    """Add one whole line; a log that can't be written is no reason to stop the work."""
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
